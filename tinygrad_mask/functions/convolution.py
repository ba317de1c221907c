"""Two-dimensional convolution (cross-correlation, as the field calls it), NHWC by HWIO."""

from operator import index
from typing import TYPE_CHECKING, TypeAlias

from tinygrad_mask.autograd import Function, GradientFunction, Node
from tinygrad_mask.backends import Array, FusedActivation, Window
from tinygrad_mask.functions.activation import before_activation, check_activation
from tinygrad_mask.functions.shape import as_integers, check_size

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

Pair: TypeAlias = int | tuple[int, int]
Padding: TypeAlias = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str


def as_pair(name: str, what: str, value: Pair, least: int = 1) -> tuple[int, int]:
    """Return `(height, width)` from one integer or a pair of them, each at least `least`."""
    # Nearly always; a small network's step notices.
    if type(value) is int and least <= value < 2**31:
        return value, value
    try:
        height, width = map(index, value if isinstance(value, tuple | list) else (value, value))
    except (TypeError, ValueError):  # not integers, or not two
        height = width = least - 1
    if min(height, width) < least:
        raise ValueError(
            f"{name}: expected {what} to be an integer >= {least} or a pair of them, got {value!r}"
        )
    if max(height, width) >= 2**63:
        raise ValueError(f"{name}: expected {what} below 2**63, got {value!r}")
    return height, width


