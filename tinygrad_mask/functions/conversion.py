"""Copies of a tensor in another dtype or on another device; `Tensor.astype` and `Tensor.to`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Function, Node
from tinygrad_mask.backends import Array, Backend

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class Conversion(Function):
    """A function whose result has another dtype or device, to which its gradient converts back.

    Users apply it by a method; `functions` has none of its name.
    """

    integers = True


class AsType(Conversion):
    """The same numbers in another dtype, rounded to it."""

    name = "astype"

    @staticmethod
    def forward(ctx: Node, x: Array, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return grad_output.astype(ctx.dtype)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return AsType.apply(grad_output, dtype=ctx.dtype)


class ToDevice(Conversion):
    """The same numbers on another device."""

    name = "to"

    @staticmethod
    def forward(ctx: Node, x: Array, backend: Backend) -> Array:
        ctx.source, ctx.backend = ctx.backend, backend  # gradients arrive on the other device
        return _moved(x, ctx.source, backend)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return _moved(grad_output, ctx.backend, ctx.source)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return ToDevice.apply(grad_output, backend=ctx.source)


def _moved(array: Array, source: Backend, target: Backend) -> Array:
    # A copy, because two devices may both use the host's memory.
    return target.asarray(np.array(source.to_host(array)))


def astype(x: "Tensor", dtype: np.dtype[Any]) -> "Tensor":
    """Return a copy of x in another dtype; a gradient converts back. Integers have none."""
    return AsType.apply(x, dtype=dtype)


def to_device(x: "Tensor", backend: Backend) -> "Tensor":
    """Return a copy of x on another device; a gradient moves back."""
    return ToDevice.apply(x, backend=backend)
