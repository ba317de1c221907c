"""Pooling layers; images are NHWC."""

import tinygrad_mask.functions as F
from tinygrad_mask.functions.convolution import Padding, Pair
from tinygrad_mask.nn.arguments import as_flag, as_tuple, options_that_differ
from tinygrad_mask.nn.module import Module
from tinygrad_mask.tensor import Tensor


class MaxPool2d(Module):
    """The maximum of each window; see `functions.max_pool2d`."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = 0,
        dilation: Pair = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = as_tuple(kernel_size), as_tuple(stride)
        self.padding, self.dilation = as_tuple(padding), as_tuple(dilation)
        self.ceil_mode = as_flag("MaxPool2d", "ceil_mode", ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, P, Q, C)."""
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def describe(self) -> str:
        """Return the window, and of the rest what is not the default."""
        more = options_that_differ(self, stride=None, padding=0, dilation=1, ceil_mode=False)
        return f"MaxPool2d({self.kernel_size}{more})"


class AvgPool2d(Module):
    """The mean of each window; see `functions.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = as_tuple(kernel_size), as_tuple(stride)
        self.padding = as_tuple(padding)
        self.ceil_mode = as_flag("AvgPool2d", "ceil_mode", ceil_mode)
        self.count_include_pad = as_flag("AvgPool2d", "count_include_pad", count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, P, Q, C)."""
        return F.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def describe(self) -> str:
        """Return the window, and of the rest what is not the default."""
        more = options_that_differ(
            self,
            stride=None,
            padding=0,
            ceil_mode=False,
            count_include_pad=True,
            divisor_override=None,
        )
        return f"AvgPool2d({self.kernel_size}{more})"


class GlobalAvgPool2d(Module):
    """The mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, C)."""
        return F.global_avg_pool2d(x)


class AdaptiveAvgPool2d(Module):
    """The means over a grid of cells, as many for every image size; see
    `functions.adaptive_avg_pool2d`.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = as_tuple(output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, P, Q, C)."""
        return F.adaptive_avg_pool2d(x, self.output_size)

    def describe(self) -> str:
        """Return the number of cells."""
        return f"AdaptiveAvgPool2d({self.output_size})"
