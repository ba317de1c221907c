"""What answering only when sure does: accuracy against the share of faces answered."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygrad_mask.masks.classifier.evaluation.metrics import compute_metrics
from tinygrad_mask.masks.labels import LABELS

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
"""The shares of faces answered that `coverage_curve` has a row for."""

ANSWERED = 0.9
"""The share of faces that the shipped threshold keeps answered."""


@dataclass(frozen=True)
class CoverageRow:
    """The figures of the `n` faces answered with at least the probability `threshold`.

    They are a share `coverage` of all. `improper_recall` is that of the improper faces answered,
    NaN if there is none.
    """

    coverage: float
    threshold: float
    n: int
    accuracy: float
    baseline_accuracy: float
    balanced_accuracy: float
    macro_f1: float
    improper_recall: float

    def to_json(self) -> dict[str, Any]:
        """Return the same by name, as what `json.dumps` takes; NaN is None."""
        return {k: None if v != v else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "CoverageRow":
        """Return what `to_json` gave."""
        recall = content["improper_recall"]
        return cls(**{**content, "improper_recall": np.nan if recall is None else recall})


def threshold_for(probabilities: NDArray[Any], share: float) -> float:
    """Return the highest threshold that answers at least a share of n faces, (n, 3) probabilities.

    Raises `ValueError` for no faces and a share outside of 0 to 1.
    """
    if len(probabilities) == 0 or not 0 < share <= 1:
        raise ValueError(
            f"threshold_for: expected at least one face and a share above 0, up to 1, got "
            f"{len(probabilities)} and {share}"
        )
    falling = np.sort(probabilities.max(axis=1))[::-1]
    return float(falling[int(np.ceil(share * len(falling) - 1e-9)) - 1])


def coverage_curve(labels: ArrayLike, probabilities: ArrayLike) -> tuple[CoverageRow, ...]:
    """Return a row for each of `COVERAGES`.

    Args:
        labels: class indices, shape `(n,)`, n at least 1.
        probabilities: what a model says, shape `(n, 3)`.
    """
    truth, values = np.asarray(labels), np.asarray(probabilities)
    rows = []
    for share in COVERAGES:
        threshold = threshold_for(values, share)
        answered = values.max(axis=1) >= threshold
        metrics = compute_metrics(truth[answered], values[answered])
        of_improper = (truth[answered] == LABELS.index("improper")).any()
        recall = metrics.per_class["improper"].recall if of_improper else np.nan
        rows.append(
            CoverageRow(
                float(answered.mean()),
                threshold,
                int(answered.sum()),
                metrics.accuracy,
                metrics.baseline_accuracy,
                metrics.balanced_accuracy,
                metrics.macro_f1,
                float(recall),
            )
        )
    return tuple(rows)
