"""Launches of `activation.cu`: activations element by element, both ways."""

from collections.abc import Mapping

import numpy as np

from tinygrad_mask.backends.gpu.tiles import ACTIVATIONS
from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import VECTOR_BYTES, Launcher, c_type, ceil_div

THREADS = 256

NUMBERS: Mapping[str, np.int32] = {
    **dict(ACTIVATIONS.items()),
    "leaky_relu": np.int32(4),
    "silu": np.int32(5),
}
"""The numbers of `activation.cuh`, and those of `activation.cu` that go on after them."""


def activation(launcher: Launcher, name: str, x: Array, slope: float = 0.0) -> Array:
    """The activation of every element of `x`; `slope` is leaky_relu's."""
    y = launcher.xp.empty(x.shape, x.dtype)
    kernel = f"activation_forward<{c_type(x)}>"
    _launch(launcher, kernel, name, slope, x, y)
    return y


def activation_grad(
    launcher: Launcher, name: str, grad_output: Array, kept: Array, slope: float = 0.0
) -> Array:
    """From the output's gradient that of the input, of the same shape as what was `kept`."""
    grad_input = launcher.xp.empty(grad_output.shape, grad_output.dtype)
    kernel = f"activation_backward<{c_type(grad_output, kept)}>"
    _launch(launcher, kernel, name, slope, grad_output, kept, grad_input)
    return grad_input


def _launch(launcher: Launcher, kernel: str, name: str, slope: float, *arrays: Array) -> None:
    first = arrays[0]
    if any(array.shape != first.shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"{name}: expected arrays of one shape, got {shapes}")
    if first.size == 0:
        return
    blocks = ceil_div(first.size, THREADS * (VECTOR_BYTES // first.dtype.itemsize))
    settings = [
        NUMBERS[name],
        first.dtype.type(slope),
        np.int64(first.size),
        np.bool_(launcher.aligned(*arrays)),
    ]
    launcher.launch("activation.cu", kernel, (blocks, 1, 1), (THREADS, 1, 1), [*settings, *arrays])
