"""Selection by integer indices and by masks: rows of a table, elements along an axis."""

from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Variable, array_of, constant_of
from tinygrad_mask.functions.elementwise import check_broadcast, where
from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.reduction import single_axis
from tinygrad_mask.functions.shape import check_size, getitem

if TYPE_CHECKING:
    from tinygrad_mask.backends import Array
    from tinygrad_mask.tensor import Tensor


def embedding(indices: "Tensor | Array", weight: "Tensor") -> "Tensor":
    """Return the rows of `weight` (K, D) at `indices` (...), of shape (..., D).

    In the gradient the rows of an index that occurs several times add up. Raises `TypeError` for
    indices that are not integers, and `IndexError` for one outside 0..K-1, which on a GPU only the
    indexing itself may notice.
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: expected a weight of shape (K, D), got {weight.shape}")
    positions: Any = indices
    if not isinstance(indices, Variable):
        positions = np.asarray(indices)
    if positions.dtype.kind not in "iu":
        raise TypeError(f"embedding: expected integer indices, got dtype {positions.dtype}")
    found = array_of(positions, weight.backend, "embedding")
    if isinstance(found, np.ndarray) and found.size:
        low, high = int(found.min()), int(found.max())
        if low < 0 or high >= weight.shape[0]:
            raise IndexError(
                f"embedding: expected indices in 0..{weight.shape[0] - 1}, got {low}..{high}"
            )
    return getitem(weight, found)


def _positions(name: str, values: Any, x: "Tensor") -> Any:
    """Return integer indices as an array of x's device; raises `TypeError` for other dtypes."""
    if not isinstance(values, Variable):
        values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer indices, got dtype {values.dtype}")
    return array_of(values, x.backend, name)


def _pick(x: "Tensor", positions: Any, along: int) -> "Tensor":
    """The elements at `positions` along an axis, each at its own place along the others."""
    places: list[Any] = []
    for k, length in enumerate(positions.shape):
        line = x.backend.xp.arange(length)
        places.append(line.reshape((1,) * k + (-1,) + (1,) * (positions.ndim - k - 1)))
    places[along] = positions
    return getitem(x, tuple(places))


@accepts_dim
def gather(x: "Tensor", axis: int, index: "Tensor | Array") -> "Tensor":
    """Return x[..., index[..., i, ...], ...] along `axis`, of the shape of `index`.

    As in PyTorch: `index` has as many axes as x and is not longer than x along the others; nothing
    is broadcast. In the gradient, elements that occur several times add up.
    """
    along = single_axis("gather", axis, x.ndim)
    positions = _positions("gather", index, x)
    if positions.ndim != x.ndim or any(
        n > x.shape[k] for k, n in enumerate(positions.shape) if k != along
    ):
        raise ValueError(
            f"gather: expected an index that fits shape {x.shape} along every axis but {along}, "
            f"got {positions.shape}"
        )
    return _pick(x, positions, along)


@accepts_dim
def take_along_axis(x: "Tensor", indices: "Tensor | Array", axis: int | None) -> "Tensor":
    """Return the elements of x at `indices` along `axis`, as NumPy's `take_along_axis`.

    `indices` has as many axes as x and broadcasts with x along the others; without an axis both
    are taken in reading order. In the gradient, elements that occur several times add up.
    """
    positions = _positions("take_along_axis", indices, x)
    if axis is None:
        return _pick(x.reshape(-1), positions.reshape(-1), 0)
    along = single_axis("take_along_axis", axis, x.ndim)
    shape = list(x.shape)
    if positions.ndim == x.ndim:
        shape[along] = 1
        selected = list(positions.shape)
        selected[along] = 1
        try:
            shape = list(np.broadcast_shapes(tuple(shape), tuple(selected)))
        except ValueError:
            positions = None
    if positions is None or positions.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: expected indices that broadcast with shape {x.shape} along every "
            f"axis but {along}, got {np.shape(indices)}"
        )
    shape[along] = positions.shape[along]
    positions = x.backend.xp.broadcast_to(positions, tuple(shape))
    shape[along] = x.shape[along]
    return _pick(x.broadcast_to(shape), positions, along)


def masked_fill(x: "Tensor", mask: "Tensor | Array", value: Any) -> "Tensor":
    """Return x with `value`, a number or a tensor of one, where the boolean `mask` holds.

    The mask broadcasts to x. Raises `TypeError` for a mask that is not boolean.
    """
    chosen = constant_of(mask, x.backend, "masked_fill", "mask")
    if chosen.dtype != bool:
        raise TypeError(f"masked_fill: expected a boolean mask, got dtype {chosen.dtype}")
    check_broadcast("masked_fill", x.data, chosen)
    if np.broadcast_shapes(x.shape, chosen.shape) != x.shape or np.shape(value) != ():
        raise ValueError(
            f"masked_fill: expected a mask that broadcasts to shape {x.shape} and one value, "
            f"got shapes {chosen.shape} and {np.shape(value)}"
        )
    return where(mask, value, x)


def one_hot(indices: "Tensor", num_classes: int | None = None, dtype: Any = np.int64) -> "Tensor":
    """Return rows with 1 at the index and 0 elsewhere, of shape (..., `num_classes`).

    Without `num_classes` (or with PyTorch's -1) it is the largest index + 1. The dtype is int64 as
    in PyTorch; a loss needs a floating one. Raises `ValueError` for an index outside.
    """
    if not isinstance(indices, Variable):
        raise TypeError(
            f"one_hot: expected a Tensor of integers, got {type(indices).__name__}; "
            "write one_hot(Tensor(indices))"
        )
    positions = _positions("one_hot", indices, indices)
    low, high = (int(positions.min()), int(positions.max())) if positions.size else (0, -1)
    count = high + 1 if num_classes is None or num_classes == -1 else index(num_classes)
    if low < 0 or high >= count or count < 1:
        raise ValueError(
            f"one_hot: expected indices in 0..{count - 1} and at least one class, "
            f"got indices {low}..{high}"
        )
    check_size("one_hot", *positions.shape, count)
    classes = indices.backend.xp.arange(count)
    return indices.wrap((positions[..., None] == classes).astype(np.dtype(dtype)))
