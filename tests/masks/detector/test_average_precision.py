"""The detector's figures, on cases that can be worked out by hand."""

import numpy as np
import pytest

from tinygrad_mask.masks.detector.evaluation.average_precision import (
    SIZES,
    AnnotatedPhotograph,
    Matchings,
    evaluate_detections,
)
from tinygrad_mask.masks.detector.evaluation.mistakes import false_alarms, missed_faces
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.labels import LABELS

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


def random_case(seed, count=12):
    """Photographs with faces, ignored regions, and detections near some of them."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        faces, others = int(rng.integers(0, 5)), int(rng.integers(0, 4))
        corners = rng.uniform(0, 60, (faces + others, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(6, 40, (faces + others, 2))], axis=1)
        boxes = boxes.astype(np.float32)
        truth.append(
            AnnotatedPhotograph(
                (100, 100), boxes[:faces], rng.integers(0, 3, faces), boxes[faces : faces + 1]
            )
        )
        near = np.concatenate([boxes, boxes])
        near = (near + rng.normal(0, 4, near.shape)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        scores = rng.permutation(1000)[: len(near)].astype(np.float32) / 1000
        scores += rng.uniform(0, 1e-4, len(near)).astype(np.float32)  # no two are equal
        labels = rng.dirichlet([1, 1, 1], len(near)).astype(np.float32)
        found.append(Detections(near, scores, labels))
    return truth, found


@pytest.mark.parametrize("seed", range(6))
def test_resampled_figures_are_those_of_pycocotools_for_the_photographs_drawn(seed):
    truth, found = random_case(seed)
    draw = np.random.default_rng(seed).integers(len(truth), size=len(truth))
    times = np.bincount(draw, minlength=len(truth))
    whole = Matchings(truth, found)
    drawn = Matchings([truth[k] for k in draw], [found[k] for k in draw])
    for one, other in (
        (whole.any_face, drawn.any_face),
        *zip(whole.by_size.values(), drawn.by_size.values(), strict=True),
        *zip(whole.by_label.values(), drawn.by_label.values(), strict=True),
    ):
        expected = other.average_precision()
        assert one.average_precision_of(times) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    once = np.ones(len(truth), np.int64)
    assert whole.any_face.recall_at_one_false_alarm(times) == pytest.approx(
        drawn.any_face.recall_at_one_false_alarm(once)
    )


def test_curves_and_numbers_of_faces():
    truth, found = random_case(0)
    matchings = Matchings(truth, found)
    curves = matchings.curves()
    assert list(curves) == ["any face", *LABELS]
    for name, estimate in matchings.estimates(resamples=0).items():
        assert np.isnan(estimate.low)
        if name in curves:
            assert curves[name].mean() == pytest.approx(estimate.value)
            assert (np.diff(curves[name]) <= 0).all()
    faces = matchings.faces()
    assert faces["any face"] == sum(len(p.boxes) for p in truth)
    assert sum(faces[label] for label in LABELS) == faces["any face"]
    assert sum(faces[size] for size in SIZES) == faces["any face"]


def test_mistakes_are_the_faces_not_found_and_the_detections_that_are_none():
    truth = [photograph([SMALL, LARGE, MIDDLE], [0, 1, 2]), photograph([LARGE], [2])]
    found = [
        detections([ELSEWHERE, MIDDLE, SMALL], [0.9, 0.8, 0.2], [1, 2, 0]),
        detections([ELSEWHERE, [0, 60, 30, 95]], [0.95, 0.1], [0, 0]),
    ]
    matchings = Matchings(truth, found)
    missed = missed_faces(matchings, 0.3)
    assert [(m.photograph, m.box.tolist(), m.label) for m in missed] == [
        (0, LARGE, 1),
        (1, LARGE, 2),
        (0, SMALL, 0),
    ]
    assert [m.score for m in missed] == pytest.approx([0, 0, 0.2])
    alarms = false_alarms(matchings, 0.3)
    assert [(a.photograph, a.box.tolist(), a.label) for a in alarms] == [
        (1, ELSEWHERE, 0),
        (0, ELSEWHERE, 1),
    ]
    assert [a.score for a in alarms] == pytest.approx([0.95, 0.9])


def test_neither_ignored_regions_nor_faces_found_are_mistakes():
    truth = [photograph([LARGE], [0], ignored=[ELSEWHERE])]
    matchings = Matchings(truth, [detections([ELSEWHERE, LARGE], [0.9, 0.5], [0, 1])])
    assert missed_faces(matchings, 0.3) == []
    assert false_alarms(matchings, 0.3) == []
