"""Functions whose result is a position or a truth value, and so has no gradient."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Variable, array_of, mixed_dtypes, number_for
from tinygrad_mask.functions.elementwise import check_broadcast
from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.reduction import Axis, normalise_axes, single_axis

if TYPE_CHECKING:
    from tinygrad_mask.backends import Array
    from tinygrad_mask.tensor import Tensor


@accepts_dim
def argmax(x: "Tensor", axis: int | None = None, keepdims: bool = False) -> "Tensor":
    """Return the position of the first maximum along `axis`, int64.

    Without `axis` it is the position in reading order. Raises `ValueError` if there is no element.
    """
    return _position("argmax", x, axis, keepdims)


@accepts_dim
def argmin(x: "Tensor", axis: int | None = None, keepdims: bool = False) -> "Tensor":
    """Return the position of the first minimum along `axis`, int64; see `argmax`."""
    return _position("argmin", x, axis, keepdims)


def _position(name: str, x: "Tensor", axis: int | None, keepdims: bool) -> "Tensor":
    along = None if axis is None else single_axis(name, axis, x.ndim)
    if (x.size if along is None else x.shape[along]) == 0:
        raise ValueError(f"{name}: expected at least one element, got shape {x.shape}")
    found = x.backend.xp.asarray(getattr(x.backend.xp, name)(x.data, axis=along))
    if keepdims:
        found = found.reshape(tuple(1 if along in (None, k) else n for k, n in enumerate(x.shape)))
    return x.wrap(found)


@accepts_dim
def any(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return whether some element over `axis` is not 0; False for no elements."""
    axes = normalise_axes("any", axis, x.ndim)
    return x.wrap(x.backend.xp.asarray(x.data.astype(bool).any(axis=axes, keepdims=keepdims)))


@accepts_dim
def all(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return whether no element over `axis` is 0; True for no elements."""
    axes = normalise_axes("all", axis, x.ndim)
    return x.wrap(x.backend.xp.asarray(x.data.astype(bool).all(axis=axes, keepdims=keepdims)))


def bitwise_and(x: "Tensor", y: "Tensor | Array | int") -> "Tensor":
    """Return which booleans are both true, or the common bits of integers.

    Raises `TypeError` for floats and for two dtypes.
    """
    return _bitwise("bitwise_and", x, y)


def bitwise_or(x: "Tensor", y: "Tensor | Array | int") -> "Tensor":
    """Return where either boolean is true, or the bits of either integer; see `bitwise_and`."""
    return _bitwise("bitwise_or", x, y)


def bitwise_xor(x: "Tensor", y: "Tensor | Array | int") -> "Tensor":
    """Return where booleans, or the bits of integers, differ; see `bitwise_and`."""
    return _bitwise("bitwise_xor", x, y)


def _bitwise(name: str, x: "Tensor", y: "Tensor | Array | int") -> "Tensor":
    if isinstance(y, bool | int):
        if x.dtype.kind == "b" and not isinstance(y, bool):
            raise TypeError(f"{name}: expected a boolean for a tensor of dtype bool, got {y}")
        operand: Any = np.asarray(number_for(name, y, x.dtype), dtype=x.dtype)
    else:
        operand = y if isinstance(y, Variable | list | tuple) else np.asarray(y)
    array = array_of(operand, x.backend, name, x.dtype if x.dtype.kind in "iu" else None)
    for dtype in (x.dtype, array.dtype):
        if dtype.kind not in "biu":
            raise TypeError(f"{name}: expected booleans or integers, got dtype {dtype}")
    if array.dtype != x.dtype:
        raise TypeError(mixed_dtypes(name, x.dtype, array.dtype))
    check_broadcast(name, x, array)
    return x.wrap(x.backend.xp.asarray(getattr(x.backend.xp, name)(x.data, array)))


def invert(x: "Tensor") -> "Tensor":
    """Return the negation of booleans, or the complement of the bits of integers."""
    if x.dtype.kind not in "biu":
        raise TypeError(f"invert: expected booleans or integers, got dtype {x.dtype}")
    return x.wrap(x.backend.xp.asarray(~x.data))
