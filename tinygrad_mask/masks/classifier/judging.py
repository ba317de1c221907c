"""All that is said of a model's answers on faces that it had not seen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.classifier.calibration import Calibration, calibrate
from tinygrad_mask.masks.classifier.metrics import (
    Metrics,
    bootstrap_intervals,
    compute_metrics,
    metrics_by_size,
)
from tinygrad_mask.masks.classifier.thresholds import (
    ThresholdRow,
    precision_recall,
    threshold_tables,
)
from tinygrad_mask.masks.labels import LABELS

BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Judgement:
    """What `judge` found; see `Metrics`, `bootstrap_intervals`, `Calibration`, `ThresholdRow`.

    `average_precision` has an entry for each class that occurs. `calibration.probabilities` are
    those that everything about probabilities is computed from.
    """

    metrics: Metrics
    intervals: Mapping[str, tuple[float, float]]
    by_size: Mapping[str, Metrics]
    average_precision: Mapping[str, float]
    calibration: Calibration
    alarms: Mapping[str, tuple[ThresholdRow, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the same by name, as what `json.dumps` takes; what is NaN is None."""
        return {
            "metrics": self.metrics.to_json(),
            "intervals": {
                name: [_number(end) for end in of] for name, of in self.intervals.items()
            },
            "by_size": {name: of.to_json() for name, of in self.by_size.items()},
            "average_precision": dict(self.average_precision),
            "calibration": {k: _number(v) for k, v in self.calibration.to_json().items()},
            "alarms": {name: [row.to_json() for row in of] for name, of in self.alarms.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Judgement":
        """Return what `to_json` gave, without the probabilities of single faces.

        Raises `KeyError` or `TypeError` where it is something else.
        """
        ends = {name: [_nan(end) for end in of] for name, of in content["intervals"].items()}
        calibration = {name: _nan(of) for name, of in content["calibration"].items()}
        return cls(
            Metrics.from_json(content["metrics"]),
            {name: (low, high) for name, (low, high) in ends.items()},
            {name: Metrics.from_json(of) for name, of in content["by_size"].items()},
            dict(content["average_precision"]),
            Calibration(**calibration, probabilities=np.zeros((0, len(LABELS)))),
            {
                name: tuple(ThresholdRow.from_json(row) for row in of)
                for name, of in content["alarms"].items()
            },
        )


def judge(
    labels: NDArray[np.int64],
    scores: NDArray[Any],
    *,
    photograph: NDArray[np.int64],
    sizes: NDArray[Any],
    parts: NDArray[np.int64],
    seed: int = 0,
) -> Judgement:
    """Judge the scores of faces.

    Args:
        labels: class indices, shape `(n,)`, n at least 1.
        scores: what the model said, before the softmax and any temperature, shape `(n, 3)`.
        photograph: of each face, integers of shape `(n,)`; the intervals draw photographs.
        sizes: of each face in pixels of its photograph, shape `(n,)`.
        parts: of each face, as for `calibrate`: the folds, or `calibration.halves(photograph)`.
        seed: of the bootstrap.

    Raises:
        ValueError: for what does not fit together, and for scores that are not finite.
    """
    calibration = calibrate(scores, labels, parts)
    return Judgement(
        compute_metrics(labels, scores),
        bootstrap_intervals(
            labels,
            scores,
            photograph,
            samples=BOOTSTRAP_SAMPLES,
            rng=np.random.default_rng(seed),
        ),
        metrics_by_size(labels, scores, sizes),
        {
            label: precision_recall(labels == c, calibration.probabilities[:, c]).average_precision
            for c, label in enumerate(LABELS)
            if (labels == c).any()
        },
        calibration,
        threshold_tables(labels, calibration.probabilities),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
