"""Launches the kernels of matrix products (kernels/cuda/matmul.cu)."""

import math
from functools import partial

import numpy as np

from tinygrad_mask.backends.gpu.activation import activation_grad
from tinygrad_mask.backends.gpu.tiles import ACTIVATIONS, MOST, choose_tile
from tinygrad_mask.backends.interface import Array, FusedActivation
from tinygrad_mask.backends.launcher import Launcher, c_type, ceil_div, check_shape, int32

SHAPE = np.dtype([(name, np.int32) for name in ("m", "n", "k", "batch", "split")], align=True)
"""`MatmulShape` of matmul.cu."""


def linear(
    launcher: Launcher, x: Array, weight: Array, bias: Array | None, activation: FusedActivation
) -> Array:
    """The activation of `x @ weight + bias`; x (M, K), weight (K, N), bias (N,); (M, N)."""
    return multiply(launcher, x, weight, bias=bias, activation=activation)[0]


def linear_grad(
    launcher: Launcher,
    grad_output: Array,
    x: Array | None,
    weight: Array | None,
    activation: FusedActivation,
    y: Array | None,
    needed: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """From `grad_output` (M, N) the gradients of x, weight and bias, those that are needed.

    `x` may be None where the weight's gradient is not needed, `weight` where x's is not.
    """
    grad_x = grad_weight = grad_bias = None
    multiply_gated = partial(
        multiply, launcher, gate=activation, outputs=None if activation == "none" else y
    )
    if needed[0]:
        assert weight is not None
        grad_x, _ = multiply_gated(grad_output, weight, right_transposed=True)
    if needed[1] or needed[2]:
        if x is None:  # of no columns: only the sums are wanted
            x = launcher.xp.empty((grad_output.shape[0], 0), grad_output.dtype)
        grad_weight, grad_bias = multiply_gated(x, grad_output, left_transposed=True, sums=True)
    return grad_x, grad_weight if needed[1] else None, grad_bias if needed[2] else None


def multiply(
    launcher: Launcher,
    left: Array,
    right: Array,
    *,
    left_transposed: bool = False,
    right_transposed: bool = False,
    bias: Array | None = None,
    activation: FusedActivation = "none",
    gate: FusedActivation = "none",
    outputs: Array | None = None,
    sums: bool = False,
) -> tuple[Array, Array | None]:
    """The activation of `left @ right + bias`, of which one factor may be given as its transpose.

    `outputs` are those of the activation `gate`, whose derivative is applied to `left`, or with
    `left_transposed` to `right`. With `sums`, which goes with `left_transposed` and two axes, the
    second result are the sums of right's columns (N,).
    """
    xp, element = launcher.xp, c_type(left, right, bias, outputs)
    lead = left.shape[:-2]
    m, k = left.shape[-2:][:: -1 if left_transposed else 1]
    n = right.shape[-2 if right_transposed else -1]
    check_shape("matmul: right", right, (*lead, *((n, k) if right_transposed else (k, n))))
    check_shape("matmul: bias", bias, (n,))
    check_shape("matmul: outputs", outputs, (right if left_transposed else left).shape)
    batch = math.prod(lead)
    result = xp.empty((*lead, m, n), left.dtype)
    column_sums = xp.empty(n, left.dtype) if sums else None
    if result.size == 0 and not (sums and n):
        return result, column_sums

    if max(m, n, k, batch) > MOST:
        raise ValueError(
            f"matmul: an axis is too long for the kernels: {left.shape} and {right.shape}"
        )
    packs = (m if left_transposed else k) % 4 == 0 and launcher.aligned(
        left, right, outputs, result
    )
    choice = choose_tile(element, m, n, batch, k, packs=packs, along=not left_transposed)
    tile = choice.tile
    if choice.a == 1 and outputs is not None:  # such tiles take no gradients of activations
        if left_transposed:
            right = activation_grad(launcher, gate, right, outputs)
        else:
            left = activation_grad(launcher, gate, left, outputs)
        gate, outputs = "none", None
    splits = choice.splits
    shape = np.array((m, n, k, batch, choice.split), SHAPE)
    options = [left_transposed, right_transposed, choice.a, choice.c, outputs is not None]
    arguments = ", ".join(str(option).lower() for option in options)

    whole = splits == 1
    to = parts_of(launcher, result, splits)
    sums_to = None if column_sums is None else parts_of(launcher, column_sums, splits)
    launcher.launch(
        "matmul.cu",
        f"matmul<{choice.type}, {arguments}>",
        (splits * batch * tile.blocks(m, n), 1, 1),
        (tile.threads, 1, 1),
        (
            shape,
            left,
            right,
            outputs,
            ACTIVATIONS[gate],
            bias if whole else None,
            ACTIVATIONS[activation if whole else "none"],
            to,
            sums_to,
        ),
    )
    sum_splits(launcher, to, result, bias, activation)
    if sums_to is not None and column_sums is not None:
        sum_splits(launcher, sums_to, column_sums)
    return result, column_sums


def parts_of(launcher: Launcher, result: Array, splits: int) -> Array:
    """Where the parts of `result` go, (splits, ...); for a sum in one piece `result` itself."""
    return result if splits == 1 else launcher.xp.empty((splits, *result.shape), result.dtype)


def sum_splits(
    launcher: Launcher,
    parts: Array,
    result: Array,
    bias: Array | None = None,
    activation: FusedActivation = "none",
) -> None:
    """Put the activation of the sum of `parts` (splits, ...) and bias (last axis) into `result`,
    unless it is all there already; see `parts_of`.
    """
    if parts is result or result.size == 0:
        return
    launcher.launch(
        "splits.cu",
        f"sum_splits<{c_type(parts, result, bias)}>",
        (ceil_div(result.size, 256), 1, 1),
        (256, 1, 1),
        (
            parts,
            int32(parts.shape[0]),
            np.int64(result.size),
            bias,
            int32(result.shape[-1]),
            ACTIVATIONS[activation],
            result,
        ),
    )
