"""How a model is trained: the settings of a run that are not about its data."""

from dataclasses import dataclass

from tinygrad_mask import Tensor, nn
from tinygrad_mask import functions as F


@dataclass(frozen=True)
class Recipe:
    """The settings of training.

    `lr` is the learning rate (its highest, where `one_cycle`), `class_balance` the power of a
    class's inverse frequency by which it is weighted (0: every face counts the same, 1: every
    class), `augment` whether crops are varied at random. `squared` takes the slides' objective in
    place of cross-entropy; its weight decay is part of the objective.
    """

    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.02
    weight_decay: float = 5e-4
    momentum: float = 0.9
    one_cycle: bool = True
    class_balance: float = 0.5
    augment: bool = True
    squared: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.lr <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"expected a learning rate above 0 and a weight decay of at least 0, "
                f"got {self.lr:g} and {self.weight_decay:g}"
            )


RECIPES = {
    "cnn": Recipe(),
    # Plain mini-batch gradient descent on the slides' objective, as the slides define it.
    "mlp": Recipe(
        lr=0.05,
        weight_decay=1e-4,
        momentum=0.0,
        one_cycle=False,
        class_balance=0.0,
        augment=False,
        squared=True,
    ),
}


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
