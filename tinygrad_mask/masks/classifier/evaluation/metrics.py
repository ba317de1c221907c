"""How good a classifier is on a set of faces, said so that an unbalanced set cannot flatter it.

Eight faces of ten may wear their mask properly. Accuracy then says little, so it never stands
without the accuracy of always answering the most frequent class, and beside it stand two figures in
which every class weighs the same: balanced accuracy and macro-F1.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygrad_mask.masks.labels import LABELS

SIZE_BINS: dict[str, tuple[float, float]] = {
    "< 16 px": (0, 16),
    "16-24 px": (16, 24),
    "24-32 px": (24, 32),
    ">= 32 px": (32, np.inf),
}
"""The rows of `metrics_by_size`: from the first number (inclusive) to the second (exclusive)."""

_SAMPLES_AT_ONCE = 256


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the others; n is the number of faces that truly are of it."""

    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True)
class Metrics:
    """What `compute_metrics` found, all shares between 0 and 1.

    `baseline_accuracy` is that of always answering this set's most frequent class. `per_class` has
    an entry for each of `LABELS`, present or not. `confusion[i][j]` counts the faces of class i (in
    the order of `LABELS`) that were taken for class j.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    baseline_accuracy: float
    per_class: Mapping[str, ClassMetrics]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the same under the same names, as what `json.dumps` takes."""
        return {**asdict(self), "confusion": [list(row) for row in self.confusion]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Metrics":
        """Return what `to_json` gave; raises `KeyError` or `TypeError` where it is none."""
        fields = dict(content)
        fields["per_class"] = {k: ClassMetrics(**of) for k, of in content["per_class"].items()}
        fields["confusion"] = tuple(tuple(row) for row in content["confusion"])
        return cls(**fields)


def compute_metrics(labels: ArrayLike, predictions: ArrayLike) -> Metrics:
    """Compare predictions with the truth.

    With TP, FP and FN the true positives, false positives and false negatives of a class, precision
    is TP / (TP + FP), recall TP / (TP + FN), F1 their harmonic mean 2 TP / (2 TP + FP + FN), and 0
    where that divides by zero. Balanced accuracy is the mean recall of the classes that occur in
    `labels`; macro-F1 is the mean F1 of the classes that occur in `labels` or are predicted. These
    are scikit-learn's definitions (`balanced_accuracy_score`, and `precision_recall_fscore_support`
    with `zero_division=0`).

    Args:
        labels: class indices, integers of shape `(n,)`, positions in `LABELS`.
        predictions: what a model says: probabilities (or logits) of shape `(n, 3)`, of which the
            first largest decides, or class indices of shape `(n,)`.

    Raises:
        ValueError: for no faces, other shapes or dtypes, indices outside of `LABELS`, or NaN.
    """
    truth, predicted = _compared(labels, predictions)
    classes = len(LABELS)
    confusion = np.bincount(truth * classes + predicted, minlength=classes**2)
    found = _Figures(confusion.reshape(classes, classes))
    return Metrics(
        n=len(truth),
        accuracy=float(found.accuracy),
        balanced_accuracy=float(found.balanced_accuracy),
        macro_f1=float(found.macro_f1),
        baseline_accuracy=float(found.of_class.max() / len(truth)),
        per_class={
            label: ClassMetrics(
                float(found.precision[c]),
                float(found.recall[c]),
                float(found.f1[c]),
                int(found.of_class[c]),
            )
            for c, label in enumerate(LABELS)
        },
        confusion=tuple(tuple(row) for row in found.confusion.tolist()),
    )


def metrics_by_size(
    labels: ArrayLike, predictions: ArrayLike, sizes: ArrayLike
) -> dict[str, Metrics]:
    """Compute the metrics of each range of face sizes in `SIZE_BINS`, without the empty ones.

    Args:
        labels: as for `compute_metrics`.
        predictions: as for `compute_metrics`.
        sizes: of each face, in pixels of its photograph, shape `(n,)`.

    Raises:
        ValueError: as `compute_metrics`, and for a size that is missing, negative or NaN.
    """
    truth, predicted = _class_indices("labels", labels), _predicted(predictions)
    pixels = np.asarray(sizes, dtype=float)
    if pixels.shape != truth.shape or not (pixels >= 0).all():
        raise ValueError(
            f"metrics: expected the size in px of each of {len(truth)} faces, "
            f"got an array of shape {pixels.shape} with minimum {pixels.min(initial=np.inf)}"
        )
    return {
        name: compute_metrics(truth[chosen], predicted[chosen])
        for name, chosen in members_by_size(pixels).items()
    }


def members_by_size(sizes: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return which faces, (n,), are in each range of `SIZE_BINS`, without the empty ones."""
    members = {name: (sizes >= low) & (sizes < high) for name, (low, high) in SIZE_BINS.items()}
    return {name: chosen for name, chosen in members.items() if chosen.any()}


def bootstrap_intervals(
    labels: ArrayLike,
    predictions: ArrayLike,
    photograph: ArrayLike,
    *,
    samples: int,
    rng: np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of accuracy, balanced_accuracy, macro_f1 and each class's figures.

    Those are called `improper_recall`, `improper_precision`, `improper_f1` and so on.

    The percentile bootstrap (Efron and Tibshirani 1993, 'An Introduction to the Bootstrap', chapter
    13) over photographs: the faces of one photograph share its light, its sharpness and often the
    kind of mask, so that drawing single faces would give intervals that are too narrow. Each sample
    draws as many photographs as there are, with replacement, and all faces of each. Samples
    without a face of a class are left out of its figures, which are (NaN, NaN) where there is none
    at all.

    Args:
        labels: as for `compute_metrics`.
        predictions: as for `compute_metrics`.
        photograph: of each face, integers of shape `(n,)`; photographs without faces are not drawn.
        samples: how many to draw, at least 1; 2000 give two stable digits.
        rng: draws them.

    Raises:
        ValueError: as `compute_metrics`, and for another shape of `photograph` or no samples.
    """
    truth, predicted = _compared(labels, predictions)
    numbers = np.asarray(photograph)
    if numbers.shape != truth.shape or samples < 1:
        raise ValueError(
            f"metrics: expected the photograph of each of {len(truth)} faces and at least 1 "
            f"sample, got an array of shape {numbers.shape} and {samples}"
        )
    # A sample's confusion is the sum of its photographs', each as often as it was drawn.
    group = np.unique(numbers, return_inverse=True)[1]
    count, classes = int(group.max()) + 1, len(LABELS)
    cells = np.bincount(
        (group * classes + truth) * classes + predicted, minlength=count * classes**2
    ).reshape(count, classes**2)
    figures: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, samples, _SAMPLES_AT_ONCE):
        block = min(_SAMPLES_AT_ONCE, samples - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=block)
        found = _Figures((drawn @ cells).reshape(block, classes, classes))
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            figures.setdefault(name, []).append(getattr(found, name))
        for name in ("precision", "recall", "f1"):
            values = np.where(found.of_class > 0, getattr(found, name), np.nan)
            for label, of_label in zip(LABELS, values.T, strict=True):
                figures.setdefault(f"{label}_{name}", []).append(of_label)
    return {name: _interval(np.concatenate(parts)) for name, parts in figures.items()}


def recall_of_improper(metrics: Metrics) -> str:
    """Say the recall of the rarest and most wanted class with the counts behind it."""
    improper = metrics.per_class["improper"]
    if improper.n == 0:
        return "none in this set"
    index = LABELS.index("improper")
    return f"{improper.recall:.3f} ({metrics.confusion[index][index]} of {improper.n})"


def format_metrics(metrics: Metrics) -> str:
    """Lay the metrics out as plain text for the terminal, without a newline at the end."""
    width = max(len(label) for label in LABELS)
    lines = [
        f"faces              {metrics.n}",
        f"accuracy           {metrics.accuracy:.3f}"
        f"   (always the most frequent class: {metrics.baseline_accuracy:.3f})",
        f"balanced accuracy  {metrics.balanced_accuracy:.3f}",
        f"macro-F1           {metrics.macro_f1:.3f}",
        f"improper, recall   {recall_of_improper(metrics)}",
        "",
        f"{'':{width}}  precision  recall     F1       n   taken for "
        + "  ".join(f"{label:>{width}}" for label in LABELS),
    ]
    for (label, of), row in zip(metrics.per_class.items(), metrics.confusion, strict=True):
        counts = "  ".join(f"{count:>{width}}" for count in row)
        lines.append(
            f"{label:{width}}  {of.precision:9.3f}  {of.recall:6.3f}  {of.f1:5.3f}  {of.n:6}"
            f"   {'':10}{counts}"
        )
    return "\n".join(lines)


class _Figures:
    """The figures of confusion matrices (..., true class, answer), none of them empty."""

    def __init__(self, confusion: NDArray[np.int64]) -> None:
        self.confusion = confusion
        hits = confusion.diagonal(axis1=-2, axis2=-1)
        self.of_class, answered = confusion.sum(axis=-1), confusion.sum(axis=-2)
        self.precision = _ratio(hits, answered)
        self.recall = _ratio(hits, self.of_class)
        self.f1 = _ratio(2 * hits, self.of_class + answered)
        self.accuracy = hits.sum(axis=-1) / self.of_class.sum(axis=-1)
        # A class that does not occur has the recall 0, and one never answered either the F1 0.
        self.balanced_accuracy = self.recall.sum(axis=-1) / (self.of_class > 0).sum(axis=-1)
        self.macro_f1 = self.f1.sum(axis=-1) / (self.of_class + answered > 0).sum(axis=-1)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the values that are numbers."""
    values = values[~np.isnan(values)]
    if values.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(values, (2.5, 97.5)).tolist()
    return low, high


def _compared(
    labels: ArrayLike, predictions: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class indices of truth and prediction, at least one and as many of each."""
    truth, predicted = _class_indices("labels", labels), _predicted(predictions)
    if len(truth) != len(predicted):
        raise ValueError(f"metrics: {len(truth)} labels, but {len(predicted)} predictions")
    if len(truth) == 0:
        raise ValueError("metrics: expected at least one face, got none")
    return truth, predicted


def _class_indices(name: str, values: ArrayLike) -> NDArray[np.int64]:
    indices = np.asarray(values)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise ValueError(
            f"metrics: {name} must be class indices of shape (n,), "
            f"got {indices.dtype} of shape {indices.shape}"
        )
    outside = indices[(indices < 0) | (indices >= len(LABELS))]
    if outside.size:
        raise ValueError(
            f"metrics: {name} must be class indices from 0 to {len(LABELS) - 1}, got {outside[0]}"
        )
    return indices.astype(np.int64)


def _predicted(predictions: ArrayLike) -> NDArray[np.int64]:
    scores = np.asarray(predictions)
    if scores.ndim != 2:
        return _class_indices("predictions", scores)
    if scores.shape[1] != len(LABELS) or np.isnan(scores).any():
        found = f"{scores.shape}" if scores.shape[1] != len(LABELS) else "NaN among them"
        raise ValueError(
            f"metrics: expected probabilities of shape (n, {len(LABELS)}), got {found}"
        )
    winners: NDArray[np.int64] = scores.argmax(axis=1)
    return winners


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, and 0 where the whole is 0."""
    return part / np.maximum(whole, 1)
