"""Losses as layers: `loss = criterion(output, target)`."""

from typing import Any

import tinygrad_mask.functions as F
from tinygrad_mask.autograd import option_of
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.likelihood import IGNORED
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
        self.beta = option_of("SmoothL1Loss", "beta", beta)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the losses of all elements."""
        return F.smooth_l1_loss(prediction, target, self.reduction, self.beta)

    def describe(self) -> str:
        """Return what is not the default."""
        return f"SmoothL1Loss({options_that_differ(self, reduction='mean', beta=1.0)[2:]})"


class CrossEntropyLoss(_Loss):
    """See `functions.cross_entropy`. The class weights, if given, are a buffer."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | Array | None = None,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"CrossEntropyLoss: expected 0 <= label_smoothing <= 1, got {label_smoothing}"
            )
        self.ignore_index = ignore_index
        self.label_smoothing = option_of("CrossEntropyLoss", "label_smoothing", label_smoothing)
        self.register_buffer("weight", _as_buffer(weight))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (N, K) and a target, (N,) integers or (N, K) probabilities."""
        return F.cross_entropy(
            logits,
            target,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def describe(self) -> str:
        """Return what is not the default."""
        more = options_that_differ(
            self, ignore_index=IGNORED, reduction="mean", label_smoothing=0.0
        )
        return f"CrossEntropyLoss({more[2:]})"


class BCEWithLogitsLoss(_Loss):
    """See `functions.binary_cross_entropy_with_logits`. Weights, if given, are buffers."""

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | Array | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | Array | None = None,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", _as_buffer(weight))
        self.register_buffer("pos_weight", _as_buffer(pos_weight))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits and a target of one shape."""
        return F.binary_cross_entropy_with_logits(
            logits, target, self.weight, self.pos_weight, self.reduction
        )


def _as_buffer(weight: Any) -> Tensor | None:
    return weight if weight is None or isinstance(weight, Tensor) else Tensor(weight)
