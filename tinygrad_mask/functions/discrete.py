"""Functions whose result is a position or a truth value, and so has no gradient."""

from typing import TYPE_CHECKING, Any

from tinygrad_mask.autograd import array_of
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


def bitwise(name: str, x: "Tensor", y: "Tensor | Array | int") -> "Tensor":
    """Return `and`, `or` or `xor` of the bits of integers, or of booleans; `name` is bitwise_...

    Raises `TypeError` for floats and for two dtypes.
    """
    operand: Any = y
    if not isinstance(y, bool | int):
        operand = array_of(y, x.backend, name)
    for dtype in (x.dtype, getattr(operand, "dtype", x.dtype)):
        if dtype.kind not in "biu":
            raise TypeError(f"{name}: expected booleans or integers, got dtype {dtype}")
        if dtype != x.dtype:
            raise TypeError(f"{name}: expected tensors of one dtype, got {x.dtype} and {dtype}")
    if isinstance(operand, bool | int):
        # A number must fit the dtype, so that the result has it as well.
        if x.dtype == bool and not isinstance(operand, bool):
            raise TypeError(f"{name}: expected a boolean for a tensor of dtype bool, got {operand}")
        operand = x.backend.xp.asarray(operand, dtype=x.dtype)
    check_broadcast(name, x, operand)
    return x.wrap(x.backend.xp.asarray(getattr(x.backend.xp, name)(x.data, operand)))


def invert(x: "Tensor") -> "Tensor":
    """Return the negation of booleans, or the complement of the bits of integers."""
    if x.dtype.kind not in "biu":
        raise TypeError(f"invert: expected booleans or integers, got dtype {x.dtype}")
    return x.wrap(x.backend.xp.asarray(~x.data))
