"""Activations: elementwise kernels of the backend, and softmax over an axis."""

from typing import TYPE_CHECKING, Any, get_args

from tinygrad_mask.autograd import Function, Node, option_of, sum_over
from tinygrad_mask.backends import Array, FusedActivation
from tinygrad_mask.functions.elementwise import exp, where
from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.reduction import single_axis

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class SigmoidFunction(Function):
    """1 / (1 + exp(-x))."""

    name = "sigmoid"

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        y = ctx.backend.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (y,) = ctx.saved_arrays
        return ctx.backend.sigmoid_grad(grad_output, y)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (y,) = ctx.saved_tensors
        return grad_output * y * (1 - y)


class TanhFunction(Function):
    """The hyperbolic tangent."""

    name = "tanh"

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        y = ctx.backend.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (y,) = ctx.saved_arrays
        return ctx.backend.tanh_grad(grad_output, y)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (y,) = ctx.saved_tensors
        return grad_output * (1 - y * y)


class ReLUFunction(Function):
    """max(x, 0); its derivative at 0 is 0."""

    name = "relu"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        y = ctx.backend.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (y,) = ctx.saved_arrays
        return ctx.backend.relu_grad(grad_output, y)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (y,) = ctx.saved_arrays
        return where(y > 0, grad_output, 0.0)


class LeakyReLUFunction(Function):
    """x where positive, else negative_slope * x; its derivative at 0 is the slope."""

    name = "leaky_relu"

    @staticmethod
    def forward(ctx: Node, x: Array, negative_slope: float) -> Array:
        ctx.negative_slope = negative_slope
        ctx.save_for_backward(x)
        return ctx.backend.leaky_relu(x, negative_slope)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (x,) = ctx.saved_arrays
        return ctx.backend.leaky_relu_grad(grad_output, x, ctx.negative_slope)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (x,) = ctx.saved_arrays
        return where(x > 0, grad_output, grad_output * ctx.negative_slope)


class SiLUFunction(Function):
    """x * sigmoid(x)."""

    name = "silu"

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        ctx.save_for_backward(x)
        return ctx.backend.silu(x)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (x,) = ctx.saved_arrays
        return ctx.backend.silu_grad(grad_output, x)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (x,) = ctx.saved_tensors
        s = sigmoid(x)
        return grad_output * s * (1 + x * (1 - s))


def _below_maximum(x: Array, axis: int) -> Array:
    """x less its maximum along an axis, of which the exponential cannot overflow."""
    return x - x.max(axis=axis, keepdims=True) if x.size else x.copy()


class SoftmaxFunction(Function):
    """exp(x) over its sum along an axis."""

    name = "softmax"

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        y = ctx.xp.exp(_below_maximum(x, axis))
        y /= ctx.backend.sum(y, (axis,), True)
        ctx.axis = axis
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (y,) = ctx.saved_tensors
        weighted = grad_output * y
        return weighted - y * sum_over(weighted, (ctx.axis,), ctx.backend, keepdims=True)

    differentiable_backward = backward


class LogSoftmaxFunction(Function):
    """The logarithm of softmax, without taking that of a number rounded to 0."""

    name = "log_softmax"

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        xp = ctx.xp
        shifted = _below_maximum(x, axis)
        y = shifted - xp.log(ctx.backend.sum(xp.exp(shifted), (axis,), True))
        ctx.axis = axis
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (y,) = ctx.saved_arrays
        total = ctx.backend.sum(grad_output, (ctx.axis,), True)
        return grad_output - ctx.xp.exp(y) * total

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (y,) = ctx.saved_tensors
        return grad_output - exp(y) * grad_output.sum(axis=ctx.axis, keepdims=True)


def before_activation(grad_output: "Tensor", activation: FusedActivation, y: Any) -> "Tensor":
    """The gradient of what a fused activation was applied to, from its output `y`, as tensors."""
    if activation == "relu":
        return where(y.data > 0, grad_output, 0.0)
    if activation == "sigmoid":
        return grad_output * y * (1 - y)
    if activation == "tanh":
        return grad_output * (1 - y * y)
    return grad_output


def check_activation(name: str, activation: str) -> None:
    """Raise `ValueError` unless this is an activation that another function can end with."""
    if activation not in get_args(FusedActivation):
        known = ", ".join(get_args(FusedActivation))
        raise ValueError(f"{name}: expected an activation of {known}, got {activation!r}")


def sigmoid(x: "Tensor") -> "Tensor":
    """Return 1 / (1 + exp(-x)), without overflow at either end."""
    return SigmoidFunction.apply(x)