def make_window(
    name: str,
    image: tuple[int, ...],
    size: tuple[int, int],
    stride: Pair,
    padding: Padding,
    dilation: Pair = 1,
) -> Window:
    """Return the window that these arguments mean for an `image` of (height, width).

    Padding is an integer, a pair (height, width), two pairs ((top, bottom), (left, right)),
    'valid': none, or 'same': as much as makes the result ceil(image / stride), the odd pixel at the
    end. Raises `ValueError` where an argument is wrong or the window does not fit even once.
    """
    strides = as_pair(name, "stride", stride)
    dilations = as_pair(name, "dilation", dilation)
    if padding == "same":
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(image, size, strides, dilations, strict=True)
        ]
        rows, columns = ((t // 2, t - t // 2) for t in total)
    elif padding == "valid":
        rows, columns = (0, 0), (0, 0)
    elif isinstance(padding, str):
        raise ValueError(f"{name}: expected padding 'same', 'valid' or integers, got {padding!r}")
    elif (
        isinstance(padding, tuple | list)
        and len(padding) == 2
        and isinstance(padding[0], tuple | list)
    ):
        rows, columns = (as_pair(name, "padding", p, least=0) for p in padding)
    else:
        height, width = as_pair(name, "padding", padding, least=0)
        rows, columns = (height, height), (width, width)
    window = Window(size, strides, (rows, columns), dilations)
    if sum(rows) + sum(columns) > 2**31:
        check_size(name, *(n + sum(p) for n, p in zip(image, window.padding, strict=True)))
    if min(window.output_size(*image)) < 1:
        raise ValueError(
            f"{name}: a window of {size[0]}x{size[1]} (dilation {dilations}) does not fit an image "
            f"of {image[0]}x{image[1]} with padding {window.padding}"
        )
    return window


class Conv2dFunction(Function):
    """Each output pixel is the sum over a window of input pixels times the weight, plus the bias;
    then an activation, of which the gradient needs no more than the output.
    """

    name = "conv2d"

    @staticmethod
    def forward(
        ctx: Node,
        x: Array,
        weight: Array,
        bias: Array | None,
        window: Window,
        groups: int,
        activation: FusedActivation,
    ) -> Array:
        need_x, need_weight, need_bias = ctx.needs_input_grad
        y = ctx.backend.conv2d(x, weight, bias, window, groups, activation)
        ctx.window, ctx.groups, ctx.activation = window, groups, activation
        ctx.input_shape, ctx.weight_shape = x.shape, weight.shape
        ctx.save_for_backward(
            x if need_weight or need_bias else None,
            weight if need_x else None,
            y if activation != "none" else None,
        )
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array | None, Array | None, Array | None]:
        x, weight, y = ctx.saved_arrays
        grad_input = grad_weight = grad_bias = None
        rest = ctx.window, ctx.groups, ctx.activation, y
        if weight is not None:
            grad_input = ctx.backend.conv2d_grad_input(grad_output, weight, ctx.input_shape, *rest)
        if x is not None:
            grad_weight, grad_bias = ctx.backend.conv2d_grad_weight(
                grad_output, x, ctx.weight_shape, *rest
            )
        return grad_input, grad_weight, grad_bias

    @staticmethod
    def differentiable_backward(
        ctx: Node, grad_output: "Tensor"
    ) -> "tuple[Tensor | None, Tensor | None, Tensor | None]":
        x, weight, y = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        gradient = before_activation(grad_output, ctx.activation, y)
        rest = {"window": ctx.window, "groups": ctx.groups}
        return (
            Conv2dGradInput.apply(gradient, weight, input_shape=ctx.input_shape, **rest)
            if need_x
            else None,
            Conv2dGradWeight.apply(gradient, x, weight_shape=ctx.weight_shape, **rest)
            if need_weight
            else None,
            gradient.sum(axis=(0, 1, 2)) if need_bias else None,
        )


# The sum of `grad_output * conv2d(x, weight)` is linear in each of the three, so that each of the
# three functions has the other two as its gradients.


class Conv2dGradInput(GradientFunction):
    """The gradient of a convolution's input from that of its output, and from the weight."""

    name = "conv2d_grad_input"

    @staticmethod
    def forward(
        ctx: Node,
        grad_output: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        window: Window,
        groups: int,
    ) -> Array:
        ctx.window, ctx.groups, ctx.weight_shape = window, groups, weight.shape
        ctx.save_for_backward(grad_output, weight)
        return ctx.backend.conv2d_grad_input(grad_output, weight, input_shape, window, groups)

    @staticmethod
    def backward(ctx: Node, grad_input: Array) -> tuple[Array | None, Array | None]:
        grad_output, weight = ctx.saved_arrays
        need_output, need_weight = ctx.needs_input_grad
        window, groups, backend = ctx.window, ctx.groups, ctx.backend
        return (
            backend.conv2d(grad_input, weight, None, window, groups) if need_output else None,
            backend.conv2d_grad_weight(grad_output, grad_input, ctx.weight_shape, window, groups)[0]
            if need_weight
            else None,
        )

    @staticmethod
    def differentiable_backward(
        ctx: Node, grad_input: "Tensor"
    ) -> "tuple[Tensor | None, Tensor | None]":
        grad_output, weight = ctx.saved_tensors
        need_output, need_weight = ctx.needs_input_grad
        rest = {"window": ctx.window, "groups": ctx.groups}
        return (
            Conv2dFunction.apply(grad_input, weight, None, activation="none", **rest)
            if need_output
            else None,
            Conv2dGradWeight.apply(grad_output, grad_input, weight_shape=ctx.weight_shape, **rest)
            if need_weight
            else None,
        )


class Conv2dGradWeight(GradientFunction):
    """The gradient of a convolution's weight from that of its output, and from the input."""

    name = "conv2d_grad_weight"

    @staticmethod
    def forward(
        ctx: Node,
        grad_output: Array,
        x: Array,
        weight_shape: tuple[int, ...],
        window: Window,
        groups: int,
    ) -> Array:
        ctx.window, ctx.groups, ctx.input_shape = window, groups, x.shape
        ctx.save_for_backward(grad_output, x)
        return ctx.backend.conv2d_grad_weight(grad_output, x, weight_shape, window, groups)[0]

    @staticmethod
    def backward(ctx: Node, grad_weight: Array) -> tuple[Array | None, Array | None]:
        grad_output, x = ctx.saved_arrays
        need_output, need_x = ctx.needs_input_grad
        window, groups, backend = ctx.window, ctx.groups, ctx.backend
        return (
            backend.conv2d(x, grad_weight, None, window, groups) if need_output else None,
            backend.conv2d_grad_input(grad_output, grad_weight, ctx.input_shape, window, groups)
            if need_x
            else None,
        )

    @staticmethod
    def differentiable_backward(
        ctx: Node, grad_weight: "Tensor"
    ) -> "tuple[Tensor | None, Tensor | None]":
        grad_output, x = ctx.saved_tensors
        need_output, need_x = ctx.needs_input_grad
        rest = {"window": ctx.window, "groups": ctx.groups}
        return (
            Conv2dFunction.apply(x, grad_weight, None, activation="none", **rest)
            if need_output
            else None,
            Conv2dGradInput.apply(grad_output, grad_weight, input_shape=ctx.input_shape, **rest)
            if need_x
            else None,
        )


def conv2d(
    x: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: FusedActivation = "none",
) -> "Tensor":
    """Slide a window over an image and return its products with the weight, summed.

    `x` is (N, H, W, C), `weight` (KH, KW, C / groups, O), `bias` (O,); the result is (N, P, Q, O)
    with P = floor((H + padding - dilation * (KH - 1) - 1) / stride) + 1, and Q likewise. With
    groups, the channels are divided into that many parts, each seen by its own part of the outputs
    (`groups == C` is a depthwise convolution). Padding as in `make_window`. An `activation`
    ('relu', 'sigmoid' or 'tanh') is applied in the same pass: what is before it needs no memory.

    Formula: Dumoulin and Visin, 'A guide to convolution arithmetic for deep learning', 2016.
    Raises `ValueError` where the shapes do not fit.
    """
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            "conv2d: expected an input of shape NHWC and a weight of shape HWIO, "
            f"got {x.shape} and {weight.shape}"
        )
    kh, kw, channels, outputs = weight.shape
    if kh == 0 or kw == 0:
        raise ValueError(f"conv2d: expected a window of at least 1x1, got weight {_by(weight)}")
    (groups,) = as_integers("conv2d", "groups", (groups,))
    if groups < 1 or outputs % groups:
        raise ValueError(
            f"conv2d: expected groups to divide the {outputs} output channels, got {groups}"
        )
    if x.shape[3] != channels * groups:
        grouped = f" times {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"conv2d: weight expects {channels}{grouped} input channels (HWIO {_by(weight)}), "
            f"input has {x.shape[3]} (NHWC {_by(x)})"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"conv2d: expected a bias of shape ({outputs},), got {bias.shape}")
    window = make_window("conv2d", x.shape[1:3], (kh, kw), stride, padding, dilation)
    check_activation("conv2d", activation)
    return Conv2dFunction.apply(
        x, weight, bias, window=window, groups=groups, activation=activation
    )


def _by(tensor: "Tensor") -> str:
    return "x".join(str(n) for n in tensor.shape)
