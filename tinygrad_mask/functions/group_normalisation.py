"""Layer and group normalisation, over the values of each example."""

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Function, Node
from tinygrad_mask.backends import Array

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class _ExampleNormFunction(Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, each image and group of channels apart.

    What the kernels see of an input (N, ..., C) is (N, P, C): images of P pixels. Layer
    normalisation has one pixel and one group, and all normalised values count as channels.
    """

    @staticmethod
    def forward(
        ctx: Node,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        shape: tuple[int, int, int],
        groups: int,
        eps: float,
    ) -> Array:
        ctx.shape, ctx.eps = shape, eps
        # Those of layer_norm may have several axes.
        scale, shift = (None if a is None else a.reshape(-1) for a in (weight, bias))
        y, mean, inverse_std = ctx.backend.group_norm(x.reshape(shape), scale, shift, groups, eps)
        ctx.save_for_backward(x, weight, mean, inverse_std)
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array | None, ...]:
        x, weight, mean, inverse_std = ctx.saved_arrays
        scale = None if weight is None else weight.reshape(-1)
        grad_input, grad_weight, grad_bias = ctx.backend.group_norm_grad(
            grad_output.reshape(ctx.shape), x.reshape(ctx.shape), scale, mean, inverse_std
        )
        return _gradients(ctx, grad_input.reshape(x.shape), grad_weight, grad_bias)

    @staticmethod
    def differentiable_backward(ctx: Any, grad_output: "Tensor") -> "tuple[Tensor | None, ...]":
        x, weight, *_ = ctx.saved_tensors
        n, pixels, channels = ctx.shape
        groups = ctx.saved_arrays[2].shape[1]
        parts = (n, pixels, groups, channels // groups)
        centered = x.reshape(parts)
        centered = centered - centered.mean(axis=(1, 3), keepdims=True)
        variance = (centered * centered).mean(axis=(1, 3), keepdims=True)
        inverse_std = (variance + ctx.eps) ** -0.5
        normalised = centered * inverse_std
        grad = grad_output.reshape(ctx.shape)
        grad_bias = grad.sum(axis=(0, 1))
        grad_weight = (grad * normalised.reshape(ctx.shape)).sum(axis=(0, 1))
        if weight is not None:
            grad = grad * weight.reshape(channels)
        grad = grad.reshape(parts)
        common = grad.mean(axis=(1, 3), keepdims=True)
        along = (grad * normalised).mean(axis=(1, 3), keepdims=True)
        grad_input = (grad - common - normalised * along) * inverse_std
        return _gradients(ctx, grad_input.reshape(x.shape), grad_weight, grad_bias)


def _gradients(ctx: Any, grad_input: Any, grad_weight: Any, grad_bias: Any) -> tuple[Any, ...]:
    """The gradients of x, weight and bias; None for those that are not needed."""
    _, weight_needed, bias_needed = ctx.needs_input_grad
    _, weight_shape, bias_shape = ctx.input_shapes
    return (
        grad_input,
        grad_weight.reshape(weight_shape) if weight_needed else None,
        grad_bias.reshape(bias_shape) if bias_needed else None,
    )


class GroupNormFunction(_ExampleNormFunction):
    """Normalisation over a group of channels and all pixels of an image."""

    name = "group_norm"


class LayerNormFunction(_ExampleNormFunction):
    """Normalisation over the last axes."""

    name = "layer_norm"


def group_norm(
    x: "Tensor",
    num_groups: int,
    weight: "Tensor | None" = None,
    bias: "Tensor | None" = None,
    eps: float = 1e-5,
) -> "Tensor":
    """Normalise the groups of channels of each example of `x` (N, ..., C).

    A group is C / num_groups neighbouring channels, at all positions; its mean becomes 0 and its
    (biased) variance 1. Then each channel is multiplied by `weight` and shifted by `bias`, both
    (C,), if given. One group is layer normalisation of whole images, C groups are instance
    normalisation.

    Formula: Wu and He 2018, section 3. Raises `ValueError` if the shapes do not fit.
    """
    whole = isinstance(num_groups, int | np.integer) and not isinstance(num_groups, bool)
    if not whole or num_groups < 1:
        raise ValueError(f"group_norm: num_groups: expected a positive integer, got {num_groups!r}")
    if x.ndim < 2:
        raise ValueError(f"group_norm: expected an input of shape (N, ..., C), got {x.shape}")
    n, channels = x.shape[0], x.shape[-1]
    pixels = math.prod(x.shape[1:-1])
    if channels % num_groups or channels == 0:
        raise ValueError(
            f"group_norm: num_groups: expected a divisor of the {channels} channels of an input "
            f"{x.shape}, got {num_groups}"
        )
    if pixels == 0:
        raise ValueError(f"group_norm: expected at least one pixel, got an input {x.shape}")
    _check_affine("group_norm", (channels,), weight, bias)
    return GroupNormFunction.apply(
        x, weight, bias, shape=(n, pixels, channels), groups=int(num_groups), eps=eps
    )


def layer_norm(
    x: "Tensor",
    normalized_shape: int | Sequence[int],
    weight: "Tensor | None" = None,
    bias: "Tensor | None" = None,
    eps: float = 1e-5,
) -> "Tensor":
    """Normalise `x` (..., *normalized_shape) over its last axes, those of `normalized_shape`.

    The mean over these axes becomes 0 and the (biased) variance 1. Then each element is multiplied
    by `weight` and shifted by `bias`, both of `normalized_shape`, if given.

    Formula: Ba, Kiros and Hinton 2016, section 3. Raises `ValueError` if the shapes do not fit.
    """
    lengths = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    shape = tuple(operator.index(n) for n in lengths)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(
            f"layer_norm: expected an input (..., *normalized_shape) with normalized_shape "
            f"{shape}, got {x.shape}"
        )
    size = math.prod(shape)
    if size == 0:
        raise ValueError(f"layer_norm: expected at least one value to normalise, got {x.shape}")
    _check_affine("layer_norm", shape, weight, bias)
    rows = math.prod(x.shape[: x.ndim - len(shape)])
    return LayerNormFunction.apply(x, weight, bias, shape=(rows, 1, size), groups=1, eps=eps)


def _check_affine(
    name: str, shape: tuple[int, ...], weight: "Tensor | None", bias: "Tensor | None"
) -> None:
    for what, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name}: {what}: expected shape {shape}, got {tensor.shape}")
