"""The group of all ranks: made once, found by all, and ended together."""

import atexit
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from tinygrad_mask.backends import get_num_threads, set_num_threads
from tinygrad_mask.backends.cpu_kernels import THREADS_VARIABLE
from tinygrad_mask.distributed.group import Group, RankFailedError
from tinygrad_mask.distributed.launch import launched_size, local_size, mark_reported

TIMEOUT = 600.0
"""The seconds after which a rank is said to hang, unless `TINYGRAD_MASK_TIMEOUT` or `init` says
otherwise. A rank that writes a checkpoint or judges photographs is waited for too."""

_PRECEDENCE = 0.5  # seconds by which rank 0 may speak before the others

_world: Group | None = None
_alone: list[Group] = []


def init(*, timeout: float | None = None) -> Group:
    """Join the group of all ranks that `mpiexec` started, and return it.

    A second call returns the same group. A process that was started alone is a group of one, for
    which nothing is loaded. From then on an exception that is not caught ends all ranks.

    Args:
        timeout: the seconds after which a rank that is waited for is said to hang.

    Raises:
        ImportError: if there are several ranks but no mpi4py or MPI library.
        ValueError: if the timeout is not positive.
        RuntimeError: if the MPI library knows of fewer ranks than the launcher, because the two
            are of different MPI implementations.
    """
    global _world
    if timeout is None:
        timeout = _timeout()
    if not timeout > 0:
        raise ValueError(f"init: expected a timeout > 0, got {timeout}")
    if _world is not None:
        return _world
    if launched_size() == 1:
        _world = Group()
        return _world
    from tinygrad_mask.distributed.devices import choose_device
    from tinygrad_mask.distributed.mpi import MPIGroup

    group = MPIGroup(timeout=timeout)
    if group.size != launched_size():
        raise RuntimeError(
            f"distributed: expected {launched_size()} ranks, as the launcher says, got "
            f"{group.size} from the MPI library; use the mpiexec of the library that mpi4py loads"
        )
    choose_device(group.local_rank)
    _share_processors()
    sys.excepthook = _end_all_after
    atexit.register(_wait_for_others)
    _world = group
    return group


def world() -> Group:
    """Return the group of all ranks, which is joined at the first call; see `init`."""
    if _alone:
        return _alone[-1]
    return init() if _world is None else _world


@contextmanager
def alone() -> Iterator[None]:
    """Within it this rank is a group of one: what it trains is its own."""
    _alone.append(Group())
    try:
        yield
    finally:
        _alone.pop()


def rank() -> int:
    """Return this process's number among all ranks, from 0."""
    return world().rank


def size() -> int:
    """Return the number of ranks."""
    return world().size


def all_reduce(value: Any, op: str = "sum") -> Any:
    """Return the sum or mean over all ranks; see `Group.all_reduce`."""
    return world().all_reduce(value, op)


def broadcast(value: Any, root: int = 0) -> Any:
    """Return what rank `root` has; see `Group.broadcast`."""
    return world().broadcast(value, root)


def barrier() -> None:
    """Return when all ranks have called it."""
    world().barrier()


# --- the end ------------------------------------------------------------------------------------


def end_all(message: str, code: int, error: BaseException | None = None) -> None:
    """End all ranks with one line that names this rank and the reason; without others do nothing.

    If several ranks fail in the same way (an option that all refuse), the first of them speaks for
    all. An `error` whose attribute `together` is a number of seconds is one that all ranks raise at
    the same place, such as `InterruptedRunError`: rank 0 may be saving for so long, and the line is
    the message alone. Of any other error with the exit code 1 the traceback is printed too.
    """
    if _world is None or _world.size == 1:
        return
    group = _world
    together = getattr(error, "together", None)
    if together is not None:
        if group.rank == 0:
            print(message, file=sys.__stderr__, flush=True)
        mark_reported()
        group.leave(code, together)
    if group.rank > 0:  # if rank 0 says the same, it ends this one meanwhile
        time.sleep(_PRECEDENCE + 0.05 * min(group.rank, 20))
    if error is not None and code == 1 and not isinstance(error, RankFailedError):
        traceback.print_exception(error, file=sys.__stderr__)
    print(f"{group.name}: {message}", file=sys.__stderr__, flush=True)
    mark_reported()
    group.abort(code)


def quiet() -> None:
    """Have all ranks but the first print nothing; `end_all` still does."""
    if world().rank > 0:
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, for the process's life
        sys.stdout = sys.stderr = nowhere


def _end_all_after(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The hook for exceptions that nobody caught."""
    if issubclass(kind, KeyboardInterrupt):
        end_all("stopped", 130)
    text = " ".join(str(error).split())
    if not hasattr(error, "together") and kind is not RankFailedError:
        text = f"{kind.__name__}: {text}" if text else kind.__name__
    end_all(text, getattr(error, "exit_code", 1), error)


def _share_processors() -> None:
    """Divide the processors among the ranks of this machine, unless the number is given."""
    if not os.environ.keys() & {THREADS_VARIABLE, "OMP_NUM_THREADS"}:
        set_num_threads(max(get_num_threads() // local_size(), 1))


def _wait_for_others() -> None:
    """Wait without using a processor, as MPI's own end would."""
    if _world is not None:
        _world.barrier(patient=True)


def _timeout() -> float:
    given = os.environ.get("TINYGRAD_MASK_TIMEOUT")
    if given is None:
        return TIMEOUT
    try:
        return float(given)
    except ValueError:
        raise ValueError(
            f"TINYGRAD_MASK_TIMEOUT: expected a number of seconds, got {given!r}"
        ) from None
