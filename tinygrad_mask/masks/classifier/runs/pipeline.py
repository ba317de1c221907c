"""A training run from photographs to report, and the evaluation of what it made."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.classifier.training.trainer import epoch_line
from tinygrad_mask.masks.duplicates import copies_of
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.fingerprints import fingerprints_of_faces
from tinygrad_mask.masks.runs.terminal import load_state, train_in_folder
from tinygrad_mask.masks.splits import (
    Split,
    check_share,
    check_split,
    load_split,
    save_split,
    split_photographs,
)
from tinygrad_mask.masks.summary import few_faces

# --- training ---------------------------------------------------------------------------------


def train(config: RunConfig, out: Path, design: Design | None = None) -> ClassifierRunFolder:
    """Train on the data sets of `config` and leave everything in the new folder `out`.

    A `design` of the model takes the place of the package's, here and where a run is resumed.
    Raises `UsageError` for data or settings that cannot be used, `DeviceError` for a device that is
    not there, `TrainingDivergedError`, or `InterruptedRunError` after Ctrl-C, when all has been
    saved.
    """
    resolve_device(config.device)  # before the work, not after it
    initial_classifier(config)
    check_share(config.validation)
    with ClassifierRunFolder.start(out, config.to_json()) as folder:
        return _train(config, load_for(config), folder, design)


def resume(
    out: Path, design: Design | None = None, epochs: int | None = None
) -> ClassifierRunFolder:
    """Go on with a run from its last state; as `train`.

    Without `epochs` the run must have been ended before its time, and ends with the bits of an
    uninterrupted one. With `epochs` it is trained until so many epochs are done in all, also if it
    was finished, and its results are replaced. The learning-rate schedule is then that of a run
    of `epochs` epochs, entered where the run is: after a finished one-cycle schedule the rate rises
    once from nearly 0 to the rate that the longer schedule has there, and falls to nearly 0 again.
    """
    with ClassifierRunFolder.take_up(out) as folder:
        config, data = load_unfinished(folder, epochs)
        return _train(config, data, folder, design)


def _train(
    config: RunConfig, data: LoadedData, folder: ClassifierRunFolder, design: Design | None
) -> ClassifierRunFolder:
    """Train from the state in the folder, or from the beginning if there is none yet."""
    begun = folder.has_begun()
    split = _split(config, data, folder)
    train_faces = data.positions(split.train)
    validation_faces = data.positions(split.validation)
    print(data.summary)
    print(f"\ntrained on {len(train_faces):,} faces, judged on {len(validation_faces):,}\n")
    few = few_faces(data.faces.labels[validation_faces])
    if few:
        print(
            f"warning: the faces held back include {few}: the figures of such a report mean "
            "little; take more photographs, or --cross-validate, which judges every face\n"
        )
    trainer = make_trainer(config, data.faces, train_faces, validation_faces, design=design)
    if begun:
        load_state(trainer, folder)
    print(trainer.classifier.model, end="\n\n")
    train_in_folder(trainer, trainer.classifier, folder, epoch_line, resumed=begun)

    scores = trainer.validation_scores()
    if trainer.group.rank > 0:
        return folder
    faces = data.faces
    labels, photograph = faces.labels[validation_faces], faces.photograph[validation_faces]
    judgement = judge(
        labels,
        scores,
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
    print(next_after_training(config, folder), file=sys.stderr)
    return folder


def _split(config: RunConfig, data: LoadedData, folder: ClassifierRunFolder) -> Split:
    """Return the split that the folder holds; if there is none yet, split and write it."""
    prints = fingerprints_of_faces(data.faces)
    if folder.split.exists():
        return load_split(folder.split, data.faces.photographs, prints)
    labels = data.faces.labels_by_photograph()
    split = split_photographs(labels, data.groups, config.validation, config.seed)
    check_split(split, labels, data.groups)
    folder.write_left_out(data.issues)
    save_split(folder.split, split, data.faces.photographs, prints)
    return split


def next_after_training(config: RunConfig, folder: ClassifierRunFolder) -> str:
    """Return what to type after a run; after one on drawn faces, what they are worth."""
    predict = f"next: tinygrad-mask predict --model {folder.path} PICTURE"
    if any(path.partition(":")[0] != "synthetic" for path in config.data):
        return predict
    return (
        "trained on drawn faces: on photographs such a model is worth little (balanced accuracy "
        "0.62 on Larxel's, where 0.33 is chance and the shipped weights have 0.89)\n"
        "next: tinygrad-mask train --data FOLDER_OF_PHOTOGRAPHS\n"
        "or:   tinygrad-mask predict PICTURE, which takes the shipped weights"
    )


# --- evaluation -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of the faces judged, and how many faces there were that the model had seen.

    `trained_on` counts the faces in photographs that the model was trained on, or in copies of
    them; None if the model does not say what it was trained on. They are part of the metrics if
    they were `included`.
    """

    metrics: Metrics
    trained_on: int | None
    included: bool

    def to_json(self) -> dict[str, Any]:
        """Return the metrics by name for `json.dumps`, with `trained_on` if it is not 0."""
        content = self.metrics.to_json()
        if self.trained_on:
            content |= {"trained_on": self.trained_on, "trained_on_included": self.included}
        return content


def evaluate(
    model: str | Path,
    data: Sequence[str],
    *,
    classes: Mapping[str, str] | None = None,
    other_coverings: str | None = None,
    seed: int = 1,
    device: str = "auto",
    include_training: bool = False,
) -> Evaluation:
    """Judge a saved model on the faces of some data sets, however small.

    `model` is the file or the run folder, `seed` that of drawn faces, by default not the one that
    training draws from; the rest is as in `RunConfig`. Faces in photographs that the model was
    trained on, or in copies of them, are left out, unless `include_training`.

    Raises `UsageError` for input that cannot be used, and if the model was trained on every face.
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
    judged = np.arange(len(faces))
    count = None
    if classifier.trained_on is None:
        print(
            f"{model} does not say what it was trained on: faces of these among the ones judged "
            "make the figures too good\n",
            file=sys.stderr,
        )
    else:
        known = copies_of(faces.hashes, classifier.trained_on)[faces.photograph]
        count = int(known.sum())
        if not include_training:
            judged = np.flatnonzero(~known)
            if len(judged) == 0:
                raise UsageError(
                    f"{model} was trained on all {count:,} faces; name other data, or judge them "
                    "with --include-training"
                )
    if count:
        what = "judged too" if include_training else "left out; --include-training judges all"
        print(
            f"trained on {count:,} of the {len(faces):,} faces: {what}\n",
            file=sys.stderr,
        )
    probabilities = classifier.probabilities(Rows(faces.crops, judged), device)
    metrics = compute_metrics(faces.labels[judged], probabilities)
    return Evaluation(metrics, count, include_training)
