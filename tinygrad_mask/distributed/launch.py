"""What `mpiexec` (or `srun`) says about the ranks that it starts, and the supervisor of a rank.

Nothing here needs MPI: a process asks whether it is one of several before it loads any library.
"""

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
_LOCAL_RANKS = (
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
)
_SUPERVISED = "TINYGRAD_MASK_SUPERVISED"
_PR_SET_PDEATHSIG = 1
_CLEANING_UP = 0.3  # seconds in which a launcher that kills all ranks has killed the supervisor too

_reported: int | None = None  # where a supervised rank says that its end needs no comment


def launched_size() -> int:
    """Return how many ranks were started together; 1 for a process that was started alone."""
    size = _first(_SIZES)
    if size is None and "PMIX_RANK" in os.environ:  # srun --mpi=pmix
        size = _first(("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"))
    return size or 1


def launched_rank() -> int:
    """Return this process's number among them, from 0."""
    return (_first(_RANKS) or 0) if launched_size() > 1 else 0


def local_rank() -> int:
    """Return this process's number among those on the same machine, from 0."""
    return _first(_LOCAL_RANKS) or 0


def local_size() -> int:
    """Return how many of the ranks are on this machine."""
    return max(_first(("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")) or 1, 1)


def rank_name(rank: int, size: int, host: str | None = None) -> str:
    """Return how a rank is named in messages: `rank 1 of 4 (host)`."""
    return f"rank {rank} of {size} ({host or socket.gethostname()})"


def _first(names: tuple[str, ...]) -> int | None:
    for name in names:
        value = os.environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return None


# --- the supervisor -----------------------------------------------------------------------------


def supervised(run: Callable[[], int]) -> int:
    """Call `run`, in a process of its own if this is one of several ranks, and return its code.

    The process that the launcher started waits for it: if the rank is killed or ends without a
    word, it says which and how, and its exit code makes the launcher end all others. It must be
    called before any threads are started. A signal to stop is passed on.
    """
    if launched_size() < 2 or not hasattr(os, "fork") or _SUPERVISED in os.environ:
        return run()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        global _reported
        os.environ[_SUPERVISED] = str(os.getppid())
        os.setpgid(0, 0)  # the supervisor passes signals on: they must not arrive twice
        _end_with_parent()
        os.close(reading)
        _reported = writing
        code = run()
        mark_reported()
        return code
    os.close(writing)
    try:
        os._exit(_wait_for(child, reading))
    except BaseException:
        os._exit(1)


def mark_reported() -> None:
    """Tell the supervisor that whatever exit code follows has been explained."""
    global _reported
    if _reported is not None:
        os.write(_reported, b"x")
        os.close(_reported)
        _reported = None


def _wait_for(child: int, reading: int) -> int:
    def pass_on(number: int, frame: Any) -> None:
        os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    who = rank_name(launched_rank(), launched_size())
    os.set_blocking(reading, False)
    try:
        reported = bool(os.read(reading, 1))
    except BlockingIOError:  # a process that it started holds the other end
        reported = False
    if status and not reported:
        time.sleep(_CLEANING_UP)
    if os.WIFSIGNALED(status):
        killer = os.WTERMSIG(status)
        name = signal.Signals(killer).name if killer in set(signal.Signals) else f"signal {killer}"
        if not reported:
            print(f"{who}: killed by {name}; all ranks end", file=sys.stderr, flush=True)
        return 128 + killer
    code = os.waitstatus_to_exitcode(status)
    if code and not reported:
        print(f"{who}: ended with exit code {code}; all ranks end", file=sys.stderr, flush=True)
    return code


def _end_with_parent() -> None:
    """Have the system (Linux) kill this process when its supervisor is killed."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):  # another system
        return
