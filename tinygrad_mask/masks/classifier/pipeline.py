"""A training run from photographs to report, and the evaluation of what it made."""

import dataclasses
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.backends import get_backend
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.classifier import Classifier, Normalisation
from tinygrad_mask.masks.classifier.metrics import (
    Metrics,
    compute_metrics,
    format_metrics,
    metrics_by_size,
)
from tinygrad_mask.masks.classifier.models import architecture_of, build_model
from tinygrad_mask.masks.classifier.recipes import Recipe
from tinygrad_mask.masks.classifier.run_folder import RunFolder
from tinygrad_mask.masks.classifier.training import (
    InterruptedRunError,
    Trainer,
    TrainingDivergedError,
)
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.datasets import open_datasets
from tinygrad_mask.masks.duplicates import duplicate_groups
from tinygrad_mask.masks.faces import MIN_FACE, FaceSet, cut_faces
from tinygrad_mask.masks.problems import Problems, UsageError
from tinygrad_mask.masks.splits import (
    Split,
    check_share,
    load_split,
    save_split,
    split_photographs,
)
from tinygrad_mask.masks.summary import summarise

WORKERS = 2
"""Threads that decode photographs."""


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run, as `config.json` keeps them.

    `data` are the data sets (see `open_dataset`), `validation` the share of photographs held back,
    `min_face` the smallest face cut out, in pixels, `graph` whether a GPU is given each step as a
    whole (see `Trainer`); the rest is as in `CropSettings` and `Recipe`.
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
    classes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    other_coverings: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the settings by name, the recipe's and the crops' among them."""
        flat = {k: v for k, v in asdict(self).items() if k not in ("recipe", "crops")}
        return {**flat, "recipe": asdict(self.recipe), "crops": asdict(self.crops)}

    @classmethod
    def from_json(cls, path: Path, content: Mapping[str, Any]) -> "RunConfig":
        """Return the settings that `path` holds; raises `UsageError` where they are others."""
        try:
            fields = dict(content)
            fields["data"] = tuple(fields["data"])
            fields["recipe"] = Recipe(**fields["recipe"])
            fields["crops"] = CropSettings(**fields["crops"])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: not the settings of a run ({error})") from error


@dataclass(frozen=True, eq=False)
class _Data:
    """The faces of some data sets, which of their photographs are copies, and what was left out."""

    faces: FaceSet
    groups: NDArray[np.int64]
    problems: Problems

    @property
    def summary(self) -> str:
        return summarise(self.faces, self.groups, self.problems)

    def positions(self, photographs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of the faces in these photographs."""
        return np.flatnonzero(np.isin(self.faces.photograph, photographs))


def _load(
    paths: Sequence[str],
    crops: CropSettings,
    *,
    min_face: float,
    classes: Mapping[str, str] | None,
    other_coverings: str | None,
    seed: int,
) -> _Data:
    """Open data sets, cut their faces out and find the copies among their photographs."""
    problems = Problems()
    photographs = open_datasets(
        paths, problems, classes=classes, other_coverings=other_coverings, seed=seed
    )
    faces = cut_faces(
        photographs,
        crops,
        problems,
        min_face=min_face,
        workers=WORKERS,
        progress=sys.stderr.isatty(),
    )
    return _Data(faces, duplicate_groups(faces.hashes), problems)


# --- training ---------------------------------------------------------------------------------


def train(config: RunConfig, out: Path) -> RunFolder:
    """Train on the data sets of `config` and leave everything in the new folder `out`.

    Raises `UsageError` for data or settings that cannot be used, `DeviceError` for a device that is
    not there, `TrainingDivergedError`, or `InterruptedRunError` after Ctrl-C, when all has been
    saved.
    """
    get_backend(config.device)  # before the work, not after it
    check_share(config.validation)
    RunFolder.check_free(out)
    data = _load_for(config)
    labels = data.faces.labels_by_photograph()
    split = split_photographs(labels, data.groups, config.validation, config.seed)
    folder = RunFolder.create(out)
    folder.write_config(config.to_json(), data.problems)
    save_split(folder.split, split, data.faces.photographs)
    return _train(config, data, split, folder, resumed=False)


def resume(out: Path) -> RunFolder:
    """Go on with a run that was ended before its time, from its last state; as `train`."""
    folder = RunFolder(out)
    config = RunConfig.from_json(folder.config, folder.read_config())
    if folder.is_finished():
        raise UsageError(f"{out}: this run is finished; there is nothing to resume")
    get_backend(config.device)
    data = _load_for(config)
    split = load_split(folder.split, data.faces.photographs)
    return _train(config, data, split, folder, resumed=True)


