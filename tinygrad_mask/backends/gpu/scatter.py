"""Launches of `scatter.cu`: the gradient of an indexing."""

import math
from typing import Any

import numpy as np

from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import Launcher, c_type, ceil_div, check_shape

_THREADS = 256


def scatter_add(
    launcher: Launcher, grad_output: Array, shape: tuple[int, ...], index: Any
) -> Array:
    """Zeros of `shape`, plus `grad_output` at `[index]`; repeated indices add up in order."""
    xp, kind = launcher.xp, c_type(grad_output)
    grad_input = xp.zeros(shape, grad_output.dtype)
    # Indexing the numbers of all places says where each element came from.
    places = xp.arange(math.prod(shape), dtype=np.int64).reshape(shape)[index]
    check_shape("scatter_add: grad_output", grad_output, places.shape)
    places = places.ravel()
    if places.size:
        order = xp.argsort(places, kind="stable").astype(np.int64, copy=False)
        blocks = ceil_div(places.size, _THREADS)
        launcher.launch(
            "scatter.cu",
            f"scatter_add<{kind}>",
            (blocks, 1, 1),
            (_THREADS, 1, 1),
            [np.int64(places.size), places[order], order, grad_output, grad_input],
        )
    return grad_input
