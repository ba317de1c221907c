"""What is compared in the ablation: the recipe, and the recipe with one thing changed."""

import dataclasses
from dataclasses import dataclass, field

from tinygrad_mask.masks.classifier.augmentation import Augmentation
from tinygrad_mask.masks.classifier.config import RunConfig
from tinygrad_mask.masks.classifier.recipes import RECIPES
from tinygrad_mask.masks.crops import CropSettings

FOLDS = 5


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed; None for `augmentation` means none at all."""

    what: str
    model: str = "vgg"
    recipe: dict[str, object] = field(default_factory=dict)
    augmentation: dict[str, float] | None = field(default_factory=dict)
    crops: dict[str, float] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    initial: str | None = None
    seed: int = 0


def config_of(variant: Variant, data: str) -> RunConfig:
    """Return the settings of a variant's cross-validation."""
    recipe = RECIPES["vgg"]
    changes = dict(variant.recipe)
    if variant.augmentation is None:
        changes["augmentation"] = None
    elif variant.augmentation:
        whole = recipe.augmentation or Augmentation()
        changes["augmentation"] = dataclasses.replace(whole, **variant.augmentation)
    return RunConfig(
        data=(data,),
        model=variant.model,
        recipe=dataclasses.replace(recipe, **changes),
        crops=dataclasses.replace(CropSettings(), **variant.crops),
        seed=variant.seed,
        cross_validate=FOLDS,
        extra=variant.extra,
        initial=variant.initial,
    )


_STILL = {"rotation": 0, "scale": 0, "shift": 0}
_ONE_LIGHT = {"contrast": 0, "brightness": 0, "saturation": 0, "cast": 0}

VARIANTS = {
    "recipe": Variant("the recipe"),
    "other-seed": Variant("the recipe, another seed", seed=1),
    # input
    "size-32": Variant("32 px", crops={"size": 32}),
    "size-48": Variant("48 px", crops={"size": 48}),
    "margin-10": Variant("margin 0.1", crops={"margin": 0.1}),
    "margin-35": Variant("margin 0.35", crops={"margin": 0.35}),
    # network
    "resnet": Variant("residual blocks", model="resnet"),
    "mobilenet": Variant("depthwise separable blocks", model="mobilenet"),
    "cnn": Variant("the slides' network, this recipe", model="cnn"),
    # objective
    "hard-labels": Variant("no label smoothing", recipe={"label_smoothing": 0.0}),
    "unbalanced": Variant("every face counts the same", recipe={"class_balance": 0.0}),
    "balanced": Variant("every class counts the same", recipe={"class_balance": 1.0}),
    # schedule
    "epochs-15": Variant("15 epochs", recipe={"epochs": 15}),
    "epochs-60": Variant("60 epochs", recipe={"epochs": 60}),
    "sgd": Variant(
        "SGD with momentum", recipe={"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4}
    ),
    # augmentation
    "as-it-is": Variant("no augmentation", augmentation=None),
    "no-mirror": Variant("not mirrored", augmentation={"mirror": 0}),
    "still": Variant("not turned, scaled or shifted", augmentation=dict(_STILL)),
    "no-border": Variant("edges repeated when turned", augmentation={"border": 0}),
    "one-light": Variant("light and colour as they are", augmentation=dict(_ONE_LIGHT)),
    "sharp": Variant("no blur or low resolution", augmentation={"soften": 0}),
    "whole": Variant("nothing erased", augmentation={"erase": 0}),
}
"""By name, in the order of the table."""
