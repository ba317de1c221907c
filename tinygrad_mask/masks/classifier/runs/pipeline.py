"""A training run from photographs to report, and the evaluation of what it made."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tinygrad_mask import resolve_device
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.evaluation.calibration import halves
from tinygrad_mask.masks.classifier.evaluation.judging import judge
from tinygrad_mask.masks.classifier.evaluation.metrics import (
    Metrics,
    compute_metrics,
    format_metrics,
)
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.runs.config import (
    Design,
    RunConfig,
    initial_classifier,
    make_trainer,
)
from tinygrad_mask.masks.classifier.runs.loading import LoadedData, load, load_for, load_unfinished
from tinygrad_mask.masks.classifier.runs.run_folder import RunFolder
from tinygrad_mask.masks.classifier.training.trainer import run_in_terminal
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.splits import (
    Split,
    check_share,
    load_split,
    save_split,
    split_photographs,
)
from tinygrad_mask.training import InterruptedRunError, TrainingDivergedError

# --- training ---------------------------------------------------------------------------------


def train(config: RunConfig, out: Path, design: Design | None = None) -> RunFolder:
    """Train on the data sets of `config` and leave everything in the new folder `out`.

    A `design` of the model takes the place of the package's, here and where a run is resumed.
    Raises `UsageError` for data or settings that cannot be used, `DeviceError` for a device that is
    not there, `TrainingDivergedError`, or `InterruptedRunError` after Ctrl-C, when all has been
    saved.
    """
    resolve_device(config.device)  # before the work, not after it
    initial_classifier(config)
    check_share(config.validation)
    RunFolder.check_free(out)
    data = load_for(config)
    labels = data.faces.labels_by_photograph()
    split = split_photographs(labels, data.groups, config.validation, config.seed)
    folder = RunFolder.create(out)
    folder.write_config(config.to_json(), data.issues)
    save_split(folder.split, split, data.faces.photographs)
    return _train(config, data, split, folder, design, resumed=False)


def resume(out: Path, design: Design | None = None) -> RunFolder:
    """Go on with a run that was ended before its time, from its last state; as `train`."""
    folder, config, data = load_unfinished(out)
    split = load_split(folder.split, data.faces.photographs)
    return _train(config, data, split, folder, design, resumed=True)


def _train(
    config: RunConfig,
    data: LoadedData,
    split: Split,
    folder: RunFolder,
    design: Design | None,
    *,
    resumed: bool,
) -> RunFolder:
    train_faces = data.positions(split.train)
    validation_faces = data.positions(split.validation)
    print(data.summary)
    print(f"\ntrained on {len(train_faces):,} faces, judged on {len(validation_faces):,}\n")
    trainer = make_trainer(config, data.faces, train_faces, validation_faces, design=design)
    if resumed:
        state = folder.read_checkpoint()
        try:
            trainer.load_state(*state)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{folder.checkpoint}: not the state of this run ({error})") from error
    print(trainer.classifier.model, end="\n\n")

    def write_state() -> None:
        state = trainer.state()
        with trainer.averaged():
            folder.write_state(trainer.classifier, trainer.progress.history, state)

    try:
        run_in_terminal(trainer, write_state)
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

    faces = data.faces
    labels, photograph = faces.labels[validation_faces], faces.photograph[validation_faces]
    judgement = judge(
        labels,
        trainer.validation_scores(),
        photograph=data.groups[photograph],
        sizes=faces.sizes[validation_faces],
        parts=halves(data.groups[photograph]),
    )
    trainer.classifier.temperature = judgement.calibration.temperature
    with trainer.averaged():
        folder.write_results(
            classifier=trainer.classifier,
            judgement=judgement,
            crops=Rows(faces.crops, validation_faces),
            labels=labels,
            names=[faces.photographs[k].name for k in photograph],
            history=trainer.progress.history,
            data_summary=data.summary,
        )
    print(f"\n{format_metrics(judgement.metrics)}\n\n{folder.path}: model, report and pictures")
    return folder


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
    resolve_device(device)
    classifier = Classifier.load(model)
    classifier.model.to(device)
    loaded = load(
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
