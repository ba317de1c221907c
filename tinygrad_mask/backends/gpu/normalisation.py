"""Launches of `batch_norm.cu`: statistics of a batch, normalisation, and its gradient."""

import math

import numpy as np

from tinygrad_mask.backends.gpu.channels import pack_size, rectangle
from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import Dim3, Launcher, c_type, ceil_div, check_shape

_FILE = "batch_norm.cu"

# Rows that a block adds up, unless that would make more than so many stretches: few enough that it
# finds them in the cache when it reads them again, and the partial results are little to read.
_ROWS_A_STRETCH = 256
_MOST_STRETCHES = 2048

_ROWS_A_THREAD = 8  # that share what a thread has loaded for its channels


def batch_norm_statistics(launcher: Launcher, x: Array) -> tuple[Array, Array]:
    """Mean and (biased) variance of `x` (..., C) over all axes but the last, each (C,)."""
    xp, kind = launcher.xp, c_type(x)
    rows, channels = _rows_and_channels(x)
    if x.size == 0:  # the mean of nothing
        return xp.full(channels, np.nan, x.dtype), xp.full(channels, np.nan, x.dtype)
    stretch, stretches = stretches_of(rows)
    means, squares = (xp.empty((stretches, channels), x.dtype) for _ in range(2))
    mean, variance = (xp.empty(channels, x.dtype) for _ in range(2))
    sizes = [np.int64(rows), np.int64(channels), np.int64(stretch)]
    grid, block = stretch_threads(stretches, channels)
    launcher.launch(_FILE, f"batch_norm_moments<{kind}>", grid, block, [*sizes, x, means, squares])
    grid, block = total_threads(channels)
    arguments = [*sizes, np.int64(stretches), means, squares, mean, variance]
    launcher.launch(_FILE, f"batch_norm_statistics<{kind}>", grid, block, arguments)
    return mean, variance


def batch_norm(
    launcher: Launcher, x: Array, weight: Array, bias: Array, mean: Array, inverse_std: Array
) -> Array:
    """`(x - mean) * inverse_std * weight + bias`; x (..., C), the others (C,)."""
    kind = c_type(x, weight, bias, mean, inverse_std)
    _check_channels(x, weight=weight, bias=bias, mean=mean, inverse_std=inverse_std)
    y = launcher.xp.empty(x.shape, x.dtype)
    arrays = [x, weight, bias, mean, inverse_std, y]
    if x.size:
        rows, channels = _rows_and_channels(x)
        size = pack_size(launcher, channels, *arrays)
        grid, block, rows_a_block = row_threads(rows, channels // size)
        sizes = [np.int64(rows), np.int64(channels), np.int64(rows_a_block)]
        launcher.launch(_FILE, f"batch_norm<{kind}, {size}>", grid, block, [*sizes, *arrays])
    return y


def batch_norm_grad(
    launcher: Launcher,
    grad_output: Array,
    x: Array,
    weight: Array,
    mean: Array,
    inverse_std: Array,
    training: bool,
) -> tuple[Array, Array, Array]:
    """The gradients of x (..., C), weight (C,) and bias (C,)."""
    xp, kind = launcher.xp, c_type(grad_output, x, weight, mean, inverse_std)
    check_shape("batch_norm: grad_output", grad_output, x.shape)
    _check_channels(x, weight=weight, mean=mean, inverse_std=inverse_std)
    rows, channels = _rows_and_channels(x)
    grad_input = xp.empty(x.shape, x.dtype)
    if x.size == 0:
        return grad_input, xp.zeros(channels, x.dtype), xp.zeros(channels, x.dtype)
    stretch, stretches = stretches_of(rows)
    weight_sums, bias_sums = (xp.empty((stretches, channels), x.dtype) for _ in range(2))
    grad_weight, grad_bias = (xp.empty(channels, x.dtype) for _ in range(2))
    grid, block = stretch_threads(stretches, channels)
    sizes = [np.int64(rows), np.int64(channels)]
    inputs = [grad_output, x, mean, inverse_std]
    launcher.launch(
        _FILE,
        f"batch_norm_grad_sums<{kind}>",
        grid,
        block,
        [*sizes, np.int64(stretch), *inputs, weight_sums, bias_sums],
    )
    grid, block = total_threads(channels)
    arrays = [weight_sums, bias_sums, grad_weight, grad_bias]
    launcher.launch(
        _FILE,
        f"batch_norm_grad_totals<{kind}>",
        grid,
        block,
        [np.int64(channels), np.int64(stretches), *arrays],
    )
    arrays = [grad_output, x, weight, mean, inverse_std, grad_weight, grad_bias, grad_input]
    size = pack_size(launcher, channels, *arrays)
    grid, block, rows_a_block = row_threads(rows, channels // size)
    launcher.launch(
        _FILE,
        f"batch_norm_grad_input<{kind}, {size}>",
        grid,
        block,
        [*sizes, np.int64(rows_a_block), np.bool_(training), *arrays],
    )
    return grad_input, grad_weight, grad_bias


def _check_channels(x: Array, **arrays: Array) -> None:
    for name, array in arrays.items():
        check_shape(f"batch_norm: {name}", array, x.shape[-1:])


def _rows_and_channels(x: Array) -> tuple[int, int]:
    return math.prod(x.shape[:-1]), x.shape[-1]


def stretches_of(rows: int) -> tuple[int, int]:
    """How many rows a block adds up, and how many such stretches there are."""
    stretch = max(_ROWS_A_STRETCH, ceil_div(rows, _MOST_STRETCHES))
    return stretch, ceil_div(rows, stretch)


def stretch_threads(stretches: int, channels: int) -> tuple[Dim3, Dim3]:
    """A block for each stretch and up to 32 channels, a warp's width."""
    (_, across, _), block = rectangle(1, channels, 32)
    return (stretches, across, 1), block


def total_threads(channels: int) -> tuple[Dim3, Dim3]:
    """A block for up to 8 channels, as many as a sector has; the rest go through stretches."""
    (_, across, _), block = rectangle(1, channels, 8)
    return (1, across, 1), block


def row_threads(rows: int, packs: int) -> tuple[Dim3, Dim3, int]:
    """Grid and block over rows and packs of channels, and how many rows a block has."""
    (_, across, _), block = rectangle(1, packs, 64)
    rows_a_block = block[1] * _ROWS_A_THREAD
    return (ceil_div(rows, rows_a_block), across, 1), block, rows_a_block
