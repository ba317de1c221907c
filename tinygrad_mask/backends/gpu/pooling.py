"""Launches of `pool2d.cu`: max and average pooling, both ways."""

from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_mask.backends.gpu.channels import pack_size, rectangle
from tinygrad_mask.backends.interface import Array, Window
from tinygrad_mask.backends.launcher import Launcher, c_type, check_shape

_WIDEST = 64  # threads of a block along the channels

_AXIS = np.dtype(
    [(name, np.int32) for name in ("pixels", "windows", "taps", "stride", "padding", "dilation")]
)
_SHAPE = np.dtype(
    [("down", _AXIS), ("across", _AXIS), ("channels", np.int64), ("images", np.int32)], align=True
)
_TAPS = {np.dtype(np.uint8): "unsigned char", np.dtype(np.int32): "int"}


def max_pool2d(launcher: Launcher, x: Array, window: Window) -> tuple[Array, Array]:
    """The maximum of each window and the tap that held it, both (N, P, Q, C)."""
    output_shape = _output_shape(x.shape, window)
    y = launcher.xp.empty(output_shape, x.dtype)
    taps = launcher.xp.empty(
        output_shape, np.uint8 if window.size[0] * window.size[1] <= 256 else np.int32
    )
    kernel = f"max_pool2d<{c_type(x)}, {_TAPS[taps.dtype]}"
    _launch(launcher, kernel, x.shape, window, output_shape, [], [x, y, taps])
    return y, taps


def max_pool2d_grad(
    launcher: Launcher,
    grad_output: Array,
    taps: Array,
    input_shape: tuple[int, ...],
    window: Window,
) -> Array:
    """From `grad_output` and `taps` (N, P, Q, C) the gradient of the input, (N, H, W, C)."""
    if taps.dtype not in _TAPS:
        raise TypeError(f"max_pool2d: expected taps of uint8 or int32, got {taps.dtype}")
    check_shape("max_pool2d: grad_output", grad_output, _output_shape(input_shape, window))
    check_shape("max_pool2d: taps", taps, grad_output.shape)
    grad_input = launcher.xp.empty(input_shape, grad_output.dtype)
    kernel = f"max_pool2d_grad<{c_type(grad_output)}, {_TAPS[taps.dtype]}"
    arrays = [grad_output, taps, grad_input]
    _launch(launcher, kernel, input_shape, window, input_shape, [], arrays)
    return grad_input


def avg_pool2d(launcher: Launcher, x: Array, window: Window, count_include_pad: bool) -> Array:
    """The mean of each window, (N, P, Q, C)."""
    output_shape = _output_shape(x.shape, window)
    y = launcher.xp.empty(output_shape, x.dtype)
    settings = [np.bool_(count_include_pad)]
    kernel = f"avg_pool2d<{c_type(x)}"
    _launch(launcher, kernel, x.shape, window, output_shape, settings, [x, y])
    return y


def avg_pool2d_grad(
    launcher: Launcher,
    grad_output: Array,
    input_shape: tuple[int, ...],
    window: Window,
    count_include_pad: bool,
) -> Array:
    """From `grad_output` (N, P, Q, C) the gradient of the input, (N, H, W, C)."""
    check_shape("avg_pool2d: grad_output", grad_output, _output_shape(input_shape, window))
    grad_input = launcher.xp.empty(input_shape, grad_output.dtype)
    settings = [np.bool_(count_include_pad)]
    kernel = f"avg_pool2d_grad<{c_type(grad_output)}"
    arrays = [grad_output, grad_input]
    _launch(launcher, kernel, input_shape, window, input_shape, settings, arrays)
    return grad_input


def _output_shape(input_shape: tuple[int, ...], window: Window) -> tuple[int, ...]:
    n, h, w, c = input_shape
    return n, *window.output_size(h, w), c


def _launch(
    launcher: Launcher,
    kernel: str,
    input_shape: tuple[int, ...],
    window: Window,
    written_shape: tuple[int, ...],
    settings: list[Any],
    arrays: list[Array],
) -> None:
    """Launch a thread for every pack of channels of every pixel that is written."""
    channels = input_shape[3]
    pixels = written_shape[0] * written_shape[1] * written_shape[2]
    if pixels == 0 or channels == 0:
        return
    shape = _structure(input_shape, window)
    size = pack_size(launcher, channels, *arrays)
    grid, block = rectangle(pixels, channels // size, _WIDEST)
    launcher.launch("pool2d.cu", f"{kernel}, {size}>", grid, block, [shape, *settings, *arrays])


@lru_cache(maxsize=1024)
def _structure(input_shape: tuple[int, ...], window: Window) -> Array:
    """The sizes as the kernels get them, checked."""
    n, h, w, channels = input_shape
    p, q = window.output_size(h, w)
    reach = [size + sum(padding) for size, padding in zip((h, w), window.padding, strict=True)]
    # Half of what an int holds: the kernels add a step to a distance within the image's padding.
    if max(n * h * w, n * p * q, *(2 * length for length in reach)) >= 2**31:
        raise ValueError(
            f"pooling: expected fewer than 2^31 pixels, and 2^30 along an axis with its padding, "
            f"got {n} images of {h}x{w} and {p}x{q}, {window}"
        )
    # A stride or dilation that leads beyond the image, as it may where there is only one window or
    # tap, is cut down to what leads beyond it just so.
    axes = zip((h, w), (p, q), *window, reach, strict=True)
    down, across = (
        (pixels, windows, taps, min(stride, most), padding[0], min(dilation, most))
        for pixels, windows, taps, stride, padding, dilation, most in axes
    )
    return np.array((down, across, channels, n), _SHAPE)
