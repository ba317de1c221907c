"""What the cells of the output map are taught."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_mask.masks.detector.network.architecture import STRIDE
from tinygrad_mask.masks.detector.training.targets import make_targets

NOTHING = np.zeros((0, 4), np.float32)


def targets_of(boxes, labels, ignored=NOTHING, size=(64, 96), min_face=4.0):
    return make_targets(
        size,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignored, np.float32).reshape(-1, 4),
        min_face,
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_every_face_has_its_centre_and_a_core(seed):
    rng = np.random.default_rng(seed)
    # One face in each third of the image, so that none hides another's centre.
    boxes = []
    for third in range(3):
        width, height = rng.uniform(4, 30), rng.uniform(4, 60)
        left, top = rng.uniform(32 * third, 32 * third + 32 - width), rng.uniform(0, 64 - height)
        boxes.append([left, top, left + width, top + height])
    targets = targets_of(boxes, [0, 1, 2])
    assert (targets.heat == 1).sum() == 3
    for box, label in zip(np.array(boxes, np.float32), range(3), strict=True):
        column, row = (int((box[k] + box[k + 2]) / 2 // STRIDE) for k in (0, 1))
        assert targets.heat[row, column] == 1
        assert (targets.box[row, column] == box).all()
        assert targets.label[row, column] == label
        own = (targets.box == box).all(axis=-1) & (targets.weight > 0)
        expected = np.log(max(np.prod(box[2:] - box[:2]), np.e))
        assert np.isclose(targets.weight[own].sum(), expected, rtol=1e-4) or own.sum() > 1


def test_the_smaller_of_two_faces_has_the_cells_that_both_want():
    targets = targets_of([[0, 0, 90, 64], [42, 28, 52, 38]], [0, 1])
    row, column = 33 // STRIDE, 47 // STRIDE
    assert targets.label[row, column] == 1
    reversed_order = targets_of([[42, 28, 52, 38], [0, 0, 90, 64]], [1, 0])
    assert reversed_order.label[row, column] == 1


def test_small_faces_and_ignored_regions_are_neither_face_nor_background():
    targets = targets_of([[8, 8, 11, 20]], [0], ignored=[[40, 40, 60, 52]])
    assert not targets.heat.any()
    assert not targets.weight.any()
    assert targets.ignored[2:5, 2].all()
    assert targets.ignored[10:13, 10:15].all()
    assert targets.ignored.sum() == 3 + 15


def test_a_face_at_the_edge_stays_inside():
    targets = targets_of([[88, 58, 96, 64]], [2])
    assert targets.heat[15, 23] == 1
