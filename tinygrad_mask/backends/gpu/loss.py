"""Launches of `loss.cu`: softmax cross-entropy and its gradient."""

import numpy as np

from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import Launcher, c_type, ceil_div, check_shape

_FILE = "loss.cu"
_THREADS = (256, 1, 1)
_ROWS_A_BLOCK = 8  # a warp each


def cross_entropy(
    launcher: Launcher, logits: Array, target: Array, weight: Array | None, label_smoothing: float
) -> tuple[Array, Array]:
    """Loss, of shape (), and its gradient, (N, K), from logits (N, K) and an int64 target (N,).

    A target that is no class makes the loss NaN, and the gradient of its row.
    """
    xp, kind = launcher.xp, c_type(logits, weight)
    rows, classes = logits.shape
    check_shape("cross_entropy: target", target, (rows,))
    check_shape("cross_entropy: weight", weight, (classes,))
    gradient = xp.empty(logits.shape, logits.dtype)
    if logits.size == 0:  # the mean of nothing
        return xp.full((), np.nan, logits.dtype), gradient
    sizes = [np.int64(rows), np.int64(classes)]
    normaliser = None
    if weight is not None:
        normaliser = xp.empty(1, np.float64)
        launcher.launch(
            _FILE,
            f"cross_entropy_normaliser<{kind}>",
            (1, 1, 1),
            _THREADS,
            [*sizes, target, weight, normaliser],
        )
    losses = xp.empty(rows, np.float64)
    launcher.launch(
        _FILE,
        f"cross_entropy_rows<{kind}>",
        (ceil_div(rows, _ROWS_A_BLOCK), 1, 1),
        _THREADS,
        [
            *sizes,
            logits.dtype.type(label_smoothing),
            logits,
            target,
            weight,
            normaliser,
            losses,
            gradient,
        ],
    )
    loss = xp.empty(1, logits.dtype)
    launcher.launch(
        _FILE,
        f"cross_entropy_total<{kind}>",
        (1, 1, 1),
        _THREADS,
        [np.int64(rows), losses, normaliser, loss],
    )
    return loss.reshape(()), gradient
