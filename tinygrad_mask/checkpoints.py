"""`save` and `load`: state dicts, tensors and nested checkpoints in one safetensors file.

    tg.save(model.state_dict(), "model.safetensors")
    model.load_state_dict(tg.load("model.safetensors"))

    tg.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path)

A dictionary of arrays becomes a plain safetensors file, one entry per array, that other libraries
read. Everything else that is stored has its structure, as JSON, in the file's metadata. No code
runs when a file is read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_mask import serialization
from tinygrad_mask.backends import Array
from tinygrad_mask.keywords import checks_keywords
from tinygrad_mask.nn.module import Module
from tinygrad_mask.tensor import Tensor

_STRUCTURE = "tinygrad_mask structure 1"


@checks_keywords
def save(obj: Any, path: str | Path, *, overwrite: bool = True) -> None:
    """Write an object to a file, which appears whole or not at all.

    Args:
        obj: a state dict, a tensor or an array, or a dictionary, list or tuple of these and of
            numbers, strings, booleans and None, nested as deep as wanted. Keys are strings. A
            `Module` is saved as its `state_dict()`.
        path: the file.
        overwrite: whether to replace a file that exists, as `torch.save` does.

    Raises:
        TypeError: for anything else in `obj`, naming where it is; also if the arguments are in the
            wrong order.
        FileExistsError: if the file exists, unless `overwrite`.
        OSError: if the file cannot be written.
    """
    if not isinstance(path, str | Path):
        raise TypeError(
            f"save: expected save(obj, path), got a {type(path).__name__} for path; "
            "the object comes first"
        )
    if isinstance(obj, Module):
        obj = obj.state_dict()
    arrays: dict[str, Array] = {}
    structure = _encode(obj, "", arrays)
    metadata = None if _is_plain(obj) else {_STRUCTURE: json.dumps(structure)}
    serialization.save(path, arrays, metadata, overwrite=overwrite)


@checks_keywords
def load(path: str | Path) -> Any:
    """Return the object that `save` wrote, with NumPy arrays and, on the CPU, tensors as they were.

    Any other safetensors file gives a dictionary of its arrays.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not a safetensors file.
    """
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":  # the ZIP archive of torch.save
            raise ValueError(
                f"{path}: expected a safetensors file, got a PyTorch checkpoint; load it in "
                "PyTorch and hand its state_dict to tinygrad_mask.convert.from_torch"
            )
    arrays, metadata = serialization.load(path)
    if _STRUCTURE not in metadata:
        return arrays
    try:
        return _decode(json.loads(metadata[_STRUCTURE]), arrays)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its structure cannot be read ({error!r})") from error


def _is_plain(obj: Any) -> bool:
    """Whether an object is a dictionary of arrays, which needs no further description."""
    return isinstance(obj, Mapping) and all(
        isinstance(value, np.ndarray | np.generic) and name not in ("", "__metadata__")
        for name, value in obj.items()
    )


def _encode(obj: Any, name: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """Return the structure of an object, and put its arrays into `arrays`."""
    if isinstance(obj, Tensor):
        return {"tensor": _add(name, obj.numpy(), arrays)}
    if isinstance(obj, np.ndarray | np.generic):
        return {"array": _add(name, np.asarray(obj), arrays)}
    if obj is None or isinstance(obj, bool | int | float | str):
        return {"value": obj}
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str):
                raise TypeError(
                    f"save: expected strings as keys, got {key!r}{_place(name)}; use str({key!r})"
                )
        return {"dict": {k: _encode(v, _below(name, k), arrays) for k, v in obj.items()}}
    if isinstance(obj, list | tuple):
        kind = "list" if isinstance(obj, list) else "tuple"
        return {kind: [_encode(v, _below(name, str(k)), arrays) for k, v in enumerate(obj)]}
    raise TypeError(
        "save: expected arrays, tensors, numbers, strings, or dictionaries, lists or tuples of "
        f"them, got {type(obj).__name__}{_place(name)}"
    )


def _add(name: str, array: Array, arrays: dict[str, Array]) -> str:
    """Store an array under a name that is free, and return it: `a.b` may stand for two places."""
    free, number = name or "array", 1
    while free in arrays or free == "__metadata__":
        number += 1
        free = f"{name} {number}"
    arrays[free] = array
    return free


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _place(name: str) -> str:
    return f" at {name}" if name else ""


def _decode(structure: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    [(kind, content)] = structure.items()
    if kind == "tensor":
        return Tensor.from_array(arrays[content])
    if kind == "array":
        return arrays[content]
    if kind == "value":
        return content
    if kind == "dict":
        return {key: _decode(value, arrays) for key, value in content.items()}
    parts = [_decode(value, arrays) for value in content]
    return {"list": list, "tuple": tuple}[kind](parts)
