"""What is compared in the ablation: the recipe, and the recipe with one thing changed."""

import csv
import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tinygrad_mask.masks.classifier.network.architecture import Architecture, architecture_of
from tinygrad_mask.masks.classifier.runs import pipeline
from tinygrad_mask.masks.classifier.runs.config import RunConfig
from tinygrad_mask.masks.classifier.training.augmentation import Augmentation
from tinygrad_mask.masks.classifier.training.recipes import PRESS
from tinygrad_mask.masks.crops import CropSettings

FOLDS = 5
LONGER = PRESS.epochs
EPOCHS = 10
"""Of most lines: some 5 minutes each on two cores."""


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed; None for `augmentation` means none at all.

    `extra` names data sets beside Larxel's that are trained on too; `initial` is synthetic data
    whose model is begun with.
    """

    what: str
    model: str = "vgg"
    recipe: dict[str, object] = field(default_factory=dict)
    augmentation: dict[str, float] | None = field(default_factory=dict)
    crops: dict[str, float] = field(default_factory=dict)
    architecture: dict[str, object] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    initial: str | None = None
    seed: int = 0


def config_of(variant: Variant, data: Path, out: Path) -> RunConfig:
    """Return the settings of a variant's cross-validation, on Larxel's data set at `data`."""
    recipe = PRESS
    changes: dict[str, object] = {"epochs": EPOCHS, **variant.recipe}
    if variant.augmentation is None:
        changes["augmentation"] = None
    elif variant.augmentation:
        whole = recipe.augmentation or Augmentation()
        changes["augmentation"] = dataclasses.replace(whole, **variant.augmentation)
    return RunConfig(
        data=(str(data),),
        model=variant.model,
        recipe=dataclasses.replace(recipe, **changes),
        crops=dataclasses.replace(CropSettings(), **variant.crops),
        seed=variant.seed,
        cross_validate=FOLDS,
        extra=tuple(str(extra_folder(name, data, out)) for name in variant.extra),
        initial=None if variant.initial is None else str(initial_run(variant.initial, out)),
    )


def architecture_of_variant(variant: Variant, config: RunConfig) -> Architecture:
    """Return the network of a variant, whose settings are `config`."""
    architecture = architecture_of(config.model, config.crops.size)
    return dataclasses.replace(architecture, **variant.architecture)  # type: ignore[arg-type]


def extra_folder(name: str, data: Path, out: Path) -> Path:
    """Return where other data are: beside Larxel's, or the thumbnails of `write_thumbnails`."""
    return out / "thumbnails" if name == "hitl" else data.parent / name


def initial_run(data: str, out: Path) -> Path:
    """Return the folder of the run that was trained on synthetic data."""
    return out / data.replace(":", "-")


def prepare(names: Sequence[str], data: Path, out: Path) -> None:
    """Make what the folds of these variants need, where it is not there yet."""
    for variant in (VARIANTS[name] for name in names):
        if "hitl" in variant.extra and not extra_folder("hitl", data, out).exists():
            write_thumbnails(data.parent / "hitl", extra_folder("hitl", data, out))
        if variant.initial and not initial_run(variant.initial, out).exists():
            recipe = dataclasses.replace(PRESS, epochs=15)
            config = config_of(dataclasses.replace(variant, initial=None), data, out)
            alone = dataclasses.replace(
                config, data=(variant.initial,), recipe=recipe, cross_validate=None
            )
            pipeline.train(alone, initial_run(variant.initial, out))


def write_thumbnails(hitl: Path, out: Path) -> None:
    """Sort the thumbnails of Humans in the Loop with a single face into a folder per class.

    Boxes do not fit them, so that each is a face as a whole, however small the face is in it.
    """
    folders = {
        "face_with_mask": "with_mask",
        "face_no_mask": "without_mask",
        "face_with_mask_incorrect": "mask_weared_incorrect",
    }
    with (hitl / "train.csv").open(newline="") as file:
        for row in csv.reader(file):
            picture = hitl / "images_100x100" / row[0]
            if row[-1] in folders and picture.exists():
                folder = out / folders[row[-1]]
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, folder)


_STILL = {"rotation": 0, "scale": 0, "shift": 0}
_MILDER = {
    "rotation": 8,
    "scale": 0.08,
    "shift": 0.04,
    "soften": 0.15,
    "contrast": 0.15,
    "brightness": 0.08,
    "saturation": 0.2,
    "cast": 0.05,
    "erase": 0.12,
}
_HALF: dict[str, object] = {"class_balance": 0.5, "epochs": LONGER}
_ONE_LIGHT = {"contrast": 0, "brightness": 0, "saturation": 0, "cast": 0}

VARIANTS = {
    # at the recipe's own length
    "half-balanced": Variant("class balance 0.5 in place of 0.4", recipe=dict(_HALF)),
    "as-it-is-long": Variant("that, no augmentation", recipe=dict(_HALF), augmentation=None),
    "milder-long": Variant(
        "that, varied half as far", recipe=dict(_HALF), augmentation=dict(_MILDER)
    ),
    "synthetic-long": Variant(
        "class balance 0.4, begun with weights from drawn faces",
        recipe={"epochs": LONGER},
        initial="synthetic:2000",
    ),
    # at a third of it
    "short": Variant(f"the recipe, {EPOCHS} epochs"),
    "other-seed": Variant("another seed", seed=1),
    # input
    "size-32": Variant("32 px in place of 40", crops={"size": 32}),
    "size-48": Variant("48 px", crops={"size": 48}),
    "margin-10": Variant("margin 0.1 in place of 0.2", crops={"margin": 0.1}),
    "margin-35": Variant("margin 0.35", crops={"margin": 0.35}),
    # network
    "resnet": Variant("residual blocks", model="resnet"),
    "mobilenet": Variant("depthwise separable blocks", model="mobilenet"),
    "cnn": Variant("the slides' network", model="cnn"),
    "shallow": Variant("a convolution a stage fewer", architecture={"depths": (1, 1, 2)}),
    "no-dropout": Variant("no dropout", architecture={"dropout": 0.0}),
    # objective
    "hard-labels": Variant("no label smoothing", recipe={"label_smoothing": 0.0}),
    "unbalanced": Variant("every face counts the same", recipe={"class_balance": 0.0}),
    "balanced": Variant("every class counts the same", recipe={"class_balance": 1.0}),
    # schedule
    "constant": Variant("a constant learning rate, 0.001", recipe={"one_cycle": False, "lr": 1e-3}),
    "slower": Variant("half the learning rate", recipe={"lr": 2e-3}),
    "faster": Variant("twice the learning rate", recipe={"lr": 8e-3}),
    "undecayed": Variant("no weight decay", recipe={"weight_decay": 0.0}),
    "batch-32": Variant("batches of 32", recipe={"batch_size": 32}),
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
    # data
    "hitl": Variant("and thumbnails of Humans in the Loop, 1764 faces", extra=("hitl",)),
    "chandrikadeb7": Variant("and chandrikadeb7, 3868 faces", extra=("chandrikadeb7",)),
    "synthetic": Variant("begun with weights from drawn faces", initial="synthetic:2000"),
}
"""By name, in the order of the table."""

LONG = tuple(name for name, variant in VARIANTS.items() if variant.recipe.get("epochs") == LONGER)
"""The trainings as long as the recipe's; the others are compared with the first of them."""
