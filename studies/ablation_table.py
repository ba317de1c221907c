"""The table of the ablation, from the scores that its folds left."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ablation_variants import EPOCHS, FOLDS, LONG, LONGER, VARIANTS

from tinygrad_mask import serialization
from tinygrad_mask.masks.classifier.evaluation.metrics import (
    Metrics,
    bootstrap_intervals,
    compute_metrics,
    metrics_by_size,
    recall_of_improper,
)
from tinygrad_mask.masks.report.markdown import interval_text, table

REFERENCE = "short"
SAMPLES = 2000

_HEADER = f"""\
# What each choice of the recipe gives

Five folds by photograph, near-duplicates together, on Larxel's data set (683 photographs, 3325
faces, 103 of them `improper`); every face judged once, by a model that never saw its photograph.
One thing is changed at a time, in a recipe of {EPOCHS} epochs in place of {LONGER}: a
third of the training, after which all figures are lower, and what makes the task harder (the
augmentation) has had less time to pay than it has in the whole of it, where some of it is compared
again. Written by `studies/ablation.py`.

Macro-F1 and the recall of `improper` have 95 % intervals by bootstrap over photographs; the column
"against it" says how macro-F1 changes against the recipe of {EPOCHS} epochs, photograph by
photograph, with the 95 % interval of the difference: where that holds 0, the data cannot tell the
two apart. Another seed alone moves the figures too.
"""


@dataclass(frozen=True, eq=False)
class FoldScores:
    """What the model of a fold says of its faces, by the ways of asking it (`readout_name`)."""

    positions: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    group: np.ndarray
    scores: dict[str, np.ndarray]
    parameters: int

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in ("positions", "labels", "sizes", "group")}
        arrays |= {f"scores.{name}": scores for name, scores in self.scores.items()}
        serialization.save(path, arrays, {"parameters": json.dumps(self.parameters)})

    @classmethod
    def load(cls, path: Path) -> "FoldScores":
        arrays, texts = serialization.load(path)
        scores = {k.removeprefix("scores."): v for k, v in arrays.items() if "scores." in k}
        rest = {k: v for k, v in arrays.items() if "scores." not in k}
        return cls(**rest, scores=scores, parameters=json.loads(texts["parameters"]))

    def line(self) -> str:
        metrics = compute_metrics(self.labels, next(iter(self.scores.values())))
        return f"macro-F1 {metrics.macro_f1:.3f}, improper {recall_of_improper(metrics)}"


def fold_file(out: Path, name: str, fold: int) -> Path:
    return out / name / f"fold-{fold + 1}.safetensors"


def readout_name(decay: float, mirrored: bool) -> str:
    """Return the name of a way to ask a model: with an average of its weights, on both sides."""
    return f"{f'average {decay}' if decay else 'last weights'}{', mirrored' if mirrored else ''}"


READOUT = readout_name(0, True)
"""The recipe's."""


@dataclass(frozen=True, eq=False)
class Line:
    """A line of the table: all faces with one way of asking."""

    name: str
    labels: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray
    group: np.ndarray
    parameters: int

    @property
    def what(self) -> str:
        return VARIANTS[self.name].what

    @property
    def metrics(self) -> Metrics:
        return compute_metrics(self.labels, self.scores)


def pooled(out: Path, name: str, readout: str) -> Line | None:
    """Return a variant's line, None while folds are missing."""
    paths = [fold_file(out, name, fold) for fold in range(FOLDS)]
    if not all(path.exists() for path in paths):
        return None
    parts = [FoldScores.load(path) for path in paths]
    order = np.argsort(np.concatenate([part.positions for part in parts]))

    def joined(key: str) -> np.ndarray:
        return np.concatenate([getattr(part, key) for part in parts])[order]

    return Line(
        name,
        joined("labels"),
        np.concatenate([part.scores[readout] for part in parts])[order],
        joined("sizes"),
        joined("group"),
        parts[0].parameters,
    )


def done(out: Path) -> tuple[list[Line], list[Line]]:
    """Return the lines of all variants that are done: those of the recipe's length, the others."""
    lines = {name: pooled(out, name, READOUT) for name in VARIANTS}
    there = {name: line for name, line in lines.items() if line is not None}
    return (
        [there[name] for name in LONG if name in there],
        [line for name, line in there.items() if name not in LONG],
    )


