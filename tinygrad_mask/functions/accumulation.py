"""Cumulative sums, and products."""

from typing import TYPE_CHECKING

import numpy as np

from tinygrad_mask.autograd import Function, Node
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.elementwise import multiply
from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.reduction import Axis, normalise_axes, single_axis
from tinygrad_mask.functions.shape import concatenate, permute, reshape

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class CumSum(Function):
    """The sums of the first elements along an axis, added up in double precision.

    With `reverse` they are the sums of the last elements, which is the derivative.
    """

    name = "cumsum"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, reverse: bool) -> Array:
        ctx.axis, ctx.reverse = axis, reverse
        return _cumulative(ctx, x, axis, reverse)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return _cumulative(ctx, grad_output, ctx.axis, not ctx.reverse)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return CumSum.apply(grad_output, axis=ctx.axis, reverse=not ctx.reverse)


def _cumulative(ctx: Node, x: Array, axis: int, reverse: bool) -> Array:
    along = (slice(None),) * axis + (slice(None, None, -1 if reverse else 1),)
    floating = x.dtype.kind == "f"
    total = ctx.xp.cumsum(x[along], axis=axis, dtype=np.float64 if floating else np.int64)
    return total[along].astype(x.dtype if floating else np.int64, copy=False)


@accepts_dim
def cumsum(x: "Tensor", axis: int) -> "Tensor":
    """Return the sums of the elements up to each, along `axis`; those of integers are int64."""
    return CumSum.apply(x, axis=single_axis("cumsum", axis, x.ndim), reverse=False)


@accepts_dim
def prod(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return the product over `axis`; that of no elements is 1, that of integers int64.

    Halves are multiplied by each other until one element is left: log2(n) multiplications, whose
    derivatives are right where elements are 0, and whose rounding errors do not add up.
    """
    axes = normalise_axes("prod", axis, x.ndim)
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    kept_shape = tuple(x.shape[k] for k in kept)
    count = 1
    for k in axes:
        count *= x.shape[k]
    if x.dtype.kind != "f":
        x = x.astype(np.int64)
    rest = reshape(permute(x, axes + kept), (count, *kept_shape))
    if count == 0:
        # Concatenated, so that the result is part of the graph.
        ones = x.wrap(x.backend.xp.ones((1, *kept_shape), dtype=x.dtype))
        rest = concatenate([rest, ones])
    while len(rest) > 1:
        half = len(rest) // 2
        product = multiply(rest[:half], rest[half : 2 * half])
        rest = concatenate([product, rest[2 * half :]]) if len(rest) % 2 else product
    shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape)) if keepdims else kept_shape
    return reshape(rest, shape)
