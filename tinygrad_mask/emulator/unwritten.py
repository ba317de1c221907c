"""Arrays that nobody has written, as a GPU's allocator returns memory.

Check mode reports a kernel that reads from them what it has not written before. Of an array from
`empty` a mask says which bytes a kernel has written; what Python writes is seen from the contents,
since they no longer are the pattern that the array was filled with.
"""

import math
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_mask.emulator.host_memory import check_memory

_PATTERN = 0x7FFD5AA5
"""Four bytes that are a NaN as float32 and, twice, as float64."""

_masks: dict[int, tuple[weakref.ref[np.ndarray], np.ndarray]] = {}
"""By the identity of the array that owns the memory: 1 for each byte that no kernel has written."""


def empty(shape: Any, dtype: Any = float, order: Any = "C", **options: Any) -> np.ndarray:
    """Return an array as `numpy.empty` does, whose bytes count as not written.

    Raises `EmulatorError` if there is not enough memory to fill it and to remember its bytes.
    """
    sizes = shape if isinstance(shape, Iterable) else (shape,)
    check_memory("empty", 2 * math.prod(sizes) * np.dtype(dtype).itemsize)
    array = np.empty(shape, dtype, order, **options)
    owner = _owner(array)
    flat = _bytes(owner)
    words = flat[: flat.size // 4 * 4].view(np.uint32)
    words[...] = _PATTERN
    flat[words.nbytes :] = np.array([_PATTERN], np.uint32).view(np.uint8)[: flat.size % 4]
    key = id(owner)
    _masks[key] = (
        weakref.ref(owner, lambda _: _masks.pop(key, None)),
        np.ones(owner.nbytes, np.uint8),
    )
    return array


def empty_like(prototype: Any, dtype: Any = None, **options: Any) -> np.ndarray:
    """Return an array of another's shape and dtype whose bytes count as not written."""
    prototype = np.asarray(prototype)
    return empty(options.pop("shape", prototype.shape), dtype or prototype.dtype)


def mask_of(array: np.ndarray) -> np.ndarray | None:
    """Return the mask of an array's bytes: 1 where nobody has written; None if all are written.

    What is written into the mask is remembered for the array.
    """
    if not _masks:
        return None
    part = _part(array)
    if part is None:
        return None
    owner = _owner(array)
    mask, flat = _masks[id(owner)][1], _bytes(owner)
    words = flat.size // 4
    pattern = np.array([_PATTERN], np.uint32)
    still = np.repeat(flat[: 4 * words].view(np.uint32) == pattern, 4)
    mask[: 4 * words] &= still
    mask[4 * words :] &= flat[4 * words :] == pattern.view(np.uint8)[: flat.size % 4]
    return part if part.any() else None


def snapshot(array: np.ndarray) -> np.ndarray | None:
    """Return a copy of an array's mask, for `restore`; None if it has none."""
    part = _part(array)
    return None if part is None else part.copy()


def restore(array: np.ndarray, mask: np.ndarray | None) -> None:
    """Give an array the mask that it had when its contents were what they are again."""
    part = _part(array)
    if part is not None and mask is not None:
        part[:] = mask


def _part(array: np.ndarray) -> np.ndarray | None:
    """Return an array's part of the mask of the memory that it is in; None if there is none."""
    owner = _owner(array)
    known = _masks.get(id(owner))
    if known is None or known[0]() is not owner or not array.flags.c_contiguous:
        return None
    start = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    return known[1][start : start + array.nbytes]


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, order="A").view(np.uint8)


class TrackingNumpy:
    """NumPy, with `empty` and `empty_like` that return arrays which count as not written."""

    empty = staticmethod(empty)
    empty_like = staticmethod(empty_like)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)
