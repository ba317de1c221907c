"""Elementwise primitives: arithmetic, powers, exponentials, comparisons of two operands.

All broadcast as NumPy does; the engine sums the gradients back to the inputs' shapes.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinygrad_mask.autograd import Function, Node, Variable, array_of, shape_of
from tinygrad_mask.backends import Array

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

    Operand: TypeAlias = Tensor | Array | float


class Elementwise(Function):
    """A function of elements of the same place; checks that its operands broadcast."""

    elementwise = True

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """As `Function.apply`; raises `ValueError` where the shapes do not broadcast."""
        try:
            return super().apply(*inputs, **options)
        except ValueError:
            check_broadcast(cls.name, *inputs, *options.values())
            raise
        except TypeError:
            if any(v is None for v in inputs):
                raise TypeError(
                    f"{cls.name}: expected tensors, arrays or numbers, got None"
                ) from None
            raise


def check_broadcast(name: str, *operands: Any) -> None:
    """Raise a `ValueError` that names the shapes of tensors, arrays or numbers that do not fit."""
    shapes = [shape_of(v) for v in operands]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        said = ", ".join(str(s) for s in shapes)
        raise ValueError(f"{name}: shapes {said} do not broadcast") from None


# --- arithmetic -------------------------------------------------------------------------------


class Add(Elementwise):
    """x + y."""

    name = "add"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        return x + y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array]:
        return grad_output, grad_output

    differentiable_backward = backward


class Subtract(Elementwise):
    """x - y."""

    name = "subtract"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        return x - y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array | None]:
        return grad_output, -grad_output if ctx.needs_input_grad[1] else None

    differentiable_backward = backward


class Multiply(Elementwise):
    """x * y."""

    name = "multiply"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        # Each operand is needed only for the other's gradient.
        need_x, need_y = ctx.needs_input_grad
        ctx.save_for_backward(x if need_y else None, y if need_x else None)
        return x * y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array | None, Array | None]:
        x, y = ctx.saved_tensors
        return (
            None if y is None else grad_output * y,
            None if x is None else grad_output * x,
        )

    differentiable_backward = backward


class Divide(Elementwise):
    """x / y."""

    name = "divide"

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        ctx.save_for_backward(x, y)
        return x / y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array | None]:
        x, y = ctx.saved_tensors
        grad_x = grad_output / y
        return grad_x, -grad_x * x / y if ctx.needs_input_grad[1] else None

    differentiable_backward = backward


class Negative(Elementwise):
    """-x."""

    name = "negative"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return -x

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return -grad_output

    differentiable_backward = backward


class Power(Elementwise):
    """x ** y.

    Where the exponent is 0 the derivative to x is 0, and where x is 0 the derivative to a
    positive y is 0, as their limits are.
    """

    name = "power"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        z = x**y
        ctx.save_for_backward(x, y, z)
        return z

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array | None, Array | None]:
        x, y, z = ctx.saved_arrays
        xp = ctx.xp
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            y_array = xp.asarray(y, dtype=grad_output.dtype)
            slope = y_array * x ** (y_array - 1)
            grad_x = grad_output * xp.where(y_array == 0, 0, slope)
        if ctx.needs_input_grad[1]:
            x_array = xp.asarray(x, dtype=grad_output.dtype)
            flat = (x_array == 0) & (xp.asarray(y) >= 0)
            grad_y = grad_output * xp.where(flat, 0, z * xp.log(x_array))
        return grad_x, grad_y

    @staticmethod
    def differentiable_backward(
        ctx: Node, grad_output: "Tensor"
    ) -> "tuple[Tensor | None, Tensor | None]":
        xp = ctx.xp
        x, y, z = ctx.saved_tensors
        x_array, y_array = (xp.asarray(v) for v in ctx.saved_arrays[:2])
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            # 0 * 0 ** -1 would be NaN. Elsewhere the factor y makes the slope 0 where y is 0, and
            # keeps its derivative to y.
            flat = (x_array == 0) & (y_array == 0)
            slope = y * power(where(flat, 1.0, x) if flat.any() else x, y - 1)
            grad_x = grad_output * slope
        if ctx.needs_input_grad[1]:
            if not isinstance(x, Variable):
                x = grad_output.wrap(xp.asarray(x, dtype=grad_output.dtype))
            flat = (x_array == 0) & (y_array >= 0)
            grad_y = grad_output * z * log(where(flat, 1.0, x) if flat.any() else x)
        return grad_x, grad_y


# --- functions of one operand -----------------------------------------------------------------


class Exp(Elementwise):
    """e ** x."""

    name = "exp"

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        y = ctx.xp.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (y,) = ctx.saved_tensors
        return grad_output * y

    differentiable_backward = backward


class Log(Elementwise):
    """The natural logarithm; -inf at 0, NaN below."""

    name = "log"

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        ctx.save_for_backward(x)
        return ctx.xp.log(x)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (x,) = ctx.saved_tensors
        return grad_output / x

    differentiable_backward = backward


class Sqrt(Elementwise):
    """The square root; NaN below 0."""

    name = "sqrt"

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        y = ctx.xp.sqrt(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (y,) = ctx.saved_tensors
        return grad_output / (2 * y)

    differentiable_backward = backward


class Abs(Elementwise):
    """The absolute value; its derivative at 0 is 0."""

    name = "abs"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        ctx.save_for_backward(x)
        return ctx.xp.abs(x)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (x,) = ctx.saved_arrays
        return grad_output * ctx.xp.sign(x)

    differentiable_backward = backward


class Clip(Elementwise):
    """x limited to [low, high]; the derivative is 1 within, the ends included, and 0 outside."""

    name = "clip"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, low: float | None, high: float | None) -> Array:
        ctx.low, ctx.high = low, high
        ctx.save_for_backward(x)
        return ctx.xp.clip(x, low, high)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return grad_output * _inside(ctx)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return where(_inside(ctx), grad_output, 0.0)


def _inside(ctx: Node) -> Array:
    """Where the input of `Clip` lies within its limits."""
    (x,) = ctx.saved_arrays
    inside: Array = ctx.xp.ones(x.shape, dtype=bool)
    if ctx.low is not None:
        inside &= x >= ctx.low
    if ctx.high is not None:
        inside &= x <= ctx.high
    return inside


# --- choosing between two operands ------------------------------------------------------------


class Maximum(Elementwise):
    """The larger operand, NaN if either is; a tie gives the whole gradient to the first."""

    name = "maximum"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        z = ctx.xp.maximum(x, y)
        ctx.save_for_backward(ctx.xp.asarray((x >= y) | (x != x)))
        return z

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array]:
        (first,) = ctx.saved_arrays
        return grad_output * first, grad_output * ~first

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, Tensor]":
        (first,) = ctx.saved_arrays
        return where(first, grad_output, 0.0), where(first, 0.0, grad_output)


class Minimum(Elementwise):
    """The smaller operand, NaN if either is; a tie gives the whole gradient to the first."""

    name = "minimum"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any) -> Array:
        z = ctx.xp.minimum(x, y)
        ctx.save_for_backward(ctx.xp.asarray((x <= y) | (x != x)))
        return z

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array]:
        (first,) = ctx.saved_arrays
        return grad_output * first, grad_output * ~first

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, Tensor]":
        (first,) = ctx.saved_arrays
        return where(first, grad_output, 0.0), where(first, 0.0, grad_output)


class Where(Elementwise):
    """x where the condition holds, y elsewhere."""

    name = "where"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Any, y: Any, condition: Array) -> Array:
        ctx.save_for_backward(condition)
        return ctx.xp.where(condition, x, y)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array]:
        (condition,) = ctx.saved_arrays
        return ctx.xp.where(condition, grad_output, 0), ctx.xp.where(condition, 0, grad_output)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, Tensor]":
        (condition,) = ctx.saved_arrays
        return where(condition, grad_output, 0.0), where(condition, 0.0, grad_output)


# --- the functions that users call ------------------------------------------------------------


def add(x: "Operand", y: "Operand") -> "Tensor":
    """Return x + y, broadcast."""
    return Add.apply(x, y)


def subtract(x: "Operand", y: "Operand") -> "Tensor":
    """Return x - y, broadcast."""
    return Subtract.apply(x, y)


def multiply(x: "Operand", y: "Operand") -> "Tensor":
    """Return x * y, broadcast."""
    return Multiply.apply(x, y)


def divide(x: "Operand", y: "Operand") -> "Tensor":
    """Return x / y, broadcast; raises `TypeError` for integer tensors."""
    return Divide.apply(x, y)


def negative(x: "Tensor") -> "Tensor":
    """Return -x."""
    return Negative.apply(x)


def power(x: "Operand", y: "Operand") -> "Tensor":
    """Return x ** y, broadcast; NaN for a negative x and a fractional y.

    Raises `TypeError` for booleans.
    """
    if any(isinstance(v, Variable) and v.data.dtype == bool for v in (x, y)):
        raise TypeError("power: expected numbers, got dtype bool; convert with astype()")
    return Power.apply(x, y)


def exp(x: "Tensor") -> "Tensor":
    """Return e ** x."""
    return Exp.apply(x)


def log(x: "Tensor") -> "Tensor":
    """Return the natural logarithm of x; -inf at 0, NaN below."""
    return Log.apply(x)


def sqrt(x: "Tensor") -> "Tensor":
    """Return the square root of x; NaN below 0."""
    return Sqrt.apply(x)


def abs(x: "Tensor") -> "Tensor":
    """Return the absolute value of x; its derivative at 0 is 0."""
    return Abs.apply(x)


def clip(x: "Tensor", low: "Operand | None" = None, high: "Operand | None" = None) -> "Tensor":
    """Return x limited to [low, high].

    Bounds may be numbers, or tensors and arrays of x's dtype, which are broadcast and have
    gradients of their own. At a bound the whole gradient goes to x. Raises `ValueError` if low, a
    number, exceeds high, another.
    """
    if not all(v is None or isinstance(v, bool | int | float | np.generic) for v in (low, high)):
        above = x if low is None else maximum(x, low)
        return above if high is None else minimum(above, high)
    for bound in (low, high):
        if isinstance(bound, float | np.floating) and x.dtype.kind != "f":
            raise TypeError(f"clip: a float does not fit a tensor of dtype {x.dtype}")
    low = float(low) if isinstance(low, np.longdouble) else low
    high = float(high) if isinstance(high, np.longdouble) else high
    if low is not None and high is not None and low > high:
        raise ValueError(f"clip: expected low <= high, got {low} and {high}")
    return Clip.apply(x, low=low, high=high)


def maximum(x: "Operand", y: "Operand") -> "Tensor":
    """Return the larger of x and y, broadcast; a tie gives the whole gradient to x."""
    return Maximum.apply(x, y)


def minimum(x: "Operand", y: "Operand") -> "Tensor":
    """Return the smaller of x and y, broadcast; a tie gives the whole gradient to x."""
    return Minimum.apply(x, y)


def where(condition: "Tensor | Array", x: "Operand", y: "Operand") -> "Tensor":
    """Return x where the boolean `condition` holds and y elsewhere, all three broadcast."""
    backends = [v.backend for v in (condition, x, y) if isinstance(v, Variable)]
    array = array_of(condition, backends[0]) if backends else np.array(condition)
    if array.dtype != bool:
        raise TypeError(f"where: expected a boolean condition, got dtype {array.dtype}")
    if not isinstance(condition, Variable):
        condition = array
    return Where.apply(x, y, condition=condition)
