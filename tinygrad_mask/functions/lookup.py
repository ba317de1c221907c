"""Looking up rows of a table."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Variable, array_of
from tinygrad_mask.functions.shape import getitem

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
