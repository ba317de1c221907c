"""A group of ranks, and what they can do together. `Group` itself is a group of one."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.distributed.launch import rank_name
from tinygrad_mask.tensor import Tensor


class RankFailedError(RuntimeError):
    """A rank does not answer; the message names it and says what was waited for."""


@dataclass
class CommunicationCounts:
    """What a rank has sent and waited for since the last `reset`.

    `messages` counts collective operations, `sent_bytes` the bytes of the arrays handed to them,
    `waited` the seconds spent in waiting for them.
    """

    messages: int = 0
    sent_bytes: int = 0
    waited: float = 0.0

    def reset(self) -> None:
        """Start again from 0."""
        self.messages, self.sent_bytes, self.waited = 0, 0, 0.0


class Pending:
    """An operation that was begun: `poll` helps it on, `wait` returns when it is done."""

    def __init__(
        self, test: Callable[[], bool] | None = None, wait: Callable[[], None] | None = None
    ) -> None:
        self._test, self._wait = test, wait

    def poll(self) -> bool:
        """Return whether it is done; an operation may advance only when it is asked."""
        return self._test is None or self._test()

    def wait(self) -> None:
        """Wait until it is done."""
        if self._wait is not None:
            self._wait()


class Group:
    """Ranks that work together; this class is the group of a single process.

    `rank` counts from 0 and `size` is the number of ranks; `local_rank` counts those on the same
    machine. Every operation is collective: all ranks call it, in the same order.
    """

    rank = 0
    size = 1
    local_rank = 0

    def __init__(self) -> None:
        self.traffic = CommunicationCounts()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"

    @property
    def name(self) -> str:
        """How this rank is named in messages."""
        return rank_name(self.rank, self.size)

    # --- what subclasses define -------------------------------------------------------------

    def begin_all_reduce(self, array: Array, what: str = "a sum") -> Pending:
        """Begin to replace a contiguous array by its sum over the ranks, in place.

        The array must not be touched until the operation is done. `what` names it in an error.
        """
        return Pending()

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """Return the `value` of rank `root`, any object that can be pickled, on all ranks."""
        return value

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, any objects that can be pickled, in their order."""
        return [value]

    def barrier(self, *, patient: bool = False) -> None:
        """Return when all ranks have called it; a `patient` rank waits for any time."""

    def leave(self, code: int, timeout: float) -> None:
        """End this rank when all have called it, or all of them after `timeout` seconds."""

    def abort(self, code: int) -> None:
        """End all ranks at once with an exit code; nothing follows it."""

    # --- what follows from it ---------------------------------------------------------------

    def all_reduce(self, value: Any, op: str = "sum") -> Any:
        """Return the sum (or `op="mean"`) over the ranks of a tensor, an array or a number.

        The result is of the same kind, and has the same bits on all ranks. The order of summation
        depends on the number of ranks alone.
        """
        if op not in ("sum", "mean"):
            raise ValueError(f"all_reduce: expected op to be 'sum' or 'mean', got {op!r}")
        if isinstance(value, Tensor):
            return value.wrap(self.all_reduce(value.data, op))
        if isinstance(value, int | float):
            return type(value)(self.all_reduce(np.array(value), op))
        total = value.copy(order="C")
        self.begin_all_reduce(total).wait()
        if op == "mean" and self.size > 1:
            total = (total / self.size).astype(total.dtype)
        return total

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """Return the tensor, array or number that rank `root` has; of others it may be anything."""
        if self.size == 1:
            return value
        if isinstance(value, Tensor):
            backend = value.backend
            sent = self.broadcast_object(
                backend.to_host(value.data) if self.rank == root else None, root
            )
            return value if self.rank == root else value.wrap(backend.asarray(sent))
        return self.broadcast_object(value, root)

    def timed_wait(self, pending: Pending) -> None:
        """Wait for an operation and count the time as waited."""
        start = time.perf_counter()
        pending.wait()
        self.traffic.waited += time.perf_counter() - start
