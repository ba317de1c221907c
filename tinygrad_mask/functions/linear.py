"""The linear map of a dense layer: a matrix product, bias and activation in one."""

import math
from typing import TYPE_CHECKING

from tinygrad_mask.autograd import Function, Node
from tinygrad_mask.backends import Array, FusedActivation
from tinygrad_mask.functions.activation import before_activation, check_activation
from tinygrad_mask.functions.shape import reshape

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class LinearFunction(Function):
    """x @ weight + bias, x (M, K) and weight (K, N); then an activation, of which the gradient
    needs no more than the output.
    """

    name = "linear"

    @staticmethod
    def forward(
        ctx: Node, x: Array, weight: Array, bias: Array | None, activation: FusedActivation
    ) -> Array:
        y = ctx.backend.linear(x, weight, bias, activation)
        ctx.activation = activation
        need_x, need_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(
            x if need_weight else None,
            weight if need_x else None,
            y if activation != "none" else None,
        )
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array | None, Array | None, Array | None]:
        x, weight, y = ctx.saved_arrays
        need_x, need_weight, need_bias = ctx.needs_input_grad
        needed = need_x, need_weight, need_bias
        return ctx.backend.linear_grad(grad_output, x, weight, ctx.activation, y, needed)

    @staticmethod
    def differentiable_backward(
        ctx: Node, grad_output: "Tensor"
    ) -> "tuple[Tensor | None, Tensor | None, Tensor | None]":
        x, weight, y = ctx.saved_tensors
        gradient = before_activation(grad_output, ctx.activation, y)
        return (
            None if weight is None else gradient @ weight.T,
            None if x is None else x.T @ gradient,
            gradient.sum(axis=0) if ctx.needs_input_grad[2] else None,
        )


def linear(
    x: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    *,
    activation: FusedActivation = "none",
) -> "Tensor":
    """Return the activation of `x @ weight + bias`.

    `x` is (..., K), `weight` (K, N), `bias` (N,); the result is (..., N). The activation is 'none',
    'relu', 'sigmoid' or 'tanh'. Raises `ValueError` where the shapes do not fit.
    """
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[0]:
        raise ValueError(
            "linear: expected an input (..., K) and a weight (K, N), "
            f"got {x.shape} and {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError(f"linear: expected a bias of shape {weight.shape[1:]}, got {bias.shape}")
    check_activation("linear", activation)
    rows = x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    y: Tensor = LinearFunction.apply(rows, weight, bias, activation=activation)
    return y if x.ndim == 2 else reshape(y, (*x.shape[:-1], weight.shape[1]))
