"""The matrix product, batched."""

from typing import TYPE_CHECKING

import numpy as np

from tinygrad_mask.autograd import Function, Node, Variable, array_of
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.shape import broadcast_to, permute, reshape

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class MatMul(Function):
    """x (..., M, K) times y (..., K, N), with the same leading axes: (..., M, N)."""

    name = "matmul"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        need_x, need_y = ctx.needs_input_grad
        ctx.save_for_backward(x if need_y else None, y if need_x else None)
        return ctx.backend.matmul(x, y)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array | None, Array | None]:
        x, y = ctx.saved_arrays
        return (
            None if y is None else ctx.backend.matmul(grad_output, y.swapaxes(-1, -2)),
            None if x is None else ctx.backend.matmul(x.swapaxes(-1, -2), grad_output),
        )

    @staticmethod
    def differentiable_backward(
        ctx: Node, grad_output: "Tensor"
    ) -> "tuple[Tensor | None, Tensor | None]":
        x, y = ctx.saved_tensors
        return (
            None if y is None else MatMul.apply(grad_output, _transposed(y)),
            None if x is None else MatMul.apply(_transposed(x), grad_output),
        )


def _transposed(matrices: "Tensor") -> "Tensor":
    *lead, rows, columns = range(matrices.ndim)
    return permute(matrices, (*lead, columns, rows))


def matmul(x: "Tensor | Array", y: "Tensor | Array") -> "Tensor":
    """Return the matrix product: x (..., M, K), y (..., K, N), the result (..., M, N).

    Leading axes broadcast. A vector counts as one row on the left and one column on the right, and
    that axis is dropped from the result. Raises `ValueError` where the shapes do not fit.
    """
    tensors = [operand for operand in (x, y) if isinstance(operand, Variable)]
    if not tensors:
        raise TypeError("matmul: expected at least one Tensor among its inputs")
    first = tensors[0]
    return _matmul(
        *(
            v
            if isinstance(v, Variable)
            else first.wrap(array_of(v, first.backend, "matmul", first.dtype))
            for v in (x, y)
        )
    )


def _matmul(x: "Tensor", y: "Tensor") -> "Tensor":
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError(f"matmul: expected at least one dimension, got {x.shape} and {y.shape}")
    inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != inner:
        raise ValueError(
            f"matmul: the last axis of {x.shape} ({x.shape[-1]}) does not fit {y.shape} ({inner})"
        )
    left = x if x.ndim > 1 else reshape(x, (1, *x.shape))
    right = y if y.ndim > 1 else reshape(y, (*y.shape, 1))
    lead = left.shape[:-2]
    if right.ndim == 2 and lead:
        # One tall matrix: a single product, and no broadcast copy of y.
        left = reshape(left, (int(np.prod(left.shape[:-1])), left.shape[-1]))
    else:
        try:
            lead = np.broadcast_shapes(lead, right.shape[:-2])
        except ValueError:
            raise ValueError(
                f"matmul: the leading axes of {x.shape} and {y.shape} do not broadcast"
            ) from None
        if left.shape[:-2] != lead:
            left = broadcast_to(left, (*lead, *left.shape[-2:]))
        if right.shape[:-2] != lead:
            right = broadcast_to(right, (*lead, *right.shape[-2:]))
    result: Tensor = MatMul.apply(left, right)
    rows = x.shape[-2:-1] if x.ndim > 1 else ()
    columns = y.shape[-1:] if y.ndim > 1 else ()
    shape = (*lead, *rows, *columns)
    return result if result.shape == shape else reshape(result, shape)