def write_table(path: Path, out: Path) -> None:
    """Write the table of all variants that are done, of the recipe at least."""
    long, short = done(out)
    if not short or short[0].name != REFERENCE:
        return
    sections = [
        _HEADER,
        "![Macro-F1 and recall of improper of each line](pictures/ablation.png)",
        "## One change at a time",
        _table([_baseline(short[0]), *_rows(short)]),
    ]
    if long:
        sections += [
            "## At the recipe's own length",
            _LONG.format(LONGER),
            _table(list(_rows(long))),
            "## How the trained model is asked",
            _ASKED.format(LONGER, long[0].what),
            _table(list(_readout_rows(out, long[0]))),
        ]
    path.write_text("\n\n".join(section.strip() for section in sections) + "\n")


_LONG = """\
Trainings of {} epochs; "against it" is against the first of them. (The recipe's own
cross-validation, on two threads, is in the [model card](model_card.md).)
"""

_ASKED = """\
Trainings of {} epochs ({}):
asked with their last weights or with a moving average of them, about the crop alone or about its
mirror image too.
"""


def _rows(lines: list[Line]) -> Iterator[list[str]]:
    """Yield a row for each line, the first of which the others are compared with."""
    for position, line in enumerate(lines):
        yield _row(line.what, line, lines[0] if position else None)


def _readout_rows(out: Path, reference: Line) -> Iterator[list[str]]:
    """Yield a variant's training, asked in each way; the first is the recipe's."""
    readouts = FoldScores.load(fold_file(out, reference.name, 0)).scores
    for readout in sorted(readouts, key=lambda r: (r != READOUT, "mirrored" not in r, r)):
        line = pooled(out, reference.name, readout)
        assert line is not None
        yield _row(readout, line, None if readout == READOUT else reference)


def intervals_of(line: Line) -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals of a line's figures, by bootstrap over photographs."""
    return bootstrap_intervals(
        line.labels, line.scores, line.group, samples=SAMPLES, rng=np.random.default_rng(0)
    )


def _row(what: str, line: Line, reference: Line | None) -> list[str]:
    metrics, intervals = line.metrics, intervals_of(line)
    large = metrics_by_size(line.labels, line.scores, line.sizes)[">= 32 px"]
    macro, recall = (interval_text(intervals[k]) for k in ("macro_f1", "improper_recall"))
    return [
        what,
        f"{metrics.accuracy:.3f}",
        f"{metrics.balanced_accuracy:.3f}",
        f"{metrics.macro_f1:.3f}, {macro}",
        f"{recall_of_improper(metrics)}, {recall}",
        f"{large.macro_f1:.3f}",
        "" if reference is None else _difference(line, reference),
        f"{line.parameters:,}",
    ]


def _baseline(reference: Line) -> list[str]:
    metrics = compute_metrics(reference.labels, reference.labels * 0)
    large = metrics_by_size(reference.labels, reference.labels * 0, reference.sizes)[">= 32 px"]
    return [
        "always `proper`",
        f"{metrics.accuracy:.3f}",
        f"{metrics.balanced_accuracy:.3f}",
        f"{metrics.macro_f1:.3f}",
        recall_of_improper(metrics),
        f"{large.macro_f1:.3f}",
        "",
        "",
    ]


def _table(rows: list[list[str]]) -> str:
    header = [
        "",
        "accuracy",
        "balanced accuracy",
        "macro-F1",
        "recall of `improper`",
        "macro-F1 from 32 px",
        "against it",
        "weights",
    ]
    return table(header, rows, "l" + "r" * (len(header) - 1))


def _difference(line: Line, reference: Line) -> str:
    """How macro-F1 differs from the reference's, and the 95 % interval of a paired bootstrap."""
    group = np.unique(line.group, return_inverse=True)[1]
    count = int(group.max()) + 1
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=SAMPLES)
    samples = [_macro_f1(drawn @ _cells(of, group, count)) for of in (line, reference)]
    whole = [of.metrics.macro_f1 for of in (line, reference)]
    low, high = np.percentile(samples[0] - samples[1], (2.5, 97.5))
    return f"{whole[0] - whole[1]:+.3f} ({low:+.3f} to {high:+.3f})"


def _cells(line: Line, group: np.ndarray, count: int) -> np.ndarray:
    """Each photograph's confusion, flat: (count, 9)."""
    index = (group * 3 + line.labels) * 3 + line.scores.argmax(axis=1)
    return np.bincount(index, minlength=count * 9).reshape(count, 9)


def _macro_f1(cells: np.ndarray) -> np.ndarray:
    """Macro-F1 of confusions (samples, 9); every class occurs in every sample, but for chance."""
    confusion = cells.reshape(-1, 3, 3)
    hits = confusion.diagonal(axis1=1, axis2=2)
    answered_or_true = confusion.sum(axis=1) + confusion.sum(axis=2)
    return (2 * hits / np.maximum(answered_or_true, 1)).mean(axis=1)
