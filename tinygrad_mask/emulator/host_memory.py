"""How much memory the host has left: check mode copies arrays, and refuses those too large."""

import contextlib
import os
import re
from pathlib import Path

from tinygrad_mask.emulator.errors import EmulatorError


def available_memory() -> int:
    """Return how many bytes of memory the process may still take."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(match[1]) * 1024 if match else free
    with contextlib.suppress(OSError, ValueError):  # a container's own limit, if it has one
        folder = Path("/sys/fs/cgroup")
        limit = int((folder / "memory.max").read_text())
        free = min(free, limit - int((folder / "memory.current").read_text()))
    return free


def check_memory(what: str, size: int) -> None:
    """Raise `EmulatorError` if so many bytes are more than the process may still take."""
    if size < 1 << 28:  # any host has that; looking takes longer than a small launch
        return
    available = available_memory()
    if size > available:
        raise EmulatorError(
            f"{what}: expected arrays that can be checked in {available / 2**30:.1f} GiB of free "
            f"memory, got some that take {size / 2**30:.1f} GiB; use smaller ones"
        )
