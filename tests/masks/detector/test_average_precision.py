"""The detector's figures, on cases that can be worked out by hand."""

import numpy as np
import pytest

from tinygrad_mask.masks.detector.evaluation.average_precision import (
    AnnotatedPhotograph,
    evaluate_detections,
)
from tinygrad_mask.masks.detector.network.decoding import Detections

NOTHING = np.zeros((0, 4), np.float32)


def photograph(boxes, labels, ignored=NOTHING):
    return AnnotatedPhotograph(
        (100, 100),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignored, np.float32).reshape(-1, 4),
    )


def detections(boxes, scores, labels):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.where(np.eye(3), 0.98, 0.01).astype(np.float32)[labels].reshape(-1, 3),
    )


SMALL, MIDDLE, LARGE = [0, 0, 10, 12], [20, 20, 40, 50], [50, 50, 90, 90]
ELSEWHERE = [60, 5, 95, 40]


def figures(photographs, found):
    result = evaluate_detections(photographs, found, resamples=20)
    return {name: estimate.value for name, estimate in result.items()}


def test_perfect_detections():
    truth = [photograph([SMALL, MIDDLE, LARGE], [0, 1, 2])]
    got = figures(truth, [detections([SMALL, MIDDLE, LARGE], [0.9, 0.8, 0.7], [0, 1, 2])])
    assert all(value == pytest.approx(1) for value in got.values()), got


def test_a_wrong_label_costs_the_labels_but_not_the_face():
    truth = [photograph([SMALL, LARGE], [0, 2])]
    got = figures(truth, [detections([SMALL, LARGE], [0.9, 0.8], [0, 0])])
    assert got["any face"] == pytest.approx(1)
    assert got["proper"] == pytest.approx(1)  # the false one comes after it
    assert got["none"] == pytest.approx(0.5)  # at a hundredth, after the other face
    assert np.isnan(got["improper"])


def test_a_false_alarm_before_the_face_halves_its_precision():
    got = figures([photograph([LARGE], [0])], [detections([ELSEWHERE, LARGE], [0.9, 0.5], [0, 0])])
    assert got["any face"] == pytest.approx(0.5)
    assert got["recall at one false alarm"] == 1


def test_recall_at_one_false_alarm_stops_at_the_second():
    found = detections(
        [SMALL, ELSEWHERE, [0, 60, 30, 95], LARGE], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0]
    )
    got = figures([photograph([SMALL, LARGE], [0, 0])], [found])
    assert got["recall at one false alarm"] == pytest.approx(0.5)


def test_ignored_regions_count_neither_way():
    truth = [photograph([LARGE], [0], ignored=[ELSEWHERE])]
    got = figures(truth, [detections([ELSEWHERE, LARGE], [0.9, 0.5], [0, 0])])
    assert got["any face"] == pytest.approx(1)
    assert got["proper"] == pytest.approx(1)


def test_each_size_counts_its_own_faces():
    truth = [photograph([SMALL, MIDDLE, LARGE], [0, 0, 0])]
    got = figures(truth, [detections([SMALL, LARGE], [0.9, 0.8], [0, 0])])
    assert got["under 16 px"] == pytest.approx(1)
    assert got["16 to 32 px"] == 0
    assert got["32 px and more"] == pytest.approx(1)


def test_intervals_hold_the_figure_and_narrow_with_more_photographs():
    rng = np.random.default_rng(0)

    def interval(count):
        truth = [photograph([LARGE], [0]) for _ in range(count)]
        found = [
            detections([LARGE], [rng.uniform(0.5, 1)], [0])
            if rng.random() < 0.7
            else detections([], [], np.zeros(0, int))
            for _ in range(count)
        ]
        return evaluate_detections(truth, found, resamples=200)["any face"]

    few, many = interval(10), interval(200)
    for estimate in (few, many):
        assert estimate.low <= estimate.value <= estimate.high
    assert many.high - many.low < few.high - few.low
