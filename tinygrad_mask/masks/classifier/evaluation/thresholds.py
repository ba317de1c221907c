"""What comes of an alarm that goes off where a probability reaches a threshold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygrad_mask.masks.labels import LABELS

FALSE_ALARMS = (0.01, 0.02, 0.05)
"""The shares of false alarms that `threshold_tables` has a row for."""

ALARMS: dict[str, str] = {
    "improper": "P(improper), against faces that are proper or none",
    "not proper": "1 - P(proper), against faces that are proper",
}
"""The two alarms for a mask worn improperly, and the faces that they should be silent at.

`improper` wants the fault named: a bare face called improper is a false alarm too. `not proper` is
what an entrance does: it stops whoever wears no mask properly, for whatever reason.
"""


@dataclass(frozen=True)
class ThresholdRow:
    """An alarm at or above `threshold`, the lowest with false alarms at this share or below.

    It caught `caught` of the `n_improper` improper faces, and went off falsely at `false_alarms` of
    the `n_others` faces that it should be silent at. `threshold` is infinite, and the alarm never
    goes off, where even the highest score would be too many false alarms.
    """

    false_alarm_share: float
    threshold: float
    caught: int
    n_improper: int
    false_alarms: int
    n_others: int

    def to_json(self) -> dict[str, Any]:
        """Return the same under the same names; an infinite threshold is None."""
        threshold = self.threshold if np.isfinite(self.threshold) else None
        return {**asdict(self), "threshold": threshold}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ThresholdRow":
        """Return what `to_json` gave."""
        threshold = content["threshold"]
        return cls(**{**content, "threshold": np.inf if threshold is None else threshold})


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall, each (k,), at each of the scores that occur as thresholds, falling.

    `average_precision` is the sum of precision times the step of recall, as scikit-learn's
    `average_precision_score`; n is the number of faces of the class.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average_precision: float
    n: int


def precision_recall(of_class: ArrayLike, scores: ArrayLike) -> PrecisionRecall:
    """Return precision and recall of 'the score is at least t', for every t that occurs.

    Args:
        of_class: whether each face is of the class, shape `(n,)`.
        scores: the class's probability or anything that rises with it, shape `(n,)`.

    Raises:
        ValueError: for other shapes, NaN, or where no face is of the class.
    """
    positive, values = _checked(of_class, scores)
    if not positive.any():
        raise ValueError("precision_recall: expected at least one face of the class, got none")
    _, hits, alarms = _steps(positive, values)
    precision, recall = hits / alarms, hits / positive.sum()
    average = float((precision * np.diff(recall, prepend=0.0)).sum())
    return PrecisionRecall(precision, recall, average, int(positive.sum()))


def threshold_tables(
    labels: ArrayLike, probabilities: ArrayLike
) -> dict[str, tuple[ThresholdRow, ...]]:
    """Return, for each of `ALARMS`, a row for each of `FALSE_ALARMS`.

    The thresholds are those of these very faces: on others the false alarms may be more.

    Args:
        labels: class indices, shape `(n,)`.
        probabilities: what a model says, shape `(n, 3)`.

    Raises:
        ValueError: for other shapes or NaN.
    """
    truth, values = np.asarray(labels), np.asarray(probabilities)
    if values.ndim != 2 or values.shape[1] != len(LABELS):
        raise ValueError(
            f"threshold_tables: expected probabilities of shape (n, {len(LABELS)}), "
            f"got {values.shape}"
        )
    improper, proper = LABELS.index("improper"), LABELS.index("proper")
    scores = {
        "improper": (values[:, improper], truth != improper),
        "not proper": (1 - values[:, proper], truth == proper),
    }
    return {
        alarm: tuple(_row(share, truth == improper, others, score) for share in FALSE_ALARMS)
        for alarm, (score, others) in scores.items()
    }


def _row(
    share: float, improper: NDArray[np.bool_], others: NDArray[np.bool_], scores: NDArray[Any]
) -> ThresholdRow:
    judged = improper | others
    positive, values = _checked(improper[judged], scores[judged])
    thresholds, hits, alarms = _steps(positive, values)
    n_others = int((~positive).sum())
    false = alarms - hits
    # The false alarms only ever grow as the threshold falls. The small addition is for shares such
    # as 0.02 of 50, which must allow one.
    allowed = int(np.searchsorted(false, share * n_others + 1e-9, side="right"))
    if allowed == 0:
        return ThresholdRow(share, np.inf, 0, int(positive.sum()), 0, n_others)
    last = allowed - 1
    return ThresholdRow(
        share,
        float(thresholds[last]),
        int(hits[last]),
        int(positive.sum()),
        int(false[last]),
        n_others,
    )


def _steps(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The scores that occur, falling, and how many positive and how many in all reach each."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    is_last = np.append(np.diff(falling) != 0, np.ones(min(len(falling), 1), bool))
    ends = np.flatnonzero(is_last)
    return falling[ends], np.cumsum(positive[order], dtype=np.int64)[ends], ends + 1


def _checked(
    of_class: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    positive, values = np.asarray(of_class, bool), np.asarray(scores, np.float64)
    if values.ndim != 1 or positive.shape != values.shape or np.isnan(values).any():
        raise ValueError(
            "thresholds: expected a score for each face and no NaN, "
            f"got shapes {positive.shape} and {values.shape}"
        )
    return positive, values
