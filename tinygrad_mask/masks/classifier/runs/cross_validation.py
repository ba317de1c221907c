"""Cross-validation: every face is judged once, by a model that never saw its photograph."""

import csv
import hashlib
import io
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import resolve_device, serialization
from tinygrad_mask.data import Rows
from tinygrad_mask.files import encode, write_file
from tinygrad_mask.masks.classifier.evaluation.judging import Judgement, judge
from tinygrad_mask.masks.classifier.evaluation.metrics import format_metrics, recall_of_improper
from tinygrad_mask.masks.classifier.runs.config import (
    Design,
    RunConfig,
    initial_classifier,
    make_trainer,
)
from tinygrad_mask.masks.classifier.runs.loading import LoadedData, load_for, load_unfinished
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.classifier.training.trainer import epoch_line
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.fingerprints import fingerprints_of_faces
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.report.markdown import interval_text
from tinygrad_mask.masks.runs.terminal import run_in_terminal
from tinygrad_mask.masks.schemas import decode_json
from tinygrad_mask.masks.splits import fold_photographs
from tinygrad_mask.training import InterruptedRunError

ALWAYS_TRAINED = -1
"""The fold of photographs that are trained on and never judged."""


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What came out: a row for each of n judged faces, in the order of the data.

    `positions` (n,) are those in the face set, `labels` (n,) the truth, `scores` (n, 3) those of
    the model that had not seen the photograph, `sizes` (n,) the faces' in pixels, `fold` (n,) and
    `group` (n,) the fold and the group of copies that the photograph is of. `history` holds a row
    for each epoch of each fold.
    """

    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    sizes: NDArray[np.float32]
    fold: NDArray[np.int64]
    group: NDArray[np.int64]
    history: list[list[dict[str, float]]]


def cross_validate(config: RunConfig, out: Path, design: Design | None = None) -> CrossValidation:
    """Train `config.cross_validate` models, and leave what they say in the new folder `out`.

    Raises `UsageError` for data or settings that cannot be used, `TrainingDivergedError`, or
    `InterruptedRunError` after Ctrl-C; the folds that are done are kept, and `resume` goes on.
    """
    resolve_device(config.device)
    initial_classifier(config)
    with ClassifierRunFolder.start(out, config.to_json()) as folder:
        return _run(config, load_for(config), folder, design)


def resume(out: Path, design: Design | None = None) -> CrossValidation:
    """Go on with a cross-validation that was ended before its time, with the next fold."""
    with ClassifierRunFolder.take_up(out) as folder:
        config, data = load_unfinished(folder)
        return _run(config, data, folder, design)


def _number_of(config: RunConfig) -> int:
    if config.cross_validate is None:
        raise UsageError("expected the settings of a cross-validation, got those of a single run")
    return config.cross_validate


def assign_folds(data: LoadedData, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each photograph; `ALWAYS_TRAINED` for extra ones, where that is safe.

    An extra photograph that is a copy of one that is judged has its fold: it is not trained on
    where that one is judged.
    """
    labels = data.faces.labels_by_photograph()
    judged = np.flatnonzero(data.judged)
    fold = np.full(len(labels), ALWAYS_TRAINED)
    fold[judged] = fold_photographs([labels[k] for k in judged], data.groups[judged], folds, seed)
    of_group = dict(zip(data.groups[judged].tolist(), fold[judged].tolist(), strict=True))
    for k in np.flatnonzero(~data.judged):
        fold[k] = of_group.get(int(data.groups[k]), ALWAYS_TRAINED)
    return fold


