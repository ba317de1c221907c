"""Rounding, floored division and its remainder.

Their derivatives are those between the jumps: 0 for a rounded number, and 1 for the remainder.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Node, Variable
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.elementwise import Elementwise, where

if TYPE_CHECKING:
    from tinygrad_mask.functions.elementwise import Operand
    from tinygrad_mask.tensor import Tensor


class Round(Elementwise):
    """The nearest number of some decimals; halves become even."""

    name = "round"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, decimals: int) -> Array:
        return ctx.xp.asarray(ctx.xp.round(x, decimals))

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return ctx.xp.zeros_like(grad_output)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return _zeros(ctx, grad_output)


class FloorDivide(Elementwise):
    """The largest integer that is not above x / y."""

    name = "floor_divide"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        return ctx.xp.asarray(ctx.xp.floor_divide(x, y))

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array]:
        zeros = ctx.xp.zeros_like(grad_output)
        return zeros, zeros

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, Tensor]":
        zeros = _zeros(ctx, grad_output)
        return zeros, zeros


class Remainder(Elementwise):
    """x - floor(x / y) * y, which has the sign of y."""

    name = "remainder"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        ctx.save_for_backward(x, y)
        return ctx.xp.asarray(ctx.xp.remainder(x, y))

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array | None]:
        x, y = ctx.saved_arrays
        if not ctx.needs_input_grad[1]:
            return grad_output, None
        return grad_output, -grad_output * ctx.xp.floor_divide(x, y)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, Tensor | None]":
        x, y = ctx.saved_arrays
        if not ctx.needs_input_grad[1]:
            return grad_output, None
        return grad_output, -grad_output * ctx.xp.floor_divide(x, y)


def _zeros(ctx: Node, grad_output: "Tensor") -> "Tensor":
    """Zeros that are part of the graph: a constant would make a third derivative raise."""
    return where(ctx.xp.zeros(grad_output.shape, dtype=bool), grad_output, 0.0)


def round(x: "Tensor", decimals: int = 0) -> "Tensor":
    """Return x rounded to `decimals` places, halves to even; the gradient is 0."""
    if x.dtype.kind != "f" and decimals == 0:
        return x
    return Round.apply(x, decimals=decimals)


def floor_divide(x: "Operand", y: "Operand") -> "Tensor":
    """Return the floor of x / y, broadcast; the gradients are 0.

    Raises `TypeError` for booleans, and `ZeroDivisionError` for an integer divided by 0.
    """
    _check("floor_divide", x, y)
    return FloorDivide.apply(x, y)


def remainder(x: "Operand", y: "Operand") -> "Tensor":
    """Return x - floor(x / y) * y, broadcast, with the sign of y as in Python.

    Its gradient is 1 to x and -floor(x / y) to y. Raises as `floor_divide`.
    """
    _check("remainder", x, y)
    return Remainder.apply(x, y)


def _check(name: str, x: Any, y: Any) -> None:
    dtypes = [v.data.dtype for v in (x, y) if isinstance(v, Variable)]
    if any(dtype.kind == "b" for dtype in dtypes):
        raise TypeError(f"{name}: expected numbers, got dtype bool; convert with astype()")
    if any(dtype.kind in "iu" for dtype in dtypes):
        divisor = y.data if isinstance(y, Variable) else np.asarray(y)
        if (divisor == 0).any():
            raise ZeroDivisionError(f"{name}: expected divisors other than 0, got 0")