def _load_for(config: RunConfig) -> _Data:
    return _load(
        config.data,
        config.crops,
        min_face=config.min_face,
        classes=config.classes,
        other_coverings=config.other_coverings,
        seed=config.seed,
    )


def _train(
    config: RunConfig, data: _Data, split: Split, folder: RunFolder, *, resumed: bool
) -> RunFolder:
    train_faces = data.positions(split.train)
    validation_faces = data.positions(split.validation)
    print(data.summary)
    print(f"\ntrained on {len(train_faces):,} faces, judged on {len(validation_faces):,}\n")
    trainer = _make_trainer(config, data.faces, train_faces, validation_faces)
    if resumed:
        state = folder.read_checkpoint()
        try:
            trainer.load_state(*state)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{folder.checkpoint}: not the state of this run ({error})") from error
    print(trainer.classifier.model, end="\n\n")

    def write_state() -> None:
        folder.write_state(trainer.classifier, trainer.progress.history, trainer.state())

    def after_epoch() -> None:
        write_state()
        print(epoch_line(trainer.progress.history[-1], config.recipe.epochs), flush=True)

    try:
        with _stopping() as stop:
            trainer.run(after_epoch, stop=stop, show_progress=sys.stderr.isatty())
    except InterruptedRunError:
        write_state()
        raise InterruptedRunError(
            f"stopped in epoch {trainer.progress.epoch + 1}, and saved; "
            f"go on with --resume {folder.path}"
        ) from None
    except TrainingDivergedError as error:
        if not folder.model.exists():
            raise
        kept = f"{folder.model} is as it was after epoch {trainer.progress.epoch}"
        raise TrainingDivergedError(f"{error}; {kept}") from None

    metrics, probabilities = trainer.validate()
    labels, sizes = data.faces.labels[validation_faces], data.faces.sizes[validation_faces]
    folder.write_results(
        metrics=metrics,
        by_size=metrics_by_size(labels, probabilities, sizes),
        crops=Rows(data.faces.crops, validation_faces),
        labels=labels,
        probabilities=probabilities,
        names=[data.faces.photographs[k].name for k in data.faces.photograph[validation_faces]],
        history=trainer.progress.history,
        data_summary=data.summary,
    )
    print(f"\n{format_metrics(metrics)}\n\n{folder.path}: model, report and pictures")
    return folder


def _make_trainer(
    config: RunConfig,
    faces: FaceSet,
    train_faces: NDArray[np.int64],
    validation_faces: NDArray[np.int64],
) -> Trainer:
    architecture = architecture_of(config.model, config.crops.size)
    classifier = Classifier(
        build_model(architecture, np.random.default_rng(config.seed)),
        architecture,
        config.crops,
        Normalisation.of(Rows(faces.crops, train_faces)),
    )
    return Trainer(
        classifier,
        faces,
        train_faces,
        validation_faces,
        config.recipe,
        seed=config.seed,
        device=config.device,
        graph=config.graph,
    )


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Say an epoch of the history in one line, as Keras does."""
    return (
        f"Epoch {row['epoch']:.0f}/{epochs} - {row['seconds']:.1f}s"
        f" - loss: {row['loss']:.4f} - accuracy: {row['accuracy']:.4f}"
        f" - val_loss: {row['val_loss']:.4f} - val_accuracy: {row['val_accuracy']:.4f}"
        f" - val_balanced_accuracy: {row['val_balanced_accuracy']:.4f}"
        f" - val_improper_recall: {row['val_improper_recall']:.4f}"
    )


@contextmanager
def _stopping() -> Iterator[Any]:
    """Yield a function that says whether Ctrl-C was pressed; a second one interrupts at once.

    Between two steps the weights, the optimiser and the place in the epoch belong together; an
    exception from within a step would tear them apart.
    """
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def press(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


# --- evaluation -------------------------------------------------------------------------------


def evaluate(
    model: str | Path,
    data: Sequence[str],
    *,
    classes: Mapping[str, str] | None = None,
    other_coverings: str | None = None,
    seed: int = 1,
    device: str = "auto",
) -> Metrics:
    """Judge a saved model on every face of some data sets, however small.

    `model` is the file or the run folder, `seed` that of drawn faces, by default not the one that
    training draws from; the rest is as in `RunConfig`. Raises `UsageError` where
    one cannot be used.
    """
    get_backend(device)
    classifier = Classifier.load(model)
    classifier.model.to(device)
    loaded = _load(
        data,
        classifier.crops,
        min_face=0,
        classes=classes,
        other_coverings=other_coverings,
        seed=seed,
    )
    print(loaded.summary, end="\n\n", file=sys.stderr)
    faces = loaded.faces
    probabilities = classifier.probabilities(Rows(faces.crops, np.arange(len(faces))), device)
    return compute_metrics(faces.labels, probabilities)
