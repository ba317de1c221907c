"""How a detector is trained: every number of a run that is not about its data."""

import math
from dataclasses import dataclass, field

from tinygrad_mask.masks.detector.training.augmentation import DetectorAugmentation

_LARGEST_RATE = 1e10  # far above, float32 overflows unnoticed


@dataclass(frozen=True)
class DetectorRecipe:
    """The settings of training.

    Images are drawn at random, so that an epoch is no pass through the data: it is
    `steps_per_epoch` steps, after which the detector is saved and evaluated. `lr` is the highest
    learning rate of the one-cycle schedule, `warm_up` the share of the steps in which it rises.
    `clip` is the largest norm of the gradients. `weight_average` is the decay of the moving average
    of the weights that the detector ends with (0: it ends with the last ones). `box_weight` and
    `label_weight` are those parts of the loss, `class_balance` the power of a label's inverse
    frequency by which its faces are weighted (0: every face counts the same, 1: every label).
    Faces whose shorter side is under `min_face` pixels of a training image are ignored.

    Raises `ValueError` for numbers that cannot be trained with.
    """

    epochs: int = 10
    steps_per_epoch: int = 400
    batch_size: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.01
    warm_up: float = 0.15
    clip: float = 10.0
    weight_average: float = 0.998
    box_weight: float = 2.0
    label_weight: float = 1.0
    class_balance: float = 0.5
    min_face: float = 7.0
    augmentation: DetectorAugmentation = field(default_factory=DetectorAugmentation)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        for name in ("epochs", "steps_per_epoch", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name):g}")
        if self.lr > _LARGEST_RATE:
            raise ValueError(f"lr: expected at most {_LARGEST_RATE:g}, got {self.lr:g}")
        for name in ("weight_decay", "box_weight", "label_weight", "class_balance", "min_face"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}: expected a number of at least 0, got {getattr(self, name):g}"
                )
        if not 0 <= self.weight_average < 1:
            raise ValueError(
                f"weight_average: expected at least 0 and below 1, got {self.weight_average:g}"
            )
        if not 0 < self.warm_up < 1:
            raise ValueError(f"warm_up: expected a share between 0 and 1, got {self.warm_up:g}")

    @property
    def steps(self) -> int:
        """The number of steps in all epochs."""
        return self.epochs * self.steps_per_epoch
