"""Arrays that nobody has written, as a GPU's allocator returns memory.

Check mode reports a kernel that reads from them what it has not written before. Of an array from
`empty` a mask says which bytes a kernel has written; what Python writes is seen from the contents,
since they no longer are the pattern that the array was filled with.
"""

import weakref
from typing import Any

import numpy as np

_PATTERN = 0x7FFD5AA5
"""Four bytes that are a NaN as float32 and, twice, as float64."""

_masks: dict[int, tuple[weakref.ref[np.ndarray], np.ndarray]] = {}
"""By the identity of the array that owns the memory: 1 for each byte that no kernel has written."""


def empty(shape: Any, dtype: Any = float, order: Any = "C", **options: Any) -> np.ndarray:
    """Return an array as `numpy.empty` does, whose bytes count as not written."""
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
    owner = _owner(array)
    known = _masks.get(id(owner))
    if known is None or known[0]() is not owner or not array.flags.c_contiguous:
        return None
    mask, flat = known[1], _bytes(owner)
    words = flat.size // 4
    pattern = np.array([_PATTERN], np.uint32)
    still = np.repeat(flat[: 4 * words].view(np.uint32) == pattern, 4)
    mask[: 4 * words] &= still
    mask[4 * words :] &= flat[4 * words :] == pattern.view(np.uint8)[: flat.size % 4]
    start = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    part = mask[start : start + array.nbytes]
    return part if part.any() else None


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
