"""Files that appear whole or not at all, also if the machine loses power while they are written."""

import os
import re
from contextlib import suppress
from pathlib import Path

_PARTIAL = re.compile(r"\..+\.(\d+)\.partial")
"""The name of the temporary file of a process, by its id."""


def write_file(path: str | Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file by way of a temporary one next to it, so that no reader ever sees half of it.

    The content is on the disk before the file has its name, and the name before this returns: a
    file that replaces another is the old one or the new one after a power failure as well.

    Raises `FileExistsError` if there is one already, unless `overwrite`, and `OSError`, which names
    `path`, if writing fails (a full disk, say); what was there before then stays as it was.
    """
    path = Path(path)
    check_folder(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already and is not overwritten")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _flush_folder(path.parent)
    except OSError as error:  # names the other file, which is none of the reader's business
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can (not on Windows)."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def encode(text: str) -> bytes:
    """Return a text as UTF-8.

    What is no text in it, from a file's name in another encoding, becomes escapes, which JSON reads
    back as they were.
    """
    return text.encode("utf-8", "backslashreplace")


def is_partial(path: Path) -> bool:
    """Whether a file is a temporary one of `write_file`, left behind if its process was killed."""
    return _PARTIAL.fullmatch(path.name) is not None


def remove_partials(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    For a folder that no other process writes into at the same time.
    """
    for path in folder.iterdir():
        if is_partial(path):
            path.unlink(missing_ok=True)


def check_folder(path: str | Path) -> None:
    """Raise `FileNotFoundError` or `NotADirectoryError` unless the folder of a file exists."""
    folder = Path(path).parent
    if folder.is_dir():
        return
    if folder.exists():
        raise NotADirectoryError(f"{path}: {folder} is not a folder")
    raise FileNotFoundError(f"{path}: the folder {folder} does not exist; create it first")