def sides_of_fold(
    data: LoadedData, folds: NDArray[np.int64], fold: int, min_face: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the faces to train on and of those to judge in a fold.

    Faces under `min_face` pixels are judged, not trained on. Raises `AssertionError` where a
    photograph or a copy of it were on both sides.
    """
    train = np.flatnonzero(folds != fold)
    judged = np.flatnonzero((folds == fold) & data.judged)
    if np.isin(train, judged).any() or np.isin(data.groups[train], data.groups[judged]).any():
        raise AssertionError(f"fold {fold + 1}: a photograph is trained on and judged")
    trained_faces = data.positions(train)
    return trained_faces[data.faces.sizes[trained_faces] >= min_face], data.positions(judged)


def _run(
    config: RunConfig, data: LoadedData, folder: ClassifierRunFolder, design: Design | None
) -> CrossValidation:
    out, count = folder.path, _number_of(config)
    folds = assign_folds(data, count, config.seed)
    path = out / "folds.json"
    if not path.exists():
        folder.write_left_out(data.issues)
        write_file(path, _folds_json(data, folds))
    elif path.read_bytes() != _folds_json(data, folds):
        raise UsageError(f"{path}: the data are no longer those of this run")
    print(data.summary, end="\n\n")
    parts = [_fold(config, data, folds, fold, out, design) for fold in range(count)]
    result = pool(data, folds, parts)
    judgement = judge(
        result.labels,
        result.scores,
        photograph=result.group,
        sizes=result.sizes,
        parts=result.fold,
    )
    _write_results(result, judgement, data, folder)
    print(f"\n{format_result(result, judgement)}\n\n{out}: predictions, report and pictures")
    print(
        "next: tinygrad-mask train with the same options but --cross-validate, for a model to use",
        file=sys.stderr,
    )
    return result


@dataclass(frozen=True, eq=False)
class FoldResult:
    """The scores (m, 3) of the faces judged in a fold, by their positions, and its epochs."""

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]
    history: list[dict[str, float]]


def pool(
    data: LoadedData, folds: NDArray[np.int64], parts: Sequence[FoldResult]
) -> CrossValidation:
    """Put the folds together; raises `AssertionError` unless each judged face is there once."""
    positions = np.concatenate([part.positions for part in parts])
    order = np.argsort(positions, kind="stable")
    expected = data.positions(np.flatnonzero(data.judged))
    positions = positions[order]
    if not np.array_equal(positions, expected):
        raise AssertionError("cross-validation: not every face was judged exactly once")
    photograph = data.faces.photograph[positions]
    return CrossValidation(
        positions=positions,
        labels=data.faces.labels[positions],
        scores=np.concatenate([part.scores for part in parts])[order],
        sizes=data.faces.sizes[positions],
        fold=folds[photograph],
        group=data.groups[photograph],
        history=[part.history for part in parts],
    )


def _fold(
    config: RunConfig,
    data: LoadedData,
    folds: NDArray[np.int64],
    fold: int,
    out: Path,
    design: Design | None,
) -> FoldResult:
    """Train and judge a fold, or read what came of it before."""
    train, judged = sides_of_fold(data, folds, fold, config.min_face)
    path = out / f"fold-{fold + 1}.safetensors"
    name = f"fold {fold + 1} of {_number_of(config)}"
    if path.exists():
        print(f"{name}: done before")
        return _read_fold(path, judged)
    print(f"{name}: trained on {len(train):,} faces, judged on {len(judged):,}", flush=True)
    trainer = make_trainer(config, data.faces, train, judged, design=design)
    try:
        run_in_terminal(trainer, epoch_line)
    except InterruptedRunError:
        raise InterruptedRunError(
            f"stopped in {name}; the folds before it are done; go on with --resume {out}"
        ) from None
    with trainer.averaged():
        trainer.classifier.save(fold_model(out, fold), overwrite=True)
    result = FoldResult(judged, trainer.validation_scores(), trainer.progress.history)
    arrays: dict[str, NDArray[Any]] = {"positions": result.positions, "scores": result.scores}
    serialization.save(path, arrays, {"history": json.dumps(result.history)})
    return result


def fold_model(out: Path, fold: int) -> Path:
    """Return where the model that judged a fold, counted from 0, is kept."""
    return out / f"fold-{fold + 1}-model.safetensors"


def _read_fold(path: Path, judged: NDArray[np.int64]) -> FoldResult:
    try:
        arrays, texts = serialization.load(path)
        result = FoldResult(
            arrays["positions"],
            arrays["scores"],
            decode_json(texts["history"], list[dict[str, float]]),
        )
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: cannot be read as a fold's result ({error})") from error
    if not np.array_equal(result.positions, judged):
        raise UsageError(f"{path}: holds other faces than those of this fold")
    return result


# --- what is left in the folder -----------------------------------------------------------------


def format_result(result: CrossValidation, judgement: Judgement) -> str:
    """Lay the pooled figures out as plain text: all faces, their intervals, each size, the time."""
    names = {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro-F1",
        "improper_recall": "improper, recall",
    }
    lines = [format_metrics(judgement.metrics), ""]
    lines += ["95 % intervals, by bootstrap over photographs"]
    lines += [
        f"{text:17}  {interval_text(judgement.intervals[name])}" for name, text in names.items()
    ]
    lines += [
        "",
        "face       faces  accuracy  (baseline)  balanced  macro-F1  (95 % interval)"
        "  improper, recall",
    ]
    lines += [
        f"{size:9}  {of.n:5}  {of.accuracy:8.3f}  {of.baseline_accuracy:10.3f}"
        f"  {of.balanced_accuracy:8.3f}  {of.macro_f1:8.3f}"
        f"  {interval_text(judgement.intervals_by_size[size]['macro_f1']):15}"
        f"  {recall_of_improper(of)}"
        for size, of in judgement.by_size.items()
    ]
    seconds, waited = (
        [sum(row[key] for row in history) for history in result.history]
        for key in ("seconds", "waited")
    )
    lines += [
        "",
        f"a fold took {np.mean(seconds):.0f} s (at most {max(seconds):.0f} s), "
        f"{sum(waited) / sum(seconds):.1%} of it waiting for data",
    ]
    return "\n".join(lines)


def _write_results(
    result: CrossValidation, judgement: Judgement, data: LoadedData, folder: ClassifierRunFolder
) -> None:
    faces, text = data.faces, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [f"score_{label}" for label in LABELS]
    writer.writerow(["source", "photograph", "face", "size", "label", "predicted", "fold", *scores])
    names = []
    for row, position in enumerate(result.positions):
        photograph = faces.photographs[faces.photograph[position]]
        names.append(photograph.name)
        writer.writerow(
            [
                photograph.source,
                photograph.name,
                faces.face[position],
                f"{result.sizes[row]:g}",
                LABELS[result.labels[row]],
                LABELS[int(result.scores[row].argmax())],
                result.fold[row] + 1,
                *(f"{score:.6f}" for score in result.scores[row]),
            ]
        )
    write_file(folder.path / "predictions.csv", encode(text.getvalue()), overwrite=True)
    folder.write_results(
        classifier=None,
        judgement=judgement,
        crops=Rows(faces.crops, result.positions),
        labels=result.labels,
        names=names,
        history=mean_history(result.history),
        data_summary=data.summary,
    )


def mean_history(histories: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Return the epochs of several runs as one: the mean of each number."""
    return [
        {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        for rows in zip(*histories, strict=True)
    ]


def _folds_json(data: LoadedData, folds: NDArray[np.int64]) -> bytes:
    """The names of the photographs of each fold, and of those that are in none, by source."""
    content: dict[str, Mapping[str, list[str]]] = {}
    digest = hashlib.sha256("".join(fingerprints_of_faces(data.faces)).encode()).hexdigest()
    for fold in np.unique(folds):
        names: dict[str, list[str]] = defaultdict(list)
        for k in np.flatnonzero(folds == fold):
            names[data.faces.photographs[k].source].append(data.faces.photographs[k].name)
        content["always trained on" if fold == ALWAYS_TRAINED else f"fold {fold + 1}"] = names
    content["data"] = {"fingerprint": [digest]}
    return encode(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
