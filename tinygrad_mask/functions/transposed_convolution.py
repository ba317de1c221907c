"""Transposed convolution, which enlarges images (NHWC)."""

from typing import TYPE_CHECKING

from tinygrad_mask.backends import Window
from tinygrad_mask.functions.convolution import (
    Conv2dGradInput,
    Padding,
    Pair,
    as_pair,
    make_window,
)
from tinygrad_mask.functions.shape import as_integers, check_size

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class ConvTranspose2dFunction(Conv2dGradInput):
    """The gradient of a convolution's input, by the name of what it is here."""

    name = "conv_transpose2d"


def conv_transpose2d(
    x: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> "Tensor":
    """Return the transposed convolution of `x` (N, H, W, C) with `weight`, (N, P, Q, K).

    It is the map that `conv2d` with the same arguments applies to gradients: each input pixel adds
    its multiple of the window to the result, `stride` pixels apart. `weight` is (height, width,
    K / groups, C), the weight of that convolution from K to C channels, as in Keras; PyTorch has it
    as (C, K / groups, height, width). `padding` is an integer, a pair, or two pairs of pixels that
    are cut off the result; `output_padding`, below `stride`, adds rows and columns at its end. P is
    (H - 1) * stride - (padding of both sides) + dilation * (height - 1) + output_padding + 1.

    Formula: Dumoulin and Visin 2016, section 4. Raises `ValueError` if something does not fit.
    """
    name = "conv_transpose2d"
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            f"{name}: expected an input of shape NHWC and a weight of shape HWOI, "
            f"got {x.shape} and {weight.shape}"
        )
    (groups,) = as_integers(name, "groups", (groups,))
    kh, kw, outputs, channels = weight.shape
    if x.shape[3] != channels:
        raise ValueError(
            f"{name}: weight expects {channels} input channels (HWOI {_by(weight)}), "
            f"input has {x.shape[3]} (NHWC {_by(x)})"
        )
    if groups < 1 or channels % groups:
        raise ValueError(
            f"{name}: expected groups to divide the {channels} input channels, got {groups}"
        )
    if kh == 0 or kw == 0:
        raise ValueError(f"{name}: expected a window of at least 1x1, got weight {_by(weight)}")
    if bias is not None and bias.shape != (outputs * groups,):
        raise ValueError(
            f"{name}: expected a bias of shape ({outputs * groups},), got {bias.shape}"
        )
    if padding == "same":
        raise ValueError(f"{name}: expected padding in pixels, got 'same'; stride sets the size")
    image, window = _enlarged(x.shape[1:3], (kh, kw), stride, padding, output_padding, dilation)
    shape = (x.shape[0], *image, outputs * groups)
    check_size(name, *shape)
    y = ConvTranspose2dFunction.apply(x, weight, input_shape=shape, window=window, groups=groups)
    return y if bias is None else y + bias


def _enlarged(
    image: tuple[int, ...],
    size: tuple[int, int],
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
) -> tuple[tuple[int, int], Window]:
    """The size of the result, and the window of the convolution that leads from it to `image`."""
    name = "conv_transpose2d"
    strides = as_pair(name, "stride", stride)
    dilations = as_pair(name, "dilation", dilation)
    extra = as_pair(name, "output_padding", output_padding, least=0)
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        raise ValueError(
            f"{name}: expected output_padding below stride, got {output_padding!r} and {stride!r}"
        )
    # The padding in its four numbers: a window of one pixel always fits.
    rows, columns = make_window(name, (1, 1), (1, 1), 1, padding).padding
    sides = [
        (n - 1) * s - sum(p) + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            image, strides, (rows, columns), dilations, size, extra, strict=True
        )
    ]
    if min(sides) < 1 or 0 in image:
        raise ValueError(
            f"{name}: expected a result of at least one pixel, got {sides[0]}x{sides[1]} for an "
            f"image of {image[0]}x{image[1]} with padding {padding!r}"
        )
    return (sides[0], sides[1]), Window(size, strides, (rows, columns), dilations)


def _by(tensor: "Tensor") -> str:
    return "x".join(map(str, tensor.shape))