def tanh(x: "Tensor") -> "Tensor":
    """Return the hyperbolic tangent of x."""
    return TanhFunction.apply(x)


def relu(x: "Tensor") -> "Tensor":
    """Return max(x, 0); NaN stays NaN, the derivative at 0 is 0."""
    return ReLUFunction.apply(x)


def leaky_relu(x: "Tensor", negative_slope: float = 0.01) -> "Tensor":
    """Return x where it is positive and `negative_slope * x` elsewhere."""
    return LeakyReLUFunction.apply(x, negative_slope=negative_slope)


def silu(x: "Tensor") -> "Tensor":
    """Return x * sigmoid(x) (Elfwing, Uchibe and Doya 2017; also known as swish)."""
    return SiLUFunction.apply(x)


@accepts_dim
def softmax(x: "Tensor", axis: int = -1) -> "Tensor":
    """Return exp(x) over its sum along `axis`."""
    return SoftmaxFunction.apply(x, axis=single_axis("softmax", axis, x.ndim))


@accepts_dim
def log_softmax(x: "Tensor", axis: int = -1) -> "Tensor":
    """Return the logarithm of softmax along `axis`."""
    return LogSoftmaxFunction.apply(x, axis=single_axis("log_softmax", axis, x.ndim))


# --- exponential and piecewise units -----------------------------------------------------------


class ELUFunction(Function):
    """x where positive, else alpha * (exp(x) - 1); its derivative at 0 is alpha."""

    name = "elu"

    @staticmethod
    def forward(ctx: Node, x: Array, alpha: float) -> Array:
        ctx.alpha = alpha
        ctx.save_for_backward(x)
        xp = ctx.xp
        # Only of what is not positive: the exponential of the rest might overflow.
        return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (x,) = ctx.saved_arrays
        xp = ctx.xp
        slope = ctx.alpha * xp.exp(xp.minimum(x, 0))
        return grad_output * xp.where(x > 0, xp.ones_like(x), slope)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (x,) = ctx.saved_tensors
        positive = x.data > 0
        return grad_output * where(positive, 1.0, ctx.alpha * exp(where(positive, 0.0, x)))


class SoftplusFunction(Function):
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold."""

    name = "softplus"

    @staticmethod
    def forward(ctx: Node, x: Array, beta: float, threshold: float) -> Array:
        ctx.beta, ctx.threshold = beta, threshold
        ctx.save_for_backward(x)
        xp = ctx.xp
        scaled = beta * x
        linear = scaled > threshold
        return xp.where(linear, x, xp.log1p(xp.exp(xp.where(linear, 0, scaled))) / beta)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (x,) = ctx.saved_arrays
        scaled = ctx.beta * x
        slope = ctx.backend.sigmoid(ctx.xp.asarray(scaled))  # of shape () it is a scalar
        return grad_output * ctx.xp.where(scaled > ctx.threshold, ctx.xp.ones_like(x), slope)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (x,) = ctx.saved_tensors
        slope = sigmoid(ctx.beta * x)
        return grad_output * where(ctx.beta * x.data > ctx.threshold, 1.0, slope)


def elu(x: "Tensor", alpha: float = 1.0) -> "Tensor":
    """Return x where it is positive and alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""
    return ELUFunction.apply(x, alpha=option_of("elu", "alpha", alpha))


def softplus(x: "Tensor", beta: float = 1.0, threshold: float = 20.0) -> "Tensor":
    """Return log(1 + exp(beta x)) / beta, a smooth maximum of x and 0.

    Where beta x is above `threshold` it is x itself, as in PyTorch. Raises `ValueError` unless beta
    is positive.
    """
    if not beta > 0:
        raise ValueError(f"softplus: expected beta > 0, got {beta}")
    beta = option_of("softplus", "beta", beta)
    threshold = option_of("softplus", "threshold", threshold)
    return SoftplusFunction.apply(x, beta=beta, threshold=threshold)


def hardtanh(x: "Tensor", min_val: float = -1.0, max_val: float = 1.0) -> "Tensor":
    """Return x limited to [min_val, max_val]; the derivative at both ends is 0, as in PyTorch.

    Raises `ValueError` unless min_val is below max_val.
    """
    if not min_val < max_val:
        raise ValueError(f"hardtanh: expected min_val < max_val, got {min_val} and {max_val}")
    min_val = option_of("hardtanh", "min_val", min_val)
    max_val = option_of("hardtanh", "max_val", max_val)
    inside = (x.data > min_val) & (x.data < max_val)
    return where(inside, x, x.detach().clip(min_val, max_val))
