"""Batches made ahead, in an order and with an augmentation that come from the seed alone."""

import threading

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.training.augmentation import Augmentation
from tinygrad_mask.masks.classifier.training.batches import TrainingBatches
from tinygrad_mask.masks.faces import FaceSet

SIZE, BORDER = 8, 2


def face_set(count=50):
    """Faces whose label can be read off every pixel."""
    labels = np.arange(count) % 3
    side = SIZE + 2 * BORDER
    cuts = np.broadcast_to(np.arange(count)[:, None, None, None], (count, side, side, 3))
    numbers = np.arange(count)
    sizes = np.full(count, 30, np.float32)
    hashes = np.zeros((0, 4), np.uint64)
    return FaceSet((), cuts.astype(np.uint8), labels, numbers, numbers * 0, sizes, hashes, BORDER)


def make_batches(augmentation=None, *, seed=0, batch_size=8, positions=None):
    positions = np.arange(5, 40) if positions is None else positions
    return TrainingBatches(face_set(), positions, batch_size, augmentation, seed=seed)


@pytest.mark.parametrize("batch_size", [1, 4, 8, 17, 34, 35, 100])
def test_an_epoch_has_each_face_once_in_batches_of_one_size(batch_size):
    batches = make_batches(batch_size=batch_size)
    epoch = list(batches.epoch(0))
    assert len(epoch) == len(batches) == -(-35 // batch_size)
    sizes = [len(labels) for _, labels in epoch]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    faces = np.concatenate([crops[:, 0, 0, 0] for crops, _ in epoch])
    assert sorted(faces) == list(range(5, 40))
    for crops, labels in epoch:
        assert crops.shape[1:] == (SIZE, SIZE, 3)
        np.testing.assert_array_equal(labels, crops[:, 3, 3, 1] % 3)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_an_epoch_can_be_begun_anywhere(augmentation):
    batches = make_batches(augmentation)
    whole = list(batches.epoch(3))
    for first in range(len(whole) + 1):
        rest = list(make_batches(augmentation).epoch(3, first))
        assert len(rest) == len(whole) - first
        for (crops, labels), (other_crops, other_labels) in zip(whole[first:], rest, strict=True):
            np.testing.assert_array_equal(crops, other_crops)
            np.testing.assert_array_equal(labels, other_labels)


def test_epochs_and_seeds_differ():
    def order(seed, epoch):
        return [int(k) for _, labels in make_batches(seed=seed).epoch(epoch) for k in labels]

    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_augmentation_keeps_the_labels():
    faces = {}
    for crops, labels in make_batches(
        Augmentation(brightness=0, contrast=0, cast=0, erase=0)
    ).epoch(0):
        for crop, label in zip(crops, labels, strict=True):
            faces[int(crop[4, 4, 0])] = int(label)
    assert faces == {k: k % 3 for k in range(5, 40)}


def test_an_epoch_given_up_ends_its_thread():
    before = threading.active_count()
    epoch = make_batches().epoch(0)
    next(epoch)
    del epoch
    assert threading.active_count() == before
