"""A lock on a run folder: two processes never write the same run."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from tinygrad_mask.masks.errors import UsageError

LOCK = ".lock"
"""The file that is locked; it holds the id of the process that works in the folder."""

logger = logging.getLogger("tinygrad_mask")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within it no other process can lock the folder.

    The lock is the operating system's, on an open file: it ends with the process, however that
    ends, so that a lock file left behind by a killed process does not matter.

    Raises `UsageError` if another process has the lock, or if the file cannot be written.
    """
    path = folder / LOCK
    file = _acquire(folder, path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        file.close()


def _acquire(folder: Path, path: Path) -> TextIO:
    while True:
        try:
            file = path.open("a+", encoding="ascii")
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written to ({error.strerror})") from error
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            process = file.read(20).strip()
            file.close()
            raise UsageError(
                f"{folder}: another process works in this folder"
                f"{f', {process}' if process.isdigit() else ''}; wait for it, or stop it"
            ) from None
        except OSError as error:  # some network file systems know no locks
            logger.warning(
                "%s: cannot be locked (%s); do not start a second run in it", folder, error.strerror
            )
        # The process that had the lock may have removed the file between opening and locking.
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    with suppress(OSError):  # a full disk: the lock holds all the same
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


if sys.platform == "win32":
    import msvcrt

    def _lock(file: TextIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
