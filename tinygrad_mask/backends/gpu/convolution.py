"""Launches the kernels of convolution (kernels/cuda/conv2d*.cu, few_channels.cu, depthwise.cu).

Which of them a problem gets:

- a window of one pixel, or one that covers the whole image, is a matrix product of what lies in
  memory already (matmul.cu);
- groups of one channel are a depthwise convolution (depthwise.cu);
- one to three channels, and few enough taps for the shared memory: few_channels.cu;
- all else is a matrix product whose left factor is gathered as it is needed (conv2d*.cu).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tinygrad_mask.backends.gpu.activation import activation_grad
from tinygrad_mask.backends.gpu.conv_shape import ConvShape, conv_shape
from tinygrad_mask.backends.gpu.matmul import linear, linear_grad, parts_of, sum_splits
from tinygrad_mask.backends.gpu.tiles import (
    ACTIVATIONS,
    choose_split,
    choose_tile,
)
from tinygrad_mask.backends.interface import Array, FusedActivation, Window
from tinygrad_mask.backends.launcher import (
    VECTOR_BYTES,
    Dim3,
    Launcher,
    c_type,
    ceil_div,
    check_shape,
    int32,
)

# few_channels.cu: the pixels in a row of a block's, its outputs and threads, and the rows of pixels
# of a tile; and what the kernels may have of shared memory without asking for more.
_FEW_COLUMNS, _FEW_OUTPUTS, _FEW_TAPS, _FEW_THREADS = 32, 32, 32, 128
_FEW_ROWS, _FEW_GRADIENT_ROWS = 8, 4
_SHARED_BYTES = 48 * 1024

# depthwise.cu: threads of a block, pixels of a thread, taps of a block.
_DEPTHWISE_THREADS, _DEPTHWISE_PIXELS, _DEPTHWISE_TAPS = 256, 4, 4


# --- the three kernels ----------------------------------------------------------------------------


def conv2d(
    launcher: Launcher,
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int,
    activation: FusedActivation = "none",
) -> Array:
    """The activation of `x` (N, H, W, C) cross-correlated with `weight`, plus `bias`; (N, P, Q, O).

    `weight` is (KH, KW, C / groups, O), `bias` (O,). Raises `ValueError` where sizes are beyond
    what the kernels count with.
    """
    s = conv_shape(x.shape, weight.shape, window, groups)
    element = c_type(x, weight, bias)
    check_shape("conv2d: bias", bias, weight.shape[3:])
    if s.is_matrix_product:
        rows, kernel = _as_rows(x, s), weight.reshape(s.taps * s.channels, weight.shape[3])
        return linear(launcher, rows, kernel, bias, activation).reshape(s.result_shape)
    y = launcher.xp.empty(s.result_shape, x.dtype)
    if y.size == 0:
        return y
    arguments = (s.struct, x, weight, bias, ACTIVATIONS[activation], y)
    if s.is_depthwise:
        packs = _depthwise_packs(launcher, s, x, weight, bias, y)
        strips = s.pixels // s.result_size[1] * ceil_div(s.result_size[1], _DEPTHWISE_PIXELS)
        threads = strips * (weight.shape[3] // packs)
        _launch_threads(launcher, f"depthwise<{element}, {packs}>", threads, arguments)
        return y
    if _few_channels_fit(launcher, s, element, _FEW_ROWS, bias, y):
        tiles = _few_tiles(s, _FEW_ROWS) * ceil_div(weight.shape[3], _FEW_OUTPUTS)
        launcher.launch(
            "few_channels.cu",
            f"conv2d_few_channels<{element}, {x.shape[3]}, {s.steps('stride')[1]}>",
            (tiles, 1, 1),
            (_FEW_THREADS, 1, 1),
            arguments,
            shared_bytes=_few_bytes(s, _FEW_ROWS),
        )
        return y
    packs = s.channels % 4 == 0 and launcher.aligned(x, weight, y)
    depth = s.taps * s.channels
    choice = choose_tile(element, s.pixels, s.outputs, groups, depth, packs=packs, along=True)
    whole = choice.splits == 1
    parts = parts_of(launcher, y, choice.splits)
    launcher.launch(
        "conv2d.cu",
        f"conv2d<{choice.type}, {choice.a}, {choice.c}>",
        (choice.splits * groups * choice.tile.blocks(s.pixels, s.outputs), 1, 1),
        (choice.tile.threads, 1, 1),
        (
            s.struct,
            x,
            weight,
            bias if whole else None,
            ACTIVATIONS[activation if whole else "none"],
            int32(choice.split),
            parts,
        ),
    )
    sum_splits(launcher, parts, y, bias, activation)
    return y


def conv2d_grad_input(
    launcher: Launcher,
    grad_output: Array,
    weight: Array,
    input_shape: tuple[int, ...],
    window: Window,
    groups: int,
    activation: FusedActivation = "none",
    y: Array | None = None,
) -> Array:
    """From `grad_output` (N, P, Q, O) the gradient of the input, (N, H, W, C)."""
    s = conv_shape(tuple(input_shape), weight.shape, window, groups)
    element = c_type(grad_output, weight, y)
    check_shape("conv2d: grad_output", grad_output, s.result_shape)
    check_shape("conv2d: y", y, s.result_shape)
    if s.is_matrix_product:
        needed = True, False, False
        rows, _, _ = linear_grad(
            launcher,
            _as_matrix(grad_output),
            None,
            weight.reshape(s.taps * s.channels, weight.shape[3]),
            activation,
            None if y is None else _as_matrix(y),
            needed,
        )
        assert rows is not None
        return rows.reshape(input_shape)
    grad_input = launcher.xp.empty(input_shape, grad_output.dtype)
    if grad_input.size == 0:
        return grad_input
    y = None if activation == "none" else y
    n, h, w, c = input_shape
    stride, dilation = s.steps("stride"), s.steps("dilation")
    if s.is_depthwise:
        packs = _depthwise_packs(launcher, s, grad_output, weight, y, grad_input)
        steps = (int32(a // math.gcd(a, b)) for a, b in zip(stride, dilation, strict=True))
        _launch_threads(
            launcher,
            f"depthwise_grad_input<{element}, {packs}, {_bool(y)}>",
            n * h * w * (c // packs),
            (s.struct, *steps, grad_output, y, weight, ACTIVATIONS[activation], grad_input),
        )
        return grad_input
    phases = min(stride[0], h) * min(stride[1], w)
    most = n * ceil_div(h, stride[0]) * ceil_div(w, stride[1])  # pixels of a phase
    packs = s.outputs % 4 == 0 and launcher.aligned(grad_output, weight, y, grad_input)
    most_taps = math.prod(
        ceil_div(taps, a // math.gcd(a, b))
        for taps, a, b in zip(weight.shape[:2], stride, dilation, strict=True)
    )
    depth = most_taps * s.outputs  # of the phase with most taps
    choice = choose_tile(element, most, s.channels, groups * phases, depth, packs=packs, along=True)
    if choice.a == 1 and y is not None:  # such tiles take no gradients of activations
        grad_output = activation_grad(launcher, activation, grad_output, y)
        activation, y = "none", None
    parts = parts_of(launcher, grad_input, choice.splits)
    launcher.launch(
        "conv2d_grad_input.cu",
        f"conv2d_grad_input<{choice.type}, {choice.a}, {choice.c}, {_bool(y)}>",
        (choice.splits * groups * phases * choice.tile.blocks(most, s.channels), 1, 1),
        (choice.tile.threads, 1, 1),
        (s.struct, grad_output, y, weight, ACTIVATIONS[activation], int32(choice.split), parts),
    )
    sum_splits(launcher, parts, grad_input)
    return grad_input


def conv2d_grad_weight(
    launcher: Launcher,
    grad_output: Array,
    x: Array,
    weight_shape: tuple[int, ...],
    window: Window,
    groups: int,
    activation: FusedActivation = "none",
    y: Array | None = None,
) -> tuple[Array, Array]:
    """From `grad_output` (N, P, Q, O) the gradients of the weight, (KH, KW, C / groups, O), and of
    the bias, (O,).
    """
    s = conv_shape(x.shape, tuple(weight_shape), window, groups)
    element, xp = c_type(grad_output, x, y), launcher.xp
    outputs = weight_shape[3]
    check_shape("conv2d: grad_output", grad_output, s.result_shape)
    check_shape("conv2d: y", y, s.result_shape)
    if s.pixels == 0 or outputs == 0:
        return xp.zeros(weight_shape, x.dtype), xp.zeros(outputs, x.dtype)
    if s.is_matrix_product:
        needed = False, True, True
        _, grad_weight, grad_bias = linear_grad(
            launcher,
            _as_matrix(grad_output),
            _as_rows(x, s),
            None,
            activation,
            None if y is None else _as_matrix(y),
            needed,
        )
        assert grad_weight is not None
        assert grad_bias is not None
        return grad_weight.reshape(weight_shape), grad_bias
    y = None if activation == "none" else y
    how = _sum_over_pixels(launcher, s, element, grad_output, x, y)
    if how.before and y is not None:
        grad_output = activation_grad(launcher, activation, grad_output, y)
        activation, y = "none", None
    splits = ceil_div(how.length, how.split)
    grad_weight, grad_bias = xp.empty(weight_shape, x.dtype), xp.empty(outputs, x.dtype)
    weight_parts = parts_of(launcher, grad_weight, splits)
    bias_parts = parts_of(launcher, grad_bias, splits)
    launcher.launch(
        how.file,
        f"{how.kernel}, {_bool(y)}>",
        (how.blocks * splits, 1, 1),
        how.threads,
        (
            s.struct,
            grad_output,
            y,
            x,
            ACTIVATIONS[activation],
            int32(how.split),
            weight_parts,
            bias_parts,
        ),
        shared_bytes=how.shared_bytes,
    )
    sum_splits(launcher, weight_parts, grad_weight)
    sum_splits(launcher, bias_parts, grad_bias)
    return grad_weight, grad_bias


class _Sum(NamedTuple):
    """How the sums of the weight's gradient over all pixels are computed."""

    file: str
    kernel: str
    """But for its last parameter, whether there was an activation."""

    threads: Dim3
    blocks: int
    """For each split."""

    length: int
    split: int
    """How much there is to sum up, in pixels or tiles of them, and how much of it is a split."""

    shared_bytes: int = 0
    before: bool = False
    """Whether the gradient of an activation is to be applied beforehand."""


