"""All settings of a run, and the training that they ask for."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import nn
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.network.architecture import (
    Architecture,
    architecture_of,
    build_model,
)
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.classifier.training.recipes import Recipe
from tinygrad_mask.masks.classifier.training.trainer import ClassifierTrainer, Task, recipe_trainer
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.faces import MIN_FACE, FaceSet
from tinygrad_mask.masks.schemas import convert

GROUPINGS = ("photograph", "event")
"""What photographs are grouped by; see `RunConfig`."""


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run, as `config.json` keeps them.

    `data` are the data sets (see `open_dataset`), `validation` the share of photographs held back,
    `min_face` the smallest face trained on, in pixels, `graph` whether a GPU is given each step as
    a whole (see `training.Trainer`). `cross_validate` is the number of folds, None for a single
    run; `extra` are data sets that are trained on in each fold and never judged; `initial` is a
    model, a file or run folder, whose weights training begins with instead of random ones.
    `group_by` says what is never divided between training and judging: a `photograph` with its
    copies, or a whole `event` (see `events.event_groups`). The rest is as in `CropSettings` and
    `Recipe`. Raises `ValueError` for another `group_by`.
    """

    data: tuple[str, ...]
    model: str
    recipe: Recipe
    crops: CropSettings
    validation: float = 0.2
    min_face: float = MIN_FACE
    seed: int = 0
    device: str = "auto"
    graph: bool = False
    classes: Mapping[str, str] = field(default_factory=dict)
    other_coverings: str | None = None
    cross_validate: int | None = None
    extra: tuple[str, ...] = ()
    initial: str | None = None
    group_by: str = "photograph"

    def __post_init__(self) -> None:
        """Refuse what photographs cannot be grouped by."""
        if self.group_by not in GROUPINGS:
            raise ValueError(
                f"group_by: expected one of {', '.join(GROUPINGS)}, got {self.group_by!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings by name, the recipe's and the crops' among them."""
        flat = {k: v for k, v in asdict(self).items() if k not in ("recipe", "crops")}
        return {**flat, "recipe": asdict(self.recipe), "crops": asdict(self.crops)}

    @classmethod
    def from_json(cls, path: Path, content: Mapping[str, Any]) -> "RunConfig":
        """Return the settings that `path` holds; raises `UsageError` where they are others."""
        try:
            return convert(content, cls)
        except ValueError as error:
            raise UsageError(f"{path}: not the settings of a run ({error})") from error


def initial_classifier(config: RunConfig) -> Classifier | None:
    """Return the model whose weights training begins with, None for random ones.

    Raises `UsageError` where there is none, and for one of another network or on other crops.
    """
    if config.initial is None:
        return None
    initial = Classifier.load(config.initial)
    architecture = architecture_of(config.model, config.crops.size)
    if (initial.architecture, initial.crops) != (architecture, config.crops):
        raise UsageError(
            f"{config.initial}: expected a model to begin with of {architecture} on "
            f"{config.crops}, got {initial.architecture} on {initial.crops}"
        )
    return initial


@dataclass(frozen=True)
class Design:
    """A network and its training that are not the package's, such as those of the examples.

    `kind` is the model (one of `KINDS`) that they take the place of. `network(size, rng)` returns
    the network for crops of a size in pixels, whose layers must be those of `kind` if the saved
    model is to be loaded by the package; `trainer(task, classifier)` returns what trains it, on the
    task's device.
    """

    kind: str
    network: Callable[[int, np.random.Generator], nn.Module]
    trainer: Callable[[Task, Classifier], ClassifierTrainer]


def make_trainer(
    config: RunConfig,
    faces: FaceSet,
    train_faces: NDArray[np.int64],
    validation_faces: NDArray[np.int64],
    architecture: Architecture | None = None,
    design: Design | None = None,
) -> ClassifierTrainer:
    """Return what trains a new model on some faces and judges it on others, by their positions.

    `architecture` is another than the one that the settings' model stands for; a `design` of the
    settings' model takes the place of the package's. Raises `UsageError` as `initial_classifier`.
    """
    if architecture is None:
        architecture = architecture_of(config.model, config.crops.size)
    if design is not None and design.kind != config.model:
        design = None
    rng = np.random.default_rng(config.seed)
    if design is None:
        model: nn.Module = build_model(architecture, rng)
    else:
        model = design.network(config.crops.size, rng)
    normalisation = Normalisation.of(Rows(faces.crops, train_faces))
    hashes = faces.hashes[np.unique(faces.photograph[train_faces])]
    trained_on: NDArray[np.uint64] | None = hashes
    initial = initial_classifier(config)
    if initial is not None:
        model.load_state_dict(initial.model.state_dict())
        normalisation = initial.normalisation
        if initial.trained_on is None:
            trained_on = None  # some of its photographs are not known
        else:
            trained_on = np.unique(np.concatenate([initial.trained_on, hashes]), axis=0)
    classifier = Classifier(
        model,
        architecture,
        config.crops,
        normalisation,
        mirrored=config.recipe.mirrored,
        trained_on=trained_on,
    )
    task = Task(
        faces,
        train_faces,
        validation_faces,
        config.recipe,
        seed=config.seed,
        device=config.device,
        graph=config.graph,
    )
    return (recipe_trainer if design is None else design.trainer)(task, classifier)
