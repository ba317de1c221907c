"""Losses of regression: squared, absolute, and something of both."""

from typing import TYPE_CHECKING, Any

from tinygrad_mask.autograd import Variable, array_of, mixed_dtypes
from tinygrad_mask.functions.elementwise import abs, where

if TYPE_CHECKING:
    from tinygrad_mask.backends import Array
    from tinygrad_mask.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def reduce_losses(name: str, losses: "Tensor", reduction: str) -> "Tensor":
    """Return the mean or the sum of losses, or the losses themselves."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: expected reduction 'mean', 'sum' or 'none', got {reduction!r}")
    if reduction == "none":
        return losses
    if reduction == "mean" and losses.size == 0:
        raise ValueError(f"{name}: expected at least one element for a mean, got {losses.shape}")
    return losses.sum() if reduction == "sum" else losses.mean()


def _difference(name: str, prediction: "Tensor", target: "Tensor | Array") -> "Tensor":
    """prediction - target, of one shape: broadcasting would hide a forgotten axis."""
    wanted: Any = target
    if not isinstance(target, Variable):
        wanted = array_of(target, prediction.backend, name, prediction.dtype)
    if wanted.shape != prediction.shape:
        raise ValueError(
            f"{name}: expected prediction and target of one shape, "
            f"got {prediction.shape} and {wanted.shape}"
        )
    if wanted.dtype != prediction.dtype:
        raise TypeError(mixed_dtypes(name, prediction.dtype, wanted.dtype))
    return prediction - wanted


def mse_loss(prediction: "Tensor", target: "Tensor | Array", reduction: str = "mean") -> "Tensor":
    """Return the mean of (prediction - target)^2 over all elements.

    With `reduction="sum"` it is the sum, with "none" a loss per element. Raises `ValueError` or
    `TypeError` if shapes or dtypes differ. The loss of the slides is `squared_error`.
    """
    difference = _difference("mse_loss", prediction, target)
    return reduce_losses("mse_loss", difference * difference, reduction)


def l1_loss(prediction: "Tensor", target: "Tensor | Array", reduction: str = "mean") -> "Tensor":
    """Return the mean of |prediction - target| over all elements; see `mse_loss`.

    Its derivative is 0 where both are equal.
    """
    return reduce_losses("l1_loss", abs(_difference("l1_loss", prediction, target)), reduction)


def smooth_l1_loss(
    prediction: "Tensor",
    target: "Tensor | Array",
    reduction: str = "mean",
    beta: float = 1.0,
) -> "Tensor":
    """Return the mean of d^2 / (2 beta) where d = |prediction - target| < beta, else d - beta / 2.

    See `mse_loss`. Formula: Girshick 2015, equation 3, which has beta = 1; it is the Huber loss
    over beta. With beta = 0 it is `l1_loss`. Raises `ValueError` for a negative beta.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: expected beta >= 0, got {beta}")
    if beta == 0:
        return l1_loss(prediction, target, reduction)
    difference = _difference("smooth_l1_loss", prediction, target)
    size = abs(difference)
    near = size.data < beta
    squared = where(near, difference, 0.0)  # infinity times the gradient 0 would be NaN
    losses = where(near, squared * squared * (0.5 / beta), size - 0.5 * beta)
    return reduce_losses("smooth_l1_loss", losses, reduction)
