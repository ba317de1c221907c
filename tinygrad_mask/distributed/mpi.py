"""Groups over MPI, by mpi4py.

Every wait is a loop that asks whether an operation is done, yields the processor and sleeps more
and more, up to a tenth of a millisecond: MPI's own waits keep a processor busy, which another rank
or a kernel's thread may need. If an operation takes longer than the timeout, the ranks that wait
tell each other, and name those of which nothing is heard.
"""

import importlib.util
import os
import pickle
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.distributed.devices import nccl_sums
from tinygrad_mask.distributed.group import Group, Pending, RankFailedError
from tinygrad_mask.distributed.launch import local_rank, rank_name

_YIELDS = 400  # times that a wait yields the processor before it sleeps
_SLEEP = 1e-4  # seconds
_LISTEN = 2.0  # seconds in which ranks that wait hear of each other
_ADVANCE = 1 << 30  # bytes of one message of pickled objects
_UNKNOWN = object()
_TIMED_OUT = 77  # the tag of the message by which ranks hear of each other


def import_mpi() -> Any:
    """Return `mpi4py.MPI`; raises `ImportError` that says what to install.

    The MPI library of the installation that mpi4py is in is used if there is one (the packages
    `mpich` and `openmpi` put it there), otherwise that of the system.
    """
    # Without it, MPI_Abort would say a second time what was said already.
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")
    found = importlib.util.find_spec("mpi4py")
    if found is not None and found.origin is not None and "MPI4PY_LIBMPI" not in os.environ:
        for name in ("libmpi.so.12", "libmpi.so.40"):
            library = Path(found.origin).parents[3] / name
            if library.exists():
                os.environ["MPI4PY_LIBMPI"] = str(library)
                break
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            "distributed: expected mpi4py and an MPI library, got "
            f"{' '.join(str(error).split())}; install 'tinygrad_mask[mpi]'"
        ) from error
    return MPI


class MPIGroup(Group):
    """All ranks of an MPI communicator, by default of all that were started together.

    `timeout` is the number of seconds after which a rank that is waited for is said to hang.
    """

    def __init__(self, communicator: Any = None, *, timeout: float) -> None:
        super().__init__()
        self._mpi = import_mpi()
        world = self._mpi.COMM_WORLD if communicator is None else communicator
        self._data, self._control = world.Dup(), world.Dup()
        self.rank, self.size = self._data.rank, self._data.size
        self.local_rank = local_rank()
        self.timeout = timeout
        self._operations = 0
        self._sums: Any = _UNKNOWN
        self.hosts: list[str] = self.all_gather(socket.gethostname())

    def begin_all_reduce(self, array: Array, what: str = "a sum") -> Pending:
        """See `Group`; an array of a GPU goes through the host's memory unless there is NCCL."""
        if isinstance(array, np.ndarray):
            return self._begin_on_host(array, what)
        if self._sums is _UNKNOWN:
            cupy = sys.modules["cupy"]
            self._sums = nccl_sums(cupy, self.rank, self.size, self.broadcast_object)
        if self._sums is not None:
            self.traffic.messages += 1
            self.traffic.sent_bytes += array.nbytes
            return self._sums.begin(array)
        host = np.ascontiguousarray(array.get())
        pending = self._begin_on_host(host, what)

        def wait() -> None:
            pending.wait()
            array.set(host)

        return Pending(pending.poll, wait)

    def _begin_on_host(self, array: Array, what: str) -> Pending:
        self.traffic.messages += 1
        self.traffic.sent_bytes += array.nbytes
        self._operations += 1
        request = self._data.Iallreduce(self._mpi.IN_PLACE, array)
        return Pending(request.Test, lambda: self._wait(request, what))

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """See `Group`."""
        content = np.frombuffer(pickle.dumps(value) if self.rank == root else b"", np.uint8)
        length = np.array(len(content))
        self._wait(self._data.Ibcast(length, root), "an object's length")
        buffer = content if self.rank == root else np.empty(int(length), np.uint8)
        for start in range(0, int(length), _ADVANCE):
            self._wait(self._data.Ibcast(buffer[start : start + _ADVANCE], root), "an object")
        return value if self.rank == root else pickle.loads(buffer.tobytes())

    def all_gather(self, value: Any) -> list[Any]:
        """See `Group`."""
        return [
            self.broadcast_object(value if self.rank == root else None, root)
            for root in range(self.size)
        ]

    def barrier(self, *, patient: bool = False) -> None:
        """See `Group`."""
        self._wait(self._data.Ibarrier(), "a barrier", timeout=float("inf") if patient else None)

    def leave(self, code: int, timeout: float) -> None:
        """See `Group`."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self._wait(self._data.Ibarrier(), "the end", timeout=timeout)
        except RankFailedError:
            self.abort(code)
        self._mpi.Finalize()
        os._exit(code)

    def abort(self, code: int) -> None:
        """See `Group`."""
        sys.stdout.flush()
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # the reason was said already, in a line of ours
        self._data.Abort(code)

    def _wait(self, request: Any, what: str, timeout: float | None = None) -> None:
        limit = self.timeout if timeout is None else timeout
        yields, start = 0, 0.0
        while not request.Test():
            yields += 1
            if yields < _YIELDS:
                os.sched_yield()
                continue
            if yields == _YIELDS:
                start = time.monotonic()
            elif time.monotonic() - start > limit:
                self._raise_for_silent(request, what, limit)
                return
            time.sleep(_SLEEP)

    def _raise_for_silent(self, request: Any, what: str, limit: float) -> None:
        """Ask the other ranks whether they wait too; raise for those of which nothing is heard."""
        mine, any_tag = np.array([self._operations]), _TIMED_OUT
        others = [rank for rank in range(self.size) if rank != self.rank]
        sent = [self._control.Isend(mine, rank, any_tag) for rank in others]
        heard = {self.rank}
        end = time.monotonic() + _LISTEN
        while time.monotonic() < end:
            if request.Test():
                return
            status = self._mpi.Status()
            if self._control.Iprobe(self._mpi.ANY_SOURCE, any_tag, status):
                source = status.Get_source()
                self._control.Recv(np.empty_like(mine), source, any_tag)
                heard.add(source)
            else:
                time.sleep(_SLEEP)
        silent = [rank for rank in range(self.size) if rank not in heard]
        names = ", ".join(rank_name(r, self.size, self.hosts[r]) for r in silent) or "no rank"
        del sent
        raise RankFailedError(
            f"{names} hangs: expected {what} within {limit:g} s, got nothing; "
            "TINYGRAD_MASK_TIMEOUT=SECONDS allows for more"
        )
