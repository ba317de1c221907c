"""All that is said of a model's answers on faces that it had not seen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.classifier.evaluation.calibration import Calibration, calibrate
from tinygrad_mask.masks.classifier.evaluation.coverage import CoverageRow, coverage_curve
from tinygrad_mask.masks.classifier.evaluation.metrics import (
    Metrics,
    bootstrap_intervals,
    compute_metrics,
    members_by_size,
    metrics_by_size,
)
from tinygrad_mask.masks.classifier.evaluation.thresholds import (
    ThresholdRow,
    precision_recall,
    threshold_tables,
)
from tinygrad_mask.masks.labels import LABELS

BOOTSTRAP_SAMPLES = 2000

Intervals = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What `judge` found; see `Metrics`, `bootstrap_intervals`, `Calibration`, `ThresholdRow`.

    `by_size` and `intervals_by_size` have an entry for each of `SIZE_BINS` that has a face.
    `average_precision` has an entry for each class that occurs. `calibration.probabilities` are
    those that everything about probabilities is computed from. `coverage` is empty where it was
    not asked for yet, in files of earlier versions.
    """

    metrics: Metrics
    intervals: Intervals
    by_size: Mapping[str, Metrics]
    intervals_by_size: Mapping[str, Intervals]
    average_precision: Mapping[str, float]
    calibration: Calibration
    alarms: Mapping[str, tuple[ThresholdRow, ...]]
    coverage: tuple[CoverageRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the same by name, as what `json.dumps` takes; what is NaN is None."""
        return {
            "metrics": self.metrics.to_json(),
            "intervals": _ends_to_json(self.intervals),
            "by_size": {name: of.to_json() for name, of in self.by_size.items()},
            "intervals_by_size": {
                name: _ends_to_json(of) for name, of in self.intervals_by_size.items()
            },
            "average_precision": dict(self.average_precision),
            "calibration": {k: _number(v) for k, v in self.calibration.to_json().items()},
            "alarms": {name: [row.to_json() for row in of] for name, of in self.alarms.items()},
            "coverage": [row.to_json() for row in self.coverage],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Judgement":
        """Return what `to_json` gave, without the probabilities of single faces.

        Raises `KeyError` or `TypeError` where it is something else.
        """
        calibration = {name: _nan(of) for name, of in content["calibration"].items()}
        return cls(
            Metrics.from_json(content["metrics"]),
            _ends_from_json(content["intervals"]),
            {name: Metrics.from_json(of) for name, of in content["by_size"].items()},
            {name: _ends_from_json(of) for name, of in content["intervals_by_size"].items()},
            dict(content["average_precision"]),
            Calibration(**calibration, probabilities=np.zeros((0, len(LABELS)))),
            {
                name: tuple(ThresholdRow.from_json(row) for row in of)
                for name, of in content["alarms"].items()
            },
            tuple(CoverageRow.from_json(row) for row in content.get("coverage", ())),
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

    def intervals(chosen: NDArray[np.bool_]) -> Intervals:
        return bootstrap_intervals(
            labels[chosen],
            scores[chosen],
            photograph[chosen],
            samples=BOOTSTRAP_SAMPLES,
            rng=np.random.default_rng(seed),
        )

    return Judgement(
        compute_metrics(labels, scores),
        intervals(np.ones(len(labels), bool)),
        metrics_by_size(labels, scores, sizes),
        {name: intervals(chosen) for name, chosen in members_by_size(sizes).items()},
        {
            label: precision_recall(labels == c, calibration.probabilities[:, c]).average_precision
            for c, label in enumerate(LABELS)
            if (labels == c).any()
        },
        calibration,
        threshold_tables(labels, calibration.probabilities),
        coverage_curve(labels, calibration.probabilities),
    )


def _ends_to_json(intervals: Intervals) -> dict[str, list[float | None]]:
    return {name: [_number(end) for end in ends] for name, ends in intervals.items()}


def _ends_from_json(content: Mapping[str, Any]) -> Intervals:
    return {name: (_nan(low), _nan(high)) for name, (low, high) in content.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
