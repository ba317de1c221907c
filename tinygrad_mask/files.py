"""Files that appear whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path


def write_file(path: str | Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file by way of a temporary one next to it, so that no reader ever sees half of it.

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
        partial.replace(path)
    except OSError as error:  # names the other file, which is none of the reader's business
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def check_folder(path: str | Path) -> None:
    """Raise `FileNotFoundError` or `NotADirectoryError` unless the folder of a file exists."""
    folder = Path(path).parent
    if folder.is_dir():
        return
    if folder.exists():
        raise NotADirectoryError(f"{path}: {folder} is not a folder")
    raise FileNotFoundError(f"{path}: the folder {folder} does not exist; create it first")
