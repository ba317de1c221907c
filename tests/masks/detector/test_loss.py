"""The detector's loss against sums written out in float64, and its gradients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_mask import Tensor
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.decoding import cell_boxes, cell_centres
from tinygrad_mask.masks.detector.training.loss import (
    detector_loss,
    focal_loss,
    generalised_iou,
)
from tinygrad_mask.masks.detector.training.targets import HeatMapTargets, make_targets
from tinygrad_mask.testing import check_gradients

SEEDS = st.integers(0, 2**32 - 1)


def written_out_focal_loss(logits, heat, ignored):
    total, centres = 0.0, 0
    for z, y, ignore in zip(logits.astype(np.float64), heat, ignored, strict=True):
        p = 1 / (1 + np.exp(-z))
        if y == 1:
            total -= (1 - p) ** 2 * np.log(p)
            centres += 1
        elif not ignore:
            total -= (1 - y) ** 4 * p**2 * np.log(1 - p)
    return total / max(centres, 1)


@given(SEEDS)
@settings(max_examples=100)
def test_focal_loss_agrees_with_the_formula(seed):
    rng = np.random.default_rng(seed)
    logits = rng.uniform(-8, 8, 30)
    heat = rng.choice([0, 0.3, 0.9, 1], 30).astype(np.float32)
    ignored = rng.integers(0, 2, 30).astype(np.float32)
    expected = written_out_focal_loss(logits, heat, ignored)
    got = focal_loss(Tensor(logits.astype(np.float32)), heat, ignored).item()
    assert got == pytest.approx(expected, rel=1e-5)


def test_focal_loss_of_huge_logits_is_finite():
    logits = Tensor(np.array([-1e4, 1e4, -1e4, 1e4], np.float32), requires_grad=True)
    loss = focal_loss(logits, np.array([1, 1, 0, 0], np.float32), np.zeros(4, np.float32))
    loss.backward()
    assert loss.item() == pytest.approx((1e4 + 1e4) / 2)
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx([-0.5, 0, 0, 0.5])


def written_out_giou(a, b):
    overlap = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap
    hull = (np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])).prod()
    return overlap / union - (hull - union) / hull


@given(SEEDS)
@settings(max_examples=100)
def test_generalised_iou_agrees_with_the_formula(seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, 20, (2, 5))
    logarithms = rng.uniform(-2, 3, (5, 4)).astype(np.float32)
    centres = cell_centres(rows, columns)
    true = np.concatenate(
        [centres - rng.uniform(0.5, 40, (5, 2)), centres + rng.uniform(0.5, 40, (5, 2))], axis=1
    )
    true = true.astype(np.float32)
    got = generalised_iou(Tensor(logarithms), centres, true).numpy()
    predicted = cell_boxes(rows, columns, logarithms)
    expected = [written_out_giou(*pair) for pair in zip(predicted, true, strict=True)]
    assert got == pytest.approx(np.array(expected), abs=2e-4)


def test_gradients_of_the_whole_loss():
    boxes = np.array([[2, 3, 17, 25], [14, 10, 31, 30]], np.float32)
    targets = make_targets((32, 32), boxes, np.array([0, 2]), np.zeros((0, 4), np.float32), 4)
    batch = HeatMapTargets.stack([targets, targets])
    rng = np.random.default_rng(0)

    def loss(output):
        return detector_loss(output, batch, np.array([1.0, 2.0, 0.5], np.float32)).total(
            box=2.0, label=1.0
        )

    check_gradients(loss, rng.standard_normal((2, 8, 8, 8)))


def test_an_image_without_faces_teaches_heat_only():
    empty = make_targets(
        (32, 32),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros((0, 4), np.float32),
        4,
    )
    output = Tensor(np.ones((1, 8, 8, 8), np.float32), requires_grad=True)
    loss = detector_loss(output, HeatMapTargets.stack([empty]), np.ones(3, np.float32))
    loss.total(box=2.0, label=1.0).backward()
    assert loss.box.item() == loss.label.item() == 0
    assert output.grad is not None
    assert not output.grad.numpy()[..., 1:].any()
    assert (output.grad.numpy()[..., 0] > 0).all()


def test_every_parameter_of_the_network_gets_a_gradient():
    architecture = DetectorArchitecture(channels=(4, 4, 6, 6, 8), depths=(1, 1, 1, 1), head=4)
    network = FaceDetector(architecture, np.random.default_rng(0))
    boxes = np.array([[8, 8, 40, 44]], np.float32)
    targets = make_targets((64, 96), boxes, np.array([1]), np.zeros((0, 4), np.float32), 4)
    x = np.random.default_rng(1).standard_normal((1, 64, 96, 3)).astype(np.float32)
    output = network(Tensor(x))
    assert output.shape == (1, 16, 24, 8)
    detector_loss(output, HeatMapTargets.stack([targets]), np.ones(3, np.float32)).total(
        box=2.0, label=1.0
    ).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert np.abs(parameter.grad.numpy()).max() > 0, name


@pytest.mark.parametrize("shape", [(1, 33, 64, 3), (1, 64, 40, 3), (64, 64, 3)])
def test_other_sizes_are_refused(shape):
    network = FaceDetector(
        DetectorArchitecture((4, 4, 4, 4, 4), (1, 1, 1, 1), 4), np.random.default_rng(0)
    )
    with pytest.raises(ValueError, match="multiples of 32"):
        network(Tensor(np.zeros(shape, np.float32)))
