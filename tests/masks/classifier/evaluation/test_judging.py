import json

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.evaluation.calibration import calibrate
from tinygrad_mask.masks.classifier.evaluation.judging import BOOTSTRAP_SAMPLES, Judgement, judge
from tinygrad_mask.masks.classifier.evaluation.metrics import (
    bootstrap_intervals,
    compute_metrics,
    metrics_by_size,
)
from tinygrad_mask.masks.classifier.evaluation.thresholds import precision_recall, threshold_tables


def answers(n=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    scores = rng.normal(0, 2, (n, 3)) + 3 * np.eye(3)[labels]
    return labels, scores, np.arange(n) // 4, rng.uniform(4, 60, n)


def test_every_part_is_what_its_function_says():
    labels, scores, photograph, sizes = answers()
    parts = photograph % 5
    found = judge(labels, scores, photograph=photograph, sizes=sizes, parts=parts, seed=3)
    assert found.metrics == compute_metrics(labels, scores)
    assert found.by_size == metrics_by_size(labels, scores, sizes)
    assert found.intervals == bootstrap_intervals(
        labels, scores, photograph, samples=BOOTSTRAP_SAMPLES, rng=np.random.default_rng(3)
    )
    large = sizes >= 32
    assert list(found.intervals_by_size) == list(found.by_size)
    assert found.intervals_by_size[">= 32 px"] == bootstrap_intervals(
        labels[large],
        scores[large],
        photograph[large],
        samples=BOOTSTRAP_SAMPLES,
        rng=np.random.default_rng(3),
    )
    calibration = calibrate(scores, labels, parts)
    assert found.calibration.to_json() == calibration.to_json()
    assert found.alarms == threshold_tables(labels, calibration.probabilities)
    expected = precision_recall(labels == 1, calibration.probabilities[:, 1]).average_precision
    assert found.average_precision["improper"] == expected


def test_json_holds_all_of_it():
    labels, scores, photograph, sizes = answers(40)
    found = judge(labels, scores, photograph=photograph, sizes=sizes, parts=photograph % 2)
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["metrics"] == json.loads(json.dumps(found.metrics.to_json()))
    assert content["intervals"]["macro_f1"] == pytest.approx(list(found.intervals["macro_f1"]))
    assert content["calibration"]["temperature"] == found.calibration.temperature
    assert [row["false_alarm_share"] for row in content["alarms"]["improper"]] == [0.01, 0.02, 0.05]
    assert set(content["by_size"]) == set(found.by_size)
    again = Judgement.from_json(content)
    assert again.to_json() == found.to_json()
    assert (again.metrics, again.by_size) == (found.metrics, found.by_size)
    assert again.alarms == found.alarms


def test_what_cannot_be_said_is_none():
    # No improper face and a single part: no recall to give an interval of, nothing to calibrate by.
    zeros = np.zeros(2, np.int64)
    found = judge(
        zeros, np.eye(3)[[0, 2]], photograph=zeros, sizes=np.array([20.0, 30.0]), parts=zeros
    ).to_json()
    assert found["intervals"]["improper_recall"] == [None, None]
    assert found["calibration"]["ece_after"] is None
    assert list(found["average_precision"]) == ["proper"]
    text = json.dumps(found, allow_nan=False)
    assert Judgement.from_json(json.loads(text)).to_json() == found
