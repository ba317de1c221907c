"""Launches of `group_norm.cu`: group and layer normalisation, and the gradient."""

import numpy as np

from tinygrad_mask.backends.gpu.channels import THREADS, pack_size
from tinygrad_mask.backends.gpu.normalisation import (
    row_threads,
    stretch_threads,
    stretches_of,
    total_threads,
)
from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import Dim3, Launcher, c_type, ceil_div, check_shape

_FILE = "group_norm.cu"

_FIELDS = ("images", "pixels", "channels", "groups", "width", "stretch", "stretches")
_SHAPE = np.dtype([(name, np.int64) for name in _FIELDS], align=True)

# Elements of a set that a block adds up, unless that would make more than so many stretches.
_ELEMENTS_PER_STRETCH = 64 * THREADS
_MOST_STRETCHES = 1024


def group_norm(
    launcher: Launcher,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    groups: int,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Normalise `x` (N, P, C) by groups of channels; the result, and mean and inverse standard
    deviation, both (N, groups).
    """
    xp, kind = launcher.xp, c_type(x, weight, bias)
    _check_channels(x, weight=weight, bias=bias)
    y = xp.empty(x.shape, x.dtype)
    mean, inverse_std = (xp.empty((x.shape[0], groups), x.dtype) for _ in range(2))
    if x.size == 0:
        return y, mean, inverse_std
    shape = _structure(x, groups)
    sets, stretches = x.shape[0] * groups, int(shape["stretches"])
    moments = xp.empty((sets, stretches, 2), np.float64)
    grid, block = _set_threads(shape)
    launcher.launch(_FILE, f"group_norm_moments<{kind}>", grid, block, [shape, x, moments])
    arguments = [shape, np.float64(eps), moments, mean, inverse_std]
    grid, block = _one_thread_each(sets)
    launcher.launch(_FILE, f"group_norm_statistics<{kind}>", grid, block, arguments)
    _launch_rows(launcher, "group_norm", shape, [x, weight, bias, mean, inverse_std, y])
    return y, mean, inverse_std


def group_norm_grad(
    launcher: Launcher,
    grad_output: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    inverse_std: Array,
) -> tuple[Array, Array, Array]:
    """The gradients of x (N, P, C), weight (C,) and bias (C,)."""
    xp, kind = launcher.xp, c_type(grad_output, x, weight, mean, inverse_std)
    _check_channels(x, weight=weight)
    check_shape("group_norm: grad_output", grad_output, x.shape)
    groups, channels = mean.shape[1], x.shape[2]
    check_shape("group_norm: mean", mean, (x.shape[0], groups))
    check_shape("group_norm: inverse_std", inverse_std, mean.shape)
    grad_input = xp.empty(x.shape, x.dtype)
    if x.size == 0:
        return grad_input, xp.zeros(channels, x.dtype), xp.zeros(channels, x.dtype)
    shape = _structure(x, groups)
    sets, stretches = x.shape[0] * groups, int(shape["stretches"])
    sums, means = xp.empty((sets, stretches, 2), np.float64), xp.empty((sets, 2), x.dtype)
    grid, block = _set_threads(shape)
    arguments = [shape, grad_output, x, weight, mean, inverse_std, sums]
    launcher.launch(_FILE, f"group_norm_grad_sums<{kind}>", grid, block, arguments)
    grid, block = _one_thread_each(sets)
    launcher.launch(_FILE, f"group_norm_grad_means<{kind}>", grid, block, [shape, sums, means])
    arrays = [grad_output, x, weight, mean, inverse_std, means, grad_input]
    _launch_rows(launcher, "group_norm_grad_input", shape, arrays)

    stretch, stretches = stretches_of(x.shape[0] * x.shape[1])
    weight_sums, bias_sums = (xp.empty((stretches, channels), x.dtype) for _ in range(2))
    grad_weight, grad_bias = (xp.empty(channels, x.dtype) for _ in range(2))
    grid, block = stretch_threads(stretches, channels)
    inputs = [grad_output, x, mean, inverse_std, weight_sums, bias_sums]
    arguments = [shape, np.int64(stretch), *inputs]
    launcher.launch(_FILE, f"group_norm_grad_weight<{kind}>", grid, block, arguments)
    grid, block = total_threads(channels)
    arguments = [np.int64(channels), np.int64(stretches), weight_sums, bias_sums]
    launcher.launch(
        "batch_norm.cu",
        f"batch_norm_grad_totals<{kind}>",
        grid,
        block,
        [*arguments, grad_weight, grad_bias],
    )
    return grad_input, grad_weight, grad_bias


def _check_channels(x: Array, **arrays: Array | None) -> None:
    for name, array in arrays.items():
        check_shape(f"group_norm: {name}", array, x.shape[-1:])


def _structure(x: Array, groups: int) -> Array:
    """The sizes as the kernels get them, checked."""
    images, pixels, channels = x.shape
    if groups < 1 or channels % groups:
        raise ValueError(f"group_norm: {groups} groups do not fit an input {x.shape}")
    width = channels // groups
    elements = pixels * width
    stretch = max(_ELEMENTS_PER_STRETCH, ceil_div(elements, _MOST_STRETCHES))
    sizes = (images, pixels, channels, groups, width, stretch, ceil_div(elements, stretch))
    return np.array(sizes, _SHAPE)


def _set_threads(shape: Array) -> tuple[Dim3, Dim3]:
    """A block for each stretch of a set, or for several sets that are smaller than a block."""
    elements = min(int(shape["pixels"] * shape["width"]), int(shape["stretch"]))
    across = min(THREADS, max(1 << (elements - 1).bit_length(), 8))
    # Several elements per thread, if there are: fewer steps to add up what the threads come to.
    across = max(min(across, 32), across // 8)
    sets = int(shape["images"] * shape["groups"])
    down = THREADS // across
    return (ceil_div(sets, down), int(shape["stretches"]), 1), (across, down, 1)


def _one_thread_each(count: int) -> tuple[Dim3, Dim3]:
    return (ceil_div(count, THREADS), 1, 1), (THREADS, 1, 1)


def _launch_rows(launcher: Launcher, kernel: str, shape: Array, arrays: list[Array | None]) -> None:
    """Launch a thread for each pack of channels and some rows."""
    given = [array for array in arrays if array is not None]
    size = pack_size(launcher, int(shape["width"]), *given)
    rows, channels = int(shape["images"] * shape["pixels"]), int(shape["channels"])
    grid, block, rows_a_block = row_threads(rows, channels // size)
    instance = f"{kernel}<{c_type(given[0])}, {size}>"
    launcher.launch(_FILE, instance, grid, block, [shape, np.int64(rows_a_block), *arrays])
