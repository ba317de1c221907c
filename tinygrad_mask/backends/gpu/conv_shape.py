"""The sizes of a convolution as its kernels get them, checked to go together and to fit an int."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from tinygrad_mask.backends.gpu.tiles import MOST, SLICE
from tinygrad_mask.backends.interface import Array, Window
from tinygrad_mask.backends.launcher import int32

_IMAGES = ["n", "h", "w", "c", "kh", "kw", "o", "p", "q"]
_STEPS = ["stride_h", "stride_w", "top", "left", "dilation_h", "dilation_w", "groups"]
SHAPE = np.dtype([(name, np.int32) for name in _IMAGES + _STEPS], align=True)
"""`Conv2dShape` of conv2d.cuh."""


@dataclass(frozen=True)
class ConvShape:
    """The sizes of a convolution, checked: all that the kernels count with ints fits an int."""

    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    window: Window
    groups: int

    def __post_init__(self) -> None:
        (n, h, w, c), (kh, kw, channels, o) = self.input_shape, self.weight_shape
        if (kh, kw) != self.window.size or channels * self.groups != c or o % self.groups:
            raise ValueError(
                f"conv2d: input {self.input_shape}, weight {self.weight_shape}, {self.window} and "
                f"{self.groups} groups do not go together"
            )
        (p, q), (rows, columns) = self.result_size, self.window.padding
        (stride_h, stride_w), (dilation_h, dilation_w) = self.window.stride, self.window.dilation
        width = w + sum(columns)
        # Of the results that a pixel takes part in, from the first to the last.
        met = (kh - 1) * dilation_h // stride_h * q + (kw - 1) * dilation_w // stride_w + 1
        sizes = {
            # Twice: an offset may be that of a window that begins beyond the image's edge.
            "an image with its padding": 2 * (h + sum(rows)) * width * c,
            # So many windows the weight's gradient steps over at a time.
            "a slice of windows": SLICE * min(stride_w, width) * c,
            "a result's image": p * q * o,
            "what a pixel takes part in": met * o,
            "the weight": kh * kw * channels * o,
            "the pixels of all images": n * h * w,
            "the pixels of all results": n * p * q,
        }
        for what, size in sizes.items():
            if size > MOST:
                raise ValueError(
                    f"conv2d: {what} has too many elements for the kernels: input "
                    f"{self.input_shape}, weight {self.weight_shape}, {self.window}"
                )

    @cached_property
    def result_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.window.output_size(*self.input_shape[1:3])

    @property
    def result_shape(self) -> tuple[int, int, int, int]:
        """(N, P, Q, O)."""
        return (self.input_shape[0], *self.result_size, self.weight_shape[3])

    @property
    def pixels(self) -> int:
        """How many pixels all results have."""
        return math.prod(self.result_shape[:3])

    @property
    def channels(self) -> int:
        """The channels of a group."""
        return self.weight_shape[2]

    @property
    def outputs(self) -> int:
        """The outputs of a group."""
        return self.weight_shape[3] // self.groups

    @property
    def taps(self) -> int:
        """How many taps the window has."""
        return self.weight_shape[0] * self.weight_shape[1]

    @cached_property
    def is_matrix_product(self) -> bool:
        """Whether what all windows meet lies in memory as the rows of a matrix."""
        size, stride, padding, dilation = self.window
        if self.groups > 1 or padding != ((0, 0), (0, 0)):
            return False
        image = self.input_shape[1:3]
        return (size == (1, 1) and stride == (1, 1)) or (size == image and dilation == (1, 1))

    @property
    def is_depthwise(self) -> bool:
        """Whether each group has a single channel."""
        return self.groups > 1 and self.channels == 1

    @cached_property
    def struct(self) -> Array:
        """The sizes as the kernels get them.

        A stride or dilation that leads beyond the image, as it may where there is only one result
        or tap, is cut down to what leads beyond it just so.
        """
        _, h, w, _ = self.input_shape
        kh, kw, _, o = self.weight_shape
        _, stride, (rows, columns), dilation = self.window
        reach = h + sum(rows), w + sum(columns)
        steps = [min(step, most) for step, most in zip(stride + dilation, reach * 2, strict=True)]
        images = *self.input_shape, kh, kw, o, *self.result_size
        sizes = *images, *steps[:2], rows[0], columns[0], *steps[2:], self.groups
        return np.array(tuple(int32(size) for size in sizes), SHAPE)

    def steps(self, name: str) -> tuple[int, int]:
        """The `stride` or `dilation` in `struct`."""
        return int(self.struct[f"{name}_h"]), int(self.struct[f"{name}_w"])


conv_shape = lru_cache(maxsize=1024)(ConvShape)
"""`ConvShape`, the same object for the same sizes: a network has the same layers in every step."""
