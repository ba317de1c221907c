"""Arrays and metadata in safetensors files: no code runs when one is read."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from tinygrad_mask.backends import Array
from tinygrad_mask.files import write_file

_DIGEST = "sha256"


def with_digest(
    arrays: Mapping[str, Array], metadata: Mapping[str, str]
) -> tuple[Mapping[str, Array], dict[str, str]]:
    """Return arrays and texts with a checksum of all of them among the texts; see `check_digest`.

    To be stored with `save(path, *with_digest(arrays, metadata))`.
    """
    return arrays, {**metadata, _DIGEST: _digest(arrays, metadata)}


def check_digest(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Raise `ValueError` if arrays or texts are not those that `with_digest` saw.

    Those that were stored without a checksum are taken as they are.
    """
    if _DIGEST in metadata and metadata[_DIGEST] != _digest(arrays, metadata):
        raise ValueError("it is damaged: its content does not have the checksum stored with it")


def _digest(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """SHA-256 over all names, texts, types, shapes and contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(set(metadata) - {_DIGEST}):
        digest.update(repr((name, metadata[name])).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def save(
    path: str | Path,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write arrays by name, such as a `state_dict`, and texts by name.

    The file appears whole or not at all; the same arrays and texts give the same bytes. Raises
    `FileExistsError` if it is there already, unless `overwrite`, and `TypeError` for an array that
    holds no numbers.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in "biuf" or np.asarray(array).dtype.itemsize > 8:
            raise TypeError(f"{path}: expected numbers in {name}, got {np.asarray(array).dtype}")
    # safetensors writes the memory as it lies, which for a view is not the array.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = safetensors.numpy.save(contiguous, dict(metadata) if metadata else None)
    write_file(path, _sorted_texts(content), overwrite=overwrite)


def _sorted_texts(content: bytes) -> bytes:
    """Return a safetensors file with its texts in the order of their names.

    safetensors stores them in an order that changes from call to call. A file is the length of its
    header (8 bytes, little endian), the header (JSON, filled up with blanks to a multiple of 8
    bytes) and the arrays, whose places are counted from the end of the header.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if "__metadata__" not in header:
        return content
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def load(
    path: str | Path, *, max_bytes: int | None = None
) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Raises `OSError` if the file cannot be read or is none (a pipe, a device), and `ValueError` if
    it is something else, or larger than `max_bytes`, before memory is taken for it.
    """
    path = Path(path)
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if max_bytes is not None and status.st_size > max_bytes:
        raise ValueError(
            f"{path}: expected at most {max_bytes >> 20:,} MiB, got {status.st_size >> 20:,} MiB"
        )
    with open(path, "rb"):
        pass  # safetensors would say neither which file nor why
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, dict(file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file: {error}") from None
    except AttributeError as error:  # how safetensors says that NumPy has no such dtype
        raise ValueError(f"{path}: holds a dtype that NumPy does not know ({error})") from None
