"""A detector's training from photographs to report, and the evaluation of what it made."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import resolve_device, set_num_threads
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.detector.evaluation.average_precision import check_pycocotools
from tinygrad_mask.masks.detector.evaluation.judging import (
    DetectorJudgement,
    format_judgement,
    judge_detector,
)
from tinygrad_mask.masks.detector.network.architecture import FaceDetector
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.runs.config import DetectorRunConfig
from tinygrad_mask.masks.detector.runs.loading import DetectorData, load_photographs
from tinygrad_mask.masks.detector.runs.run_folder import DetectorRunFolder, write_evaluation
from tinygrad_mask.masks.detector.training.trainer import (
    DetectorTrainer,
    JudgeDetector,
    detector_epoch_line,
)
from tinygrad_mask.masks.duplicates import copies_of
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.fingerprints import fingerprints_of_boxes
from tinygrad_mask.masks.runs.run_folder import RunFolder, flat_settings
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

JUDGED_IN_TRAINING = 40
"""How many of the photographs held back are judged after each epoch."""

# --- training ---------------------------------------------------------------------------------


def train_detector(config: DetectorRunConfig, out: Path) -> DetectorRunFolder:
    """Train on the data sets of `config` and leave everything in the new folder `out`.

    Raises `UsageError` for data or settings that cannot be used, `DeviceError` for a device that is
    not there, `TrainingDivergedError`, or `InterruptedRunError` after Ctrl-C, when all has been
    saved.
    """
    _check(config)
    check_share(config.validation)
    initial_detector(config)
    with DetectorRunFolder.start(out, config.to_json()) as folder:
        return _train(config, _load(config), folder)


def resume_detector(out: Path, epochs: int | None = None) -> DetectorRunFolder:
    """Go on with a run from its last state; as `train_detector`.

    Without `epochs` the run must have been ended before its time, and ends with the bits of an
    uninterrupted one. With `epochs` it is trained until so many epochs are done in all, also if it
    was finished, and its results are replaced; the learning-rate schedule is then that of a run of
    `epochs` epochs, entered where the run is.
    """
    with DetectorRunFolder.take_up(out) as folder:
        config = DetectorRunConfig.from_json(folder.config, folder.read_config())
        folder.check_resumable(epochs, config.recipe.epochs)
        if epochs is not None:
            config = replace(config, recipe=replace(config.recipe, epochs=epochs))
        _check(config)
        data = _load(config)
        if epochs is not None:
            folder.extend(config.to_json())
        return _train(config, data, folder)


def initial_detector(config: DetectorRunConfig) -> Detector | None:
    """Return the detector whose weights training begins with, None for random ones.

    Raises `UsageError` if there is none, and for one of another network.
    """
    if config.initial is None:
        return None
    initial = Detector.load(config.initial)
    if initial.architecture != config.architecture:
        raise UsageError(
            f"{config.initial}: expected a detector to begin with of {config.architecture}, "
            f"got {initial.architecture}"
        )
    return initial


def held_back_to_judge(data: DetectorData, split: Split) -> NDArray[np.int64]:
    """Return the photographs held back, of several with one name only the first: (n,).

    A data set and an enlarged copy of it would count every photograph twice.
    """
    first: dict[str, int] = {}
    for k in split.validation.tolist():
        first.setdefault(data.photographs[k].name, k)
    return np.array(sorted(first.values()), np.int64)


def _check(config: DetectorRunConfig) -> None:
    """Refuse what would end the run, before the work and not after it."""
    check_pycocotools()
    resolve_device(config.device)
    if config.threads is not None:
        try:
            set_num_threads(config.threads)
        except ValueError as error:
            raise UsageError(f"--threads: {str(error).partition(': ')[2]}") from error


def _load(config: DetectorRunConfig) -> DetectorData:
    return load_photographs(
        config.data,
        classes=config.classes,
        other_coverings=config.other_coverings,
        seed=config.seed,
    )


def _warn_of_known(judged: NDArray[np.uint64], initial: Detector, name: str) -> None:
    """Warn if the weights that training begins with have seen photographs that are judged."""
    if initial.trained_on is None:
        print(
            f"warning: {name} does not say what it was trained on: photographs of these among the "
            "ones judged make the figures too good\n"
        )
        return
    known = int(copies_of(judged, initial.trained_on).sum())
    if known:
        print(
            f"warning: {name} was trained on {known:,} of the {len(judged):,} photographs judged: "
            "the figures are too good\n"
        )


def _trained_on(hashes: NDArray[np.uint64], initial: Detector | None) -> NDArray[np.uint64] | None:
    """Return the hashes of all photographs that a model has seen; None if some are not known."""
    if initial is None:
        return hashes
    if initial.trained_on is None:
        return None
    return np.unique(np.concatenate([initial.trained_on, hashes]), axis=0)


def _split(config: DetectorRunConfig, data: DetectorData, folder: DetectorRunFolder) -> Split:
    """Return the split that the folder holds; if there is none yet, split and write it."""
    prints = fingerprints_of_boxes(data.photographs, data.hashes)
    if folder.split.exists():
        return load_split(folder.split, data.photographs, prints)
    labels = data.labels_by_photograph()
    split = split_photographs(labels, data.groups, config.validation, config.seed)
    check_split(split, labels, data.groups)
    folder.write_left_out(data.issues)
    save_split(folder.split, split, data.photographs, prints)
    return split


def _train(
    config: DetectorRunConfig, data: DetectorData, folder: DetectorRunFolder
) -> DetectorRunFolder:
    """Train from the state in the folder, or from the beginning if there is none yet."""
    begun = folder.has_begun()
    split = _split(config, data, folder)
    judged = [data.photographs[k] for k in held_back_to_judge(data, split)]
    recipe = config.recipe
    print(data.summary)
    print(
        f"\ntrained on {len(split.train):,} photographs, judged on {len(judged):,}: "
        f"{recipe.epochs} epochs of {recipe.steps_per_epoch} steps\n"
    )
    few = few_faces(data.labels[np.isin(data.photograph, held_back_to_judge(data, split))])
    if few:
        print(
            f"warning: the faces held back include {few}: the figures of such a report mean "
            "little; take more photographs\n"
        )
    initial = initial_detector(config)
    if initial is not None:
        _warn_of_known(data.hashes[held_back_to_judge(data, split)], initial, str(config.initial))
    model = FaceDetector(config.architecture, np.random.default_rng(config.seed))
    if initial is not None:
        model.load_state_dict(initial.model.state_dict())
    model.to(config.device)
    trained_on = _trained_on(data.hashes[split.train], initial)
    detector = Detector(model, config.architecture, config.input, trained_on=trained_on)
    order = np.random.default_rng(config.seed).permutation(len(judged))[:JUDGED_IN_TRAINING]
    trainer = DetectorTrainer(
        model,
        [data.photographs[k] for k in split.train],
        recipe,
        seed=config.seed,
        callbacks=[JudgeDetector(detector, [judged[k] for k in sorted(order.tolist())])],
    )
    if begun:
        load_state(trainer, folder)
    print(f"{model.parameter_count():,} parameters\n")
    train_in_folder(trainer, detector, folder, detector_epoch_line, resumed=begun)
    if trainer.group.rank > 0:
        return folder
    with trainer.averaged():
        judgement = judge_detector(detector, judged)
    folder.write_results(judgement, trainer.progress.history, data.summary)
    print(f"\n{format_judgement(judgement)}\n\n{folder.path}: model, report and pictures")
    print(next_after_detector(config, folder), file=sys.stderr)
    return folder


def next_after_detector(config: DetectorRunConfig, folder: DetectorRunFolder) -> str:
    """Return what to type after a run; after one on drawn faces, that those are not real."""
    evaluate = f"next: tinygrad-mask evaluate-detector {folder.path} --data OTHER_PHOTOGRAPHS"
    if any(path.partition(":")[0] != "synthetic" for path in config.data):
        return evaluate
    return (
        "trained on drawn faces: such a detector finds few faces in photographs\n"
        "next: tinygrad-mask train-detector --data FOLDER_OF_PHOTOGRAPHS"
    )


# --- evaluation -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DetectorEvaluation:
    """The judgement of a saved detector, and how many of the photographs it was trained on.

    `trained_on` is None if the model does not say what it was trained on. Those photographs are
    part of the judgement if they were `included`.
    """

    judgement: DetectorJudgement
    trained_on: int | None
    included: bool

    def to_json(self) -> dict[str, Any]:
        """Return the figures for `json.dumps`, and what is known of the training."""
        content = {**self.judgement.to_json(), "trained_on": self.trained_on}
        if self.trained_on:
            content["trained_on_included"] = self.included
        return content


def evaluate_detector(
    model: str | Path,
    data: Sequence[str],
    *,
    classifier: str | Path | None = None,
    classes: Mapping[str, str] | None = None,
    other_coverings: str | None = None,
    seed: int = 1,
    device: str = "auto",
    include_training: bool = False,
    out: Path | None = None,
) -> DetectorEvaluation:
    """Judge a saved detector on the photographs of some data sets.

    `model` is the file or the run folder, `classifier` that of its second stage, if any; `seed` is
    that of drawn photographs, by default not the one that training draws from. Photographs that
    detector or classifier were trained on, or copies of them, are left out, unless
    `include_training`. Figures, pictures and a report are written into the new folder `out`.

    Raises `UsageError` for input that cannot be used, and if all photographs were trained on.
    """
    check_pycocotools()
    resolve_device(device)
    if out is not None:
        RunFolder.check_free(out)
    second = None if classifier is None else Classifier.load(classifier)
    detector = Detector.load(model, second)
    detector.model.to(device)
    if second is not None:
        second.model.to(device)
    loaded = load_photographs(data, classes=classes, other_coverings=other_coverings, seed=seed)
    print(loaded.summary, end="\n\n", file=sys.stderr)
    known, count = _known(loaded, {str(model): detector, str(classifier): second})
    if count and not include_training and known.all():
        raise UsageError(
            f"{model} was trained on all {len(known):,} photographs; name other data, or judge "
            "them with --include-training"
        )
    if count:
        what = "judged too" if include_training else "left out; --include-training judges all"
        print(
            f"trained on {known.sum():,} of the {len(known):,} photographs: {what}\n",
            file=sys.stderr,
        )
    judged = np.arange(len(known)) if include_training else np.flatnonzero(~known)
    judgement = judge_detector(detector, [loaded.photographs[k] for k in judged])
    if out is not None:
        folder = RunFolder.create(out)
        settings = {
            "model": str(model),
            "classifier": None if classifier is None else str(classifier),
            "data": list(data),
            "include_training": include_training,
            "trained_on": count,
        }
        write_evaluation(folder.path, judgement, flat_settings(settings), loaded.summary)
    return DetectorEvaluation(judgement, count, include_training)


def _known(
    data: DetectorData, models: Mapping[str, Detector | Classifier | None]
) -> tuple[NDArray[np.bool_], int | None]:
    """Return which photographs a model was trained on, and how many; None if one does not say."""
    known = np.zeros(len(data.photographs), bool)
    unsaid = False
    for name, model in models.items():
        if model is None:
            continue
        if model.trained_on is None:
            unsaid = True
            print(
                f"{name} does not say what it was trained on: photographs of these among the ones "
                "judged make the figures too good\n",
                file=sys.stderr,
            )
        else:
            known |= copies_of(data.hashes, model.trained_on)
    return known, None if unsaid else int(known.sum())
