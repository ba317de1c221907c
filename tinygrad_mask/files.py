"""Files that appear whole or not at all."""

import os
from pathlib import Path


def write_file(path: str | Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file by way of another beside it, so that no reader ever sees half of it.

    Raises `FileExistsError` where there is one already, unless `overwrite`, and `OSError` where
    writing fails (a full disk, say); what was there before then stays as it was.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already and is not overwritten")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
