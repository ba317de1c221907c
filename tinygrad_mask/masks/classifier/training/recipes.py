"""How a model is trained: the settings of a run that are not about its data."""

import math
from dataclasses import dataclass, replace

from tinygrad_mask import Tensor, nn
from tinygrad_mask import functions as F
from tinygrad_mask.masks.classifier.training.augmentation import Augmentation
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.optim import SGD, AdamW, Optimizer

_LARGEST_RATE = 1e10  # far above, float32 overflows unnoticed

OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class Recipe:
    """The settings of training.

    `lr` is the learning rate (its highest, where `one_cycle`), `momentum` that of `sgd`,
    `class_balance` the power of a class's inverse frequency by which it is weighted (0: every face
    counts the same, 1: every class), `label_smoothing` as in `functions.cross_entropy`.
    `class_shares` are the shares of the classes in an epoch, None that they are those of the data;
    with them every data set has the same share of a class (`batches.draw_positions`).
    `weight_average` is the decay of the moving average of the weights that the model ends with (0:
    it ends with the last ones). `augmentation` says how crops are varied, None that they are not;
    `mirrored` whether the trained model is asked about each crop and its mirror image. `squared`
    takes the slides' objective in place of cross-entropy; its weight decay is part of the
    objective.

    Raises `ValueError` for what cannot be trained with.
    """

    epochs: int = 20
    batch_size: int = 32
    optimizer: str = "sgd"
    lr: float = 0.02
    weight_decay: float = 5e-4
    momentum: float = 0.9
    one_cycle: bool = True
    class_balance: float = 0.5
    label_smoothing: float = 0.0
    weight_average: float = 0.0
    augmentation: Augmentation | None = None
    mirrored: bool = False
    squared: bool = False
    class_shares: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer: expected one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}"
            )
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr: expected a learning rate above 0, got {self.lr:g}")
        if self.lr > _LARGEST_RATE:
            raise ValueError(f"lr: expected at most {_LARGEST_RATE:g}, got {self.lr:g}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"weight_decay: expected a weight decay of at least 0, got {self.weight_decay:g}"
            )
        for name in ("label_smoothing", "weight_average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 0, below 1, got {getattr(self, name)}")
        shares = self.class_shares
        if shares is not None and (len(shares) != len(LABELS) or min(shares) <= 0):
            raise ValueError(
                f"class_shares: expected a share above 0 for each of {', '.join(LABELS)}, "
                f"got {shares}"
            )


PRESS = Recipe(
    epochs=30,
    batch_size=64,
    optimizer="adamw",
    lr=4e-3,
    weight_decay=0.02,
    class_balance=0.4,
    label_smoothing=0.05,
    augmentation=Augmentation(),
    mirrored=True,
)
"""For photographs of the press alone: faces of one kind, most of them proper."""

CARRY_OVER = replace(
    PRESS,
    class_balance=0.0,
    class_shares=(0.42, 0.27, 0.31),
    augmentation=Augmentation(
        scale=0.4,
        shift=0.12,
        soften=0.15,
        contrast=0.35,
        cast=0.15,
        reduce=0.4,
        night=0.14,
        cut_off=0.25,
    ),
)
"""For faces of all sizes, near and far, from photographs, painted and drawn."""

RECIPES = {
    "cnn": Recipe(
        augmentation=Augmentation(
            rotation=0,
            scale=0,
            shift=1 / 16,
            border=0,
            soften=0,
            contrast=0.2,
            brightness=0.1,
            saturation=0,
            cast=0,
            erase=0,
        )
    ),
    # Plain mini-batch gradient descent on the slides' objective, as the slides define it.
    "mlp": Recipe(
        lr=0.05,
        weight_decay=1e-4,
        momentum=0.0,
        one_cycle=False,
        class_balance=0.0,
        squared=True,
    ),
    "vgg": CARRY_OVER,
    "resnet": PRESS,
    "mobilenet": PRESS,
}
"""The recipe of each kind of network."""


def make_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """Return the optimiser of a recipe for all parameters of a model."""
    # The slides' objective has the weight decay in it already.
    weight_decay = 0.0 if recipe.squared else recipe.weight_decay
    if recipe.optimizer == "adamw":
        return AdamW(model.parameters(), recipe.lr, weight_decay=weight_decay)
    return SGD(
        model.parameters(),
        recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=weight_decay,
    )


def slides_objective(
    model: nn.Module, prediction: Tensor, target: Tensor, weight_decay: float
) -> Tensor:
    """Return `J = 1/N sum_i 1/2 ||y_hat_i - y_i||^2 + lambda/2 sum_k ||W_k||_F^2`, of shape ().

    `prediction` and the one-hot `target` are (N, 3), lambda is `weight_decay`, and the W_k are all
    parameters of the model.
    """
    objective = F.squared_error(prediction, target)
    for weight in model.parameters():
        objective = objective + (weight_decay / 2) * (weight * weight).sum()
    return objective
