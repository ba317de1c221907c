"""Norms of vectors, and vectors of norm 1."""

import math
from typing import TYPE_CHECKING, Any

from tinygrad_mask.functions.elementwise import abs, maximum, sqrt, where
from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.reduction import Axis, max, normalise_axes, sum
from tinygrad_mask.functions.shape import reshape

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


@accepts_dim
def norm(x: "Tensor", p: Any = 2, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return the p-norm over `axis`, all elements as one vector if that is None.

    `p` is 2 (also 'fro' or None), 1 or infinity. The 2-norm neither overflows nor underflows
    before its result does; its gradient at the zero vector is 0. Raises `ValueError` for another p.
    """
    if x.dtype.kind != "f":
        raise TypeError(f"norm: expected a floating dtype, got {x.dtype}; convert with astype()")
    axes = normalise_axes("norm", axis, x.ndim)
    if p == 1:
        return sum(abs(x), axes, keepdims)
    if p == math.inf:
        return max(abs(x), axes, keepdims)
    if p not in (2, "fro", None):
        raise ValueError(f"norm: expected p to be 1, 2, 'fro' or infinity, got {p!r}")
    scale = _largest(x, axes)
    total = sum((x / scale) ** 2, axes, keepdims=True)
    zero = total.data == 0
    length = where(zero, 0.0, sqrt(where(zero, 1.0, total))) * scale
    if keepdims:
        return length
    return reshape(length, tuple(n for k, n in enumerate(x.shape) if k not in axes))


def _largest(x: "Tensor", axes: tuple[int, ...]) -> "Tensor":
    """The largest absolute value over the axes, a constant; 1 if it is 0 or not finite."""
    xp = x.backend.xp
    if any(x.shape[k] == 0 for k in axes):
        shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
        return x.wrap(xp.ones(shape, dtype=x.dtype))
    largest = xp.asarray(xp.abs(x.data).max(axis=axes, keepdims=True))
    usable = (largest > 0) & xp.isfinite(largest)
    return x.wrap(xp.where(usable, largest, xp.ones_like(largest)))


@accepts_dim
def normalize(x: "Tensor", p: Any = 2, axis: int = -1, eps: float = 1e-12) -> "Tensor":
    """Return x divided by its p-norm along `axis`, or by `eps` if that is larger.

    The zero vector stays, and its gradient is 0 (PyTorch's is that of the result / `eps`). The axis
    is the last one, which holds the channels; for rows (N, C) that is PyTorch's axis 1.
    """
    length = norm(x, p, axis, keepdims=True)
    zero = length.data == 0
    return where(zero, 0.0, x / where(zero, 1.0, maximum(length, eps)))
