"""Boxes from output maps; non-maximum suppression against a version written out in loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_mask.masks.detector.network.architecture import STRIDE
from tinygrad_mask.masks.detector.network.decoding import NMS_THRESHOLD, decode, nms

COORDINATE = st.integers(0, 12)


@st.composite
def scored_boxes(draw):
    count = draw(st.integers(0, 12))
    corners = [[draw(COORDINATE) for _ in range(2)] for _ in range(count)]
    sides = [[draw(st.integers(1, 8)) for _ in range(2)] for _ in range(count)]
    boxes = np.array([[*c, c[0] + s[0], c[1] + s[1]] for c, s in zip(corners, sides, strict=True)])
    scores = [draw(st.integers(0, 4)) / 4 for _ in range(count)]  # ties are likely
    return boxes.reshape(-1, 4).astype(np.float32), np.array(scores, np.float32)


def intersection_over_union(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


# No overlap of such boxes is one of these thresholds, which rounding would decide.
@given(scored_boxes(), st.sampled_from([0.3001, 0.4501, 0.7001]))
@settings(max_examples=200)
def test_nms_agrees_with_the_naive_version(given_boxes, threshold):
    boxes, scores = given_boxes
    kept = []
    for k in sorted(range(len(scores)), key=lambda k: (-scores[k], k)):
        if all(intersection_over_union(boxes[k], boxes[j]) < threshold for j in kept):
            kept.append(k)
    assert nms(boxes, scores, threshold).tolist() == kept


def test_one_hot_cell_becomes_the_box_that_it_predicts():
    output = np.full((6, 9, 8), -20, np.float32)
    left, top, right, bottom = 3.0, 5.0, 30.0, 19.0
    row, column = 2, 4
    x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
    output[row, column, 0] = 2
    output[row, column, 1:5] = np.log(np.array([x - left, y - top, right - x, bottom - y]) / STRIDE)
    output[row, column, 5:] = [0, 3, 1]
    found = decode(output, 0.1)
    assert len(found) == 1
    assert found.boxes[0] == pytest.approx([left, top, right, bottom], abs=1e-4)
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)
    weights = np.exp([0, 3, 1])
    assert found.labels[0] == pytest.approx(weights / weights.sum(), abs=1e-6)


def test_of_neighbouring_cells_only_the_most_certain_is_a_face():
    output = np.zeros((5, 5, 8), np.float32)
    output[..., 0] = -20
    output[..., 1:5] = -3  # boxes too small to overlap
    output[1, 1, 0], output[1, 2, 0], output[4, 4, 0] = 1, 3, 2
    assert decode(output, 0.1).scores.tolist() == pytest.approx(
        [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-2))], abs=1e-6
    )


def test_overlapping_boxes_of_distant_cells_are_one_face():
    output = np.full((5, 5, 8), -20, np.float32)
    for row, logit in ((1, 1.0), (3, 3.0)):
        output[row, 2, 0] = logit
        output[row, 2, 1:5] = 2.0
    found = decode(output, 0.1)
    assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-3))], abs=1e-6)
    assert NMS_THRESHOLD < 0.5


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_no_output_map_gives_boxes_or_probabilities_that_are_not_finite(seed):
    rng = np.random.default_rng(seed)
    output = (rng.standard_normal((7, 11, 8)) * 10 ** rng.uniform(-2, 4)).astype(np.float32)
    found = decode(output, 0.02)
    assert np.isfinite(found.boxes).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0.02) & (found.scores <= 1)).all()
    assert np.allclose(found.labels.sum(axis=1), 1, atol=1e-5)
    assert (np.diff(found.scores) <= 0).all()
