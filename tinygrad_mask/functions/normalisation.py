"""Batch normalisation."""

import math
from typing import TYPE_CHECKING

from tinygrad_mask.autograd import Function, Node, mixed_dtypes, option_of
from tinygrad_mask.backends import Array

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class BatchNormFunction(Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, each channel (the last axis) by itself."""

    name = "batch_norm"

    @staticmethod
    def forward(
        ctx: Node,
        x: Array,
        weight: Array,
        bias: Array,
        mean: Array,
        variance: Array,
        of_this_batch: bool,
        eps: float,
    ) -> Array:
        inverse_std = 1 / ctx.xp.sqrt(variance + eps)
        ctx.of_this_batch, ctx.eps = of_this_batch, eps
        ctx.save_for_backward(x, weight, mean, inverse_std)
        return ctx.backend.batch_norm(x, weight, bias, mean, inverse_std)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array, Array]:
        x, weight, mean, inverse_std = ctx.saved_arrays
        return ctx.backend.batch_norm_grad(
            grad_output, x, weight, mean, inverse_std, ctx.of_this_batch
        )

    @staticmethod
    def differentiable_backward(
        ctx: Node, grad_output: "Tensor"
    ) -> "tuple[Tensor, Tensor, Tensor]":
        x, weight, _, _ = ctx.saved_tensors
        _, _, mean, inverse_std = ctx.saved_arrays
        axes = tuple(range(x.ndim - 1))
        if ctx.of_this_batch:  # both depend on x
            mean = x.mean(axis=axes)
            inverse_std = (x.var(axis=axes) + ctx.eps) ** -0.5
        normalised = (x - mean) * inverse_std
        grad_weight = (grad_output * normalised).sum(axis=axes)
        grad_bias = grad_output.sum(axis=axes)
        grad_input = grad_output
        if ctx.of_this_batch:
            count = x.size // x.shape[-1]
            grad_input = grad_output - (grad_bias + normalised * grad_weight) / count
        return grad_input * (inverse_std * weight), grad_weight, grad_bias


def batch_norm(
    x: "Tensor",
    weight: "Tensor | None" = None,
    bias: "Tensor | None" = None,
    running_mean: "Tensor | None" = None,
    running_var: "Tensor | None" = None,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> "Tensor":
    """Normalise each channel of `x` (..., C); return it scaled by `weight`, shifted by `bias`, if
    given.

    In training the mean and (biased) variance are those of the batch, and the running ones, if
    given, move towards them by `momentum`, in place (the running variance towards the unbiased one,
    as PyTorch does). Otherwise the running ones are used. All four are (C,).

    Formula: Ioffe and Szegedy 2015, algorithms 1 and 2. Raises `ValueError` where the shapes do not
    fit, or for a batch of fewer than two values a channel in training.
    """
    channels = x.shape[-1:] if x.ndim > 1 else None
    given = [t for t in (weight, bias, running_mean, running_var) if t is not None]
    if channels is None or any(t.shape != channels for t in given):
        said = ", ".join(str(t.shape) for t in given)
        raise ValueError(f"batch_norm: expected (C,) beside an input (..., C) {x.shape}: {said}")
    if x.dtype.kind != "f":  # before anything is computed or written
        raise TypeError(f"batch_norm: expected a floating dtype, got {x.dtype}")
    for tensor in given:
        if tensor.dtype != x.dtype:
            raise TypeError(mixed_dtypes("batch_norm", x.dtype, tensor.dtype))
    momentum = option_of("batch_norm", "momentum", momentum)
    mean: Tensor | Array
    variance: Tensor | Array
    if training:
        count = math.prod(x.shape[:-1])
        if count < 2:
            raise ValueError(f"batch_norm: expected at least 2 values a channel, got {x.shape}")
        batch_mean, batch_variance = x.backend.batch_norm_statistics(x.data)
        if running_mean is not None and running_var is not None:
            _move_towards(running_mean, batch_mean, momentum)
            _move_towards(running_var, batch_variance * (count / (count - 1)), momentum)
        mean, variance = batch_mean, batch_variance
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm: expected running_mean and running_var outside training")
    else:
        mean, variance = running_mean, running_var
    xp = x.backend.xp
    if weight is None:
        weight = xp.ones(channels, dtype=x.dtype)
    if bias is None:
        bias = xp.zeros(channels, dtype=x.dtype)
    return BatchNormFunction.apply(
        x, weight, bias, mean=mean, variance=variance, of_this_batch=training, eps=eps
    )


def _move_towards(running: "Tensor", target: Array, momentum: float) -> None:
    running.copy_((1 - momentum) * running.data + momentum * target)