def _sum_over_pixels(
    launcher: Launcher, s: ConvShape, element: str, grad_output: Array, x: Array, y: Array | None
) -> _Sum:
    kh, kw, channels, outputs = s.weight_shape
    if s.is_depthwise:
        packs = _depthwise_packs(launcher, s, grad_output, x, y)
        width = min(32, 1 << (outputs // packs - 1).bit_length())
        threads = width, _DEPTHWISE_THREADS // width, 1
        blocks = ceil_div(outputs, width * packs) * kh * ceil_div(kw, _DEPTHWISE_TAPS)
        split = choose_split(s.pixels, blocks, 4, least=32 * threads[1])
        kernel = f"depthwise_grad_weight<{element}, {packs}"
        return _Sum("depthwise.cu", kernel, threads, blocks, s.pixels, split)
    if _few_channels_fit(launcher, s, element, _FEW_GRADIENT_ROWS, grad_output, y):
        blocks = ceil_div(outputs, _FEW_OUTPUTS) * ceil_div(s.taps * channels, _FEW_TAPS)
        tiles = _few_tiles(s, _FEW_GRADIENT_ROWS)
        return _Sum(
            "few_channels.cu",
            f"conv2d_few_channels_grad_weight<{element}, {channels}, {s.steps('stride')[1]}",
            (_FEW_THREADS, 1, 1),
            blocks,
            tiles,
            choose_split(tiles, blocks, 4, least=2),
            _few_bytes(s, _FEW_GRADIENT_ROWS),
        )
    rows = s.taps * channels
    packs = channels % 4 == 0 and launcher.aligned(grad_output, x, y)
    choice = choose_tile(element, rows, s.outputs, s.groups, s.pixels, packs=packs, along=False)
    tile = choice.tile
    return _Sum(
        "conv2d_grad_weight.cu",
        f"conv2d_grad_weight<{choice.type}, {choice.a}, {choice.c}",
        (tile.threads, 1, 1),
        s.groups * tile.blocks(rows, s.outputs),
        s.pixels,
        choice.split,
        before=choice.a == 1,
    )


# --- what they share ------------------------------------------------------------------------------


def _bool(y: Array | None) -> str:
    return "false" if y is None else "true"


def _as_rows(x: Array, s: ConvShape) -> Array:
    """What each window meets, where `is_matrix_product`: a view (pixels, taps * channels)."""
    return x.reshape(s.pixels, s.taps * s.channels)


def _as_matrix(array: Array) -> Array:
    """One row a pixel; a view."""
    return array.reshape(math.prod(array.shape[:3]), array.shape[3])


def _depthwise_packs(launcher: Launcher, s: ConvShape, *arrays: Array | None) -> int:
    """How many channels a thread takes at a time."""
    itemsize = next(a.dtype.itemsize for a in arrays if a is not None)
    size = VECTOR_BYTES // itemsize
    channels = s.input_shape[3]
    whole = channels == s.weight_shape[3] and channels % size == 0 and launcher.aligned(*arrays)
    return size if whole else 1


def _launch_threads(
    launcher: Launcher, kernel: str, threads: int, arguments: Sequence[Any]
) -> None:
    """Launch a kernel of depthwise.cu with so many threads in a row."""
    count = int32(ceil_div(threads, _DEPTHWISE_THREADS) * _DEPTHWISE_THREADS)
    grid = int(count) // _DEPTHWISE_THREADS, 1, 1
    launcher.launch("depthwise.cu", kernel, grid, (_DEPTHWISE_THREADS, 1, 1), arguments)


def _few_channels_fit(
    launcher: Launcher, s: ConvShape, element: str, rows: int, *arrays: Array | None
) -> bool:
    """Whether few_channels.cu takes the problem; `arrays` are those that it accesses by packs."""
    return (
        element == "float"
        and s.groups == 1
        and 1 <= s.channels <= 3
        and s.weight_shape[3] % 4 == 0
        and launcher.aligned(*arrays)
        and _few_bytes(s, rows) <= _SHARED_BYTES
    )


def _few_tiles(s: ConvShape, rows: int) -> int:
    p, q = s.result_size
    return s.input_shape[0] * ceil_div(p, rows) * ceil_div(q, _FEW_COLUMNS)


def _few_bytes(s: ConvShape, rows: int) -> int:
    """The shared memory of a block with tiles of so many rows: `Patch`, and what lies before it."""
    kh, kw, channels, _ = s.weight_shape
    (stride_h, stride_w), (dilation_h, dilation_w) = s.steps("stride"), s.steps("dilation")
    width = ((_FEW_COLUMNS - 1) * stride_w + (kw - 1) * dilation_w + 1) * channels
    pitch = width + (kw * channels + 1 - width) % 32
    height = (rows - 1) * stride_h + (kh - 1) * dilation_h + 1
    if rows == _FEW_ROWS:
        before = kh * kw * channels * _FEW_OUTPUTS  # the weight
    else:
        before = rows * _FEW_COLUMNS * (_FEW_OUTPUTS + 4)  # the gradients
    return 4 * (before + pitch * height)
