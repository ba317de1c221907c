"""The layers: modules round the primitives. Images are NHWC, weights (..., inputs, outputs)."""

import math

import numpy as np

import tinygrad_mask.functions as F
from tinygrad_mask.backends import FusedActivation
from tinygrad_mask.functions.convolution import Padding, Pair, as_pair
from tinygrad_mask.nn.init import Initialiser, he_normal
from tinygrad_mask.nn.module import Module, Parameter
from tinygrad_mask.random import as_generator
from tinygrad_mask.tensor import Tensor


class Linear(Module):
    """`x @ weight + bias`: x (..., inputs), the result (..., outputs)."""

    takes_activation = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rng: np.random.Generator | None = None,
        bias: bool = True,
        init: Initialiser = he_normal,
    ) -> None:
        super().__init__()
        self.weight = Parameter(init((inputs, outputs), as_generator("Linear", rng)))
        self.bias: Parameter | None
        self.register_parameter("bias", Parameter(np.zeros(outputs, np.float32)) if bias else None)

    def forward(self, x: Tensor, activation: FusedActivation = "none") -> Tensor:
        """Map x (..., inputs) to (..., outputs), and apply an activation."""
        if x.ndim == 0 or x.shape[-1] != self.weight.shape[0]:
            raise ValueError(
                f"Linear: expected an input (..., {self.weight.shape[0]}), got shape {x.shape}"
            )
        return F.linear(x, self.weight, self.bias, activation=activation)

    def describe(self) -> str:
        """Return inputs and outputs."""
        inputs, outputs = self.weight.shape
        return f"Linear({inputs} -> {outputs}{'' if self.bias is not None else ', no bias'})"


class Conv2d(Module):
    """Convolution of an image (N, H, W, inputs) to (N, P, Q, outputs); see `functions.conv2d`."""

    takes_activation = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: Pair,
        *,
        rng: np.random.Generator | None = None,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        init: Initialiser = he_normal,
    ) -> None:
        super().__init__()
        if groups < 1 or inputs % groups or outputs % groups:
            raise ValueError(
                f"Conv2d: expected groups to divide {inputs} inputs and {outputs} outputs, "
                f"got {groups}"
            )
        kh, kw = as_pair("Conv2d", "kernel_size", kernel_size)
        shape = (kh, kw, inputs // groups, outputs)
        self.weight = Parameter(init(shape, as_generator("Conv2d", rng)))
        self.bias: Parameter | None
        self.register_parameter("bias", Parameter(np.zeros(outputs, np.float32)) if bias else None)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor, activation: FusedActivation = "none") -> Tensor:
        """Map x (N, H, W, inputs) to (N, P, Q, outputs), and apply an activation."""
        return F.conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            activation=activation,
        )

    def describe(self) -> str:
        """Return channels and window, and of the rest what is not the default."""
        kh, kw, inputs, outputs = self.weight.shape
        more = _said(self, stride=1, padding=0, dilation=1, groups=1)
        bias = "" if self.bias is not None else ", no bias"
        return f"Conv2d({inputs * self.groups} -> {outputs}, {kh}x{kw}{more}{bias})"


class MaxPool2d(Module):
    """The maximum of each window; see `functions.max_pool2d`."""

    def __init__(
        self, kernel_size: Pair, *, stride: Pair | None = None, padding: Padding = 0
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, P, Q, C)."""
        return F.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)

    def describe(self) -> str:
        """Return the window, and of the rest what is not the default."""
        return f"MaxPool2d({self.kernel_size}{_said(self, stride=None, padding=0)})"


class AvgPool2d(Module):
    """The mean of each window; see `functions.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: Pair,
        *,
        stride: Pair | None = None,
        padding: Padding = 0,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, P, Q, C)."""
        return F.avg_pool2d(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            count_include_pad=self.count_include_pad,
        )

    def describe(self) -> str:
        """Return the window, and of the rest what is not the default."""
        more = _said(self, stride=None, padding=0, count_include_pad=True)
        return f"AvgPool2d({self.kernel_size}{more})"


class GlobalAvgPool2d(Module):
    """The mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, C)."""
        return F.global_avg_pool2d(x)


class Flatten(Module):
    """All axes but the first made one."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, ...) to (N, product of the rest)."""
        if x.ndim == 0:
            raise ValueError("Flatten: expected an input (N, ...), got shape ()")
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Sigmoid(Module):
    """See `functions.sigmoid`."""

    fused_name = "sigmoid"

    def forward(self, x: Tensor) -> Tensor:
        """Apply the sigmoid to each element."""
        return F.sigmoid(x)


class Tanh(Module):
    """See `functions.tanh`."""

    fused_name = "tanh"

    def forward(self, x: Tensor) -> Tensor:
        """Apply the hyperbolic tangent to each element."""
        return F.tanh(x)


class ReLU(Module):
    """See `functions.relu`."""

    fused_name = "relu"

    def forward(self, x: Tensor) -> Tensor:
        """Replace each negative element by 0."""
        return F.relu(x)


class LeakyReLU(Module):
    """See `functions.leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each negative element by the slope."""
        return F.leaky_relu(x, self.negative_slope)

    def describe(self) -> str:
        """Return the slope."""
        return f"LeakyReLU({self.negative_slope})"


class SiLU(Module):
    """See `functions.silu`."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each element by its sigmoid."""
        return F.silu(x)


class Softmax(Module):
    """See `functions.softmax`; over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Map scores (..., K) to probabilities (..., K)."""
        return F.softmax(x)


class LogSoftmax(Module):
    """See `functions.log_softmax`; over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Map scores (..., K) to log-probabilities (..., K)."""
        return F.log_softmax(x)


class Dropout(Module):
    """In training zeroes each element with probability `p`; see `functions.dropout`."""

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected 0 <= p <= 1, got {p}")
        self.p = p
        self._rng = None if rng is None else as_generator("Dropout", rng)

    @property
    def rng(self) -> np.random.Generator:
        """The generator of the masks: the layer's own, or the default one."""
        return as_generator("Dropout", self._rng)

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training; return x as it is otherwise."""
        return F.dropout(x, self.p, self.rng) if self.training else x

    def describe(self) -> str:
        """Return the probability."""
        return f"Dropout({self.p})"


class BatchNorm(Module):
    """Normalises each channel (the last axis); see `functions.batch_norm`."""

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = Parameter(np.ones(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", Tensor(np.zeros(channels, np.float32)))
        self.register_buffer("running_var", Tensor(np.ones(channels, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., channels) to the same shape."""
        return F.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )

    def describe(self) -> str:
        """Return the number of channels."""
        return f"BatchNorm({self.weight.shape[0]})"


def _said(layer: Module, **defaults: object) -> str:
    """What a layer's description says of these attributes: those that are not the default."""
    values = {name: getattr(layer, name) for name in defaults}
    return "".join(f", {k}={v}" for k, v in values.items() if v != defaults[k])
