"""Losses as layers: `loss = criterion(output, target)`."""

import tinygrad_mask.functions as F
from tinygrad_mask.functions.regression import REDUCTIONS
from tinygrad_mask.nn.arguments import options_that_differ
from tinygrad_mask.nn.module import Module
from tinygrad_mask.tensor import Tensor


class _Loss(Module):
    """What the losses have in common: a mean, a sum, or none of them."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: expected reduction 'mean', 'sum' or 'none', "
                f"got {reduction!r}"
            )
        self.reduction = reduction

    def describe(self) -> str:
        """Return the reduction, unless it is the mean."""
        return f"{type(self).__name__}({options_that_differ(self, reduction='mean')[2:]})"


class MSELoss(_Loss):
    """See `functions.mse_loss`."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the squared differences."""
        return F.mse_loss(prediction, target, self.reduction)


class L1Loss(_Loss):
    """See `functions.l1_loss`."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the absolute differences."""
        return F.l1_loss(prediction, target, self.reduction)


class SmoothL1Loss(_Loss):
    """See `functions.smooth_l1_loss`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        if not beta >= 0:
            raise ValueError(f"SmoothL1Loss: expected beta >= 0, got {beta}")
        self.beta = beta

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the losses of all elements."""
        return F.smooth_l1_loss(prediction, target, self.reduction, self.beta)

    def describe(self) -> str:
        """Return what is not the default."""
        return f"SmoothL1Loss({options_that_differ(self, reduction='mean', beta=1.0)[2:]})"
