"""Launches of `interpolate.cu`: images of another size, and the gradient."""

import numpy as np

from tinygrad_mask.backends.gpu.channels import pack_size, rectangle
from tinygrad_mask.backends.interface import Array, Resize
from tinygrad_mask.backends.launcher import Launcher, c_type, check_shape

_WIDEST = 64  # threads of a block along the channels

_AXIS = np.dtype([("step", np.float64), ("in", np.int32), ("out", np.int32)])
_FIELDS = {
    "down": _AXIS,
    "across": _AXIS,
    "channels": np.int64,
    "images": np.int32,
    "centers": np.int32,
}
_SHAPE = np.dtype(list(_FIELDS.items()), align=True)


def interpolate(launcher: Launcher, x: Array, resize: Resize) -> Array:
    """Resize `x` (N, H, W, C) to (N, P, Q, C)."""
    y = launcher.xp.empty((x.shape[0], *resize.size, x.shape[3]), x.dtype)
    _launch(launcher, "interpolate", x.shape, resize, y.shape, [x, y])
    return y


def interpolate_grad(
    launcher: Launcher, grad_output: Array, input_shape: tuple[int, ...], resize: Resize
) -> Array:
    """From `grad_output` (N, P, Q, C) the gradient of the input, (N, H, W, C)."""
    n, _, _, c = input_shape
    check_shape("interpolate: grad_output", grad_output, (n, *resize.size, c))
    grad_input = launcher.xp.empty(input_shape, grad_output.dtype)
    arrays = [grad_output, grad_input]
    _launch(launcher, "interpolate_grad", input_shape, resize, input_shape, arrays)
    return grad_input


def _launch(
    launcher: Launcher,
    kernel: str,
    input_shape: tuple[int, ...],
    resize: Resize,
    written_shape: tuple[int, ...],
    arrays: list[Array],
) -> None:
    """Launch one thread per pack of channels of each pixel that is written."""
    n, h, w, channels = input_shape
    p, q = resize.size
    if max(n * h * w, n * p * q) >= 2**31:
        raise ValueError(
            f"interpolate: expected fewer than 2^31 pixels, got {n} images of {h}x{w} and {p}x{q}"
        )
    pixels = written_shape[0] * written_shape[1] * written_shape[2]
    if pixels == 0 or channels == 0:
        return
    down, across = ((step, a, b) for step, a, b in zip(resize.steps, (h, w), (p, q), strict=True))
    centers = resize.linear and not resize.align_corners
    shape = np.array((down, across, channels, n, centers), _SHAPE)
    size = pack_size(launcher, channels, *arrays)
    grid, block = rectangle(pixels, channels // size, _WIDEST)
    linear = "true" if resize.linear else "false"
    instance = f"{kernel}<{c_type(arrays[0])}, {linear}, {size}>"
    launcher.launch("interpolate.cu", instance, grid, block, [shape, *arrays])
