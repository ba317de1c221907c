"""Convolution layers. Images are NHWC, weights (height, width, inputs, outputs)."""

import numpy as np

import tinygrad_mask.functions as F
from tinygrad_mask.backends import FusedActivation
from tinygrad_mask.functions.convolution import Padding, Pair, as_pair, make_window
from tinygrad_mask.functions.shape import check_size
from tinygrad_mask.nn.arguments import (
    as_flag,
    as_size,
    as_tuple,
    options_that_differ,
    refuse_input,
)
from tinygrad_mask.nn.init import Initialiser, he_normal
from tinygrad_mask.nn.module import Module, Parameter
from tinygrad_mask.random import as_generator
from tinygrad_mask.tensor import Tensor


def check_groups(name: str, groups: int, in_channels: int, out_channels: int) -> None:
    """Raise `ValueError` unless the groups divide both numbers of channels."""
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{name}: expected groups to divide {in_channels} inputs and {out_channels} outputs, "
            f"got {groups}"
        )


_ANY_IMAGE = (1 << 30, 1 << 30)
"""The image on which a layer tries its options, to refuse wrong ones when it is made."""


class Conv2d(Module):
    """Convolution of images (N, H, W, in_channels) to (N, P, Q, out_channels).

    See `functions.conv2d`.
    """

    takes_activation = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
        init: Initialiser = he_normal,
    ) -> None:
        super().__init__()
        in_channels = as_size("Conv2d", "in_channels", in_channels, least=0)
        out_channels = as_size("Conv2d", "out_channels", out_channels, least=0)
        check_groups("Conv2d", groups, in_channels, out_channels)
        kernel_size = as_tuple(kernel_size)
        kernel = as_pair("Conv2d", "kernel_size", kernel_size)
        shape = (*kernel, in_channels // groups, out_channels)
        check_size("Conv2d", *shape)
        make_window(
            "Conv2d", _ANY_IMAGE, kernel, stride, padding, dilation
        )  # refuses what is wrong
        has_bias = as_flag("Conv2d", "bias", bias)
        self.weight = Parameter(init(shape, as_generator("Conv2d", rng)))
        self.bias: Parameter | None
        self.register_parameter(
            "bias", Parameter(np.zeros(out_channels, np.float32)) if has_bias else None
        )
        self.kernel_size, self.stride, self.padding, self.dilation, self.groups = (
            kernel_size,
            as_tuple(stride),
            as_tuple(padding),
            as_tuple(dilation),
            groups,
        )

    def forward(self, x: Tensor, activation: FusedActivation = "none") -> Tensor:
        """Map x (N, H, W, in_channels) to (N, P, Q, out_channels), and apply an activation."""
        if not isinstance(x, Tensor):
            refuse_input("Conv2d", x)
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
        kh, kw, inputs, outputs = _four(self.weight.shape)
        more = options_that_differ(self, stride=1, padding=0, dilation=1, groups=1)
        bias = "" if self.bias is not None else ", no bias"
        return f"Conv2d({inputs * self.groups} -> {outputs}, {kh}x{kw}{more}{bias})"


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a weight, of which somebody may have assigned another; -1 if it is none."""
    return shape if len(shape) == 4 else (-1,) * 4


class ConvTranspose2d(Module):
    """Transposed convolution: enlarges images (N, H, W, in_channels) to (N, P, Q, out_channels).

    The weight is (height, width, out_channels / groups, in_channels); see
    `functions.conv_transpose2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        *,
        rng: np.random.Generator | None = None,
        init: Initialiser = he_normal,
    ) -> None:
        super().__init__()
        name = "ConvTranspose2d"
        in_channels = as_size(name, "in_channels", in_channels)
        out_channels = as_size(name, "out_channels", out_channels)
        check_groups(name, groups, in_channels, out_channels)
        size = as_pair(name, "kernel_size", as_tuple(kernel_size))
        check_size(name, *size, in_channels, out_channels // groups)
        has_bias = as_flag(name, "bias", bias)
        # Drawn as a weight from in_channels to out_channels, so that fan-in and fan-out are right.
        drawn = init((*size, in_channels, out_channels // groups), as_generator(name, rng))
        self.weight = Parameter(np.ascontiguousarray(np.swapaxes(drawn, 2, 3)))
        self.bias: Parameter | None
        zeros = Parameter(np.zeros(out_channels, np.float32)) if has_bias else None
        self.register_parameter("bias", zeros)
        self.stride, self.padding = as_tuple(stride), as_tuple(padding)
        self.output_padding, self.dilation = as_tuple(output_padding), as_tuple(dilation)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, in_channels) to (N, P, Q, out_channels)."""
        if not isinstance(x, Tensor):
            refuse_input("ConvTranspose2d", x)
        return F.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )

    def describe(self) -> str:
        """Return channels and window, and of the rest what is not the default."""
        kh, kw, outputs, inputs = _four(self.weight.shape)
        more = options_that_differ(
            self, stride=1, padding=0, output_padding=0, dilation=1, groups=1
        )
        bias = "" if self.bias is not None else ", no bias"
        return f"ConvTranspose2d({inputs} -> {outputs * self.groups}, {kh}x{kw}{more}{bias})"
