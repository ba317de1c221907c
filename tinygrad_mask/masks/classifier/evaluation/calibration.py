"""Whether a probability means what it says, and the temperature that mends it where it does not.

A network is as a rule surer than it is right. Temperature scaling (Guo, Pleiss, Sun and Weinberger
2017, 'On Calibration of Modern Neural Networks') divides its scores by one number before the
softmax: no answer changes, only how sure it is.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygrad_mask.masks.labels import LABELS

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0
"""The bounds of `fit_temperature`, both included."""

BINS = 15
"""The bins of a reliability diagram, as in Guo et al.: each a fifteenth wide."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose confidence lies between `low` (exclusive) and `high` (inclusive).

    `confidence` and `share` are their mean confidence and the share of them that came true, both
    NaN where n, their number, is 0.
    """

    low: float
    high: float
    confidence: float
    share: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found; `ece` are expected calibration errors, between 0 and 1.

    `ece_before` is that of the plain softmax. `ece_after` is that of `probabilities`, for which
    each face was given the temperature of the other parts, so that nothing is judged by what it was
    fitted to; `temperature` is fitted on all faces.
    """

    temperature: float
    ece_before: float
    ece_after: float
    probabilities: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the same names, as what `json.dumps` takes."""
        return {k: v for k, v in asdict(self).items() if k != "probabilities"}


def probabilities_of(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return the softmax of scores (n, 3) divided by a temperature, in float64."""
    scaled = np.asarray(scores, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fit_temperature(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature at which the scores' softmax has the least mean cross-entropy.

    In the inverse temperature the cross-entropy is convex (a log-sum-exp less a line), so that its
    derivative, the mean of `sum_k p_k z_k - z_label`, rises and crosses 0 at most once: halving the
    interval finds the place to the last digits, whatever the scores. Where all faces are answered
    right, the best is the lowest temperature that is allowed, and where the scores tell nothing,
    the highest.

    Args:
        scores: what a model says before the softmax, shape `(n, 3)`; on faces that it was not
            trained on.
        labels: class indices, shape `(n,)`.

    Raises:
        ValueError: for no faces, other shapes or scores that are not finite.
    """
    values, truth = _checked(scores, labels)
    of_truth = values[np.arange(len(truth)), truth]

    def slope(inverse: float) -> float:
        expected = (probabilities_of(values, 1 / inverse) * values).sum(axis=1)
        return float((expected - of_truth).mean())

    low, high = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    if slope(low) >= 0:
        return MOST_TEMPERATURE
    if slope(high) <= 0:
        return LEAST_TEMPERATURE
    # The middle of the logarithms: both ends are found to the same relative precision.
    while low < (middle := float(np.sqrt(low * high))) < high:
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def calibrate(scores: ArrayLike, labels: ArrayLike, parts: ArrayLike) -> Calibration:
    """Fit the temperature, and judge it on faces that it was not fitted to.

    Args:
        scores: as for `fit_temperature`.
        labels: as for `fit_temperature`.
        parts: of each face, integers of shape `(n,)`: the faces of a part are given the temperature
            that the other parts ask for. The folds of a cross-validation, say, or halves of the
            photographs; faces of one photograph belong in one part. With a single part there is
            nothing to judge by, and `ece_after` is NaN.

    Raises:
        ValueError: as `fit_temperature`, and for another shape of `parts`.
    """
    values, truth = _checked(scores, labels)
    part = np.asarray(parts)
    if part.shape != truth.shape:
        raise ValueError(
            f"calibration: expected the part of each of {len(truth)} faces, got shape {part.shape}"
        )
    temperature = fit_temperature(values, truth)
    before = probabilities_of(values, 1.0)
    after = probabilities_of(values, temperature)
    judged = len(np.unique(part)) > 1
    for one in np.unique(part) if judged else ():
        own = part == one
        after[own] = probabilities_of(values[own], fit_temperature(values[~own], truth[~own]))
    return Calibration(
        temperature,
        expected_calibration_error(reliability_of_answers(before, truth)),
        expected_calibration_error(reliability_of_answers(after, truth)) if judged else np.nan,
        after,
    )


def halves(photograph: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 or 1 for each face, (n,), by its photograph (n,): every other photograph is 1."""
    return np.unique(photograph, return_inverse=True)[1] % 2


def reliability(confidence: ArrayLike, came_true: ArrayLike) -> list[ReliabilityBin]:
    """Sort answers into `BINS` equally wide bins of their confidence, empty ones included.

    Args:
        confidence: the probability that each answer was given, shape `(n,)`, from 0 to 1.
        came_true: whether it was right, shape `(n,)`.

    Raises:
        ValueError: for unequal lengths or confidences outside of 0 to 1.
    """
    sure, true = np.asarray(confidence, np.float64), np.asarray(came_true, bool)
    if sure.ndim != 1 or sure.shape != true.shape or not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError(
            "reliability: expected a confidence from 0 to 1 and an outcome for each answer, "
            f"got shapes {sure.shape} and {true.shape}"
        )
    edges = np.linspace(0, 1, BINS + 1)
    index = np.searchsorted(edges[1:-1], sure, side="left")
    counts = np.bincount(index, minlength=BINS)
    sums = (np.bincount(index, weights=weights, minlength=BINS) for weights in (sure, true))
    with np.errstate(invalid="ignore"):
        mean, share = (total / counts for total in sums)
    return [
        ReliabilityBin(*row)
        for row in zip(
            edges[:-1].tolist(),
            edges[1:].tolist(),
            mean.tolist(),
            share.tolist(),
            counts.tolist(),
            strict=True,
        )
    ]


def reliability_of_answers(
    probabilities: NDArray[Any], labels: NDArray[np.int64]
) -> list[ReliabilityBin]:
    """Return the reliability of the most probable class; probabilities (n, 3), labels (n,)."""
    # In float32 three probabilities may sum to a little more than 1.
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    return reliability(confidence, probabilities.argmax(axis=1) == labels)


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the mean distance of confidence and share over the bins, weighted by their numbers.

    `ECE = sum_b n_b / n |share_b - confidence_b|` (Naeini, Cooper and Hauskrecht 2015, 'Obtaining
    Well Calibrated Probabilities Using Bayesian Binning'), NaN where all bins are empty. With few
    faces it is above 0 even for honest probabilities: it is no smaller than chance makes it.
    """
    n = sum(of.n for of in bins)
    if n == 0:
        return float("nan")
    return sum(of.n * abs(of.share - of.confidence) for of in bins if of.n) / n


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, truth = np.asarray(scores, np.float64), np.asarray(labels)
    if (
        values.ndim != 2
        or values.shape[1] != len(LABELS)
        or truth.shape != values.shape[:1]
        or truth.size == 0
    ):
        raise ValueError(
            f"calibration: expected scores of shape (n, {len(LABELS)}) and a label for each, "
            f"n at least 1, got shapes {values.shape} and {truth.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("calibration: expected finite scores")
    return values, truth
