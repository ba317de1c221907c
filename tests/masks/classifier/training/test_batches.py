"""Batches made ahead, in an order and with an augmentation that come from the seed alone."""

import threading

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.training.augmentation import Augmentation
from tinygrad_mask.masks.classifier.training.batches import TrainingBatches, draw_positions
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


class TestDrawing:
    """Classes in shares; within a class, every source alike."""

    # 60 proper, 3 improper and 6 bare faces of photographs; 30 of each drawn.
    labels = np.repeat([0, 1, 2, 0, 1, 2], [60, 3, 6, 30, 30, 30])
    sources = np.repeat([0, 1], [69, 90])
    positions = 1000 + np.arange(159)

    def drawn(self, shares=(0.5, 0.3, 0.2), seed=0):
        rng = np.random.default_rng(seed)
        return draw_positions(self.positions, self.labels, self.sources, shares, rng)

    def test_shares(self):
        drawn = self.drawn()
        assert len(drawn) == 159
        labels, sources = self.labels[drawn - 1000], self.sources[drawn - 1000]
        assert np.abs(np.bincount(labels) / 159 - (0.5, 0.3, 0.2)).max() < 0.01
        for label in range(3):
            assert abs(np.bincount(sources[labels == label]) @ (1, -1)) <= 1

    def test_few_faces_come_equally_often_and_many_at_most_once(self):
        times = np.bincount(self.drawn() - 1000, minlength=159)
        improper = times[60:63]
        assert improper.max() - improper.min() <= 1
        assert improper.sum() in (23, 24)
        assert times[:60].max() == 1
        assert len(set(self.drawn(seed=1)) ^ set(self.drawn(seed=2))) > 20

    def test_a_class_that_does_not_occur_gives_its_share_away(self):
        chosen = self.labels != 1
        drawn = draw_positions(
            self.positions[chosen],
            self.labels[chosen],
            self.sources[chosen],
            (0.4, 0.4, 0.2),
            np.random.default_rng(0),
        )
        labels = self.labels[drawn - 1000]
        assert len(drawn) == chosen.sum()
        assert abs((labels == 0).mean() - 2 / 3) < 0.01

    def test_an_epoch_has_the_shares_and_can_be_begun_anywhere(self):
        batches = TrainingBatches(
            face_set(), np.arange(5, 40), 8, None, seed=0, class_shares=(0.6, 0.2, 0.2)
        )
        whole = list(batches.epoch(1))
        labels = np.concatenate([labels for _, labels in whole])
        np.testing.assert_array_equal(np.bincount(labels), [21, 7, 7])
        rest = list(batches.epoch(1, 2))
        for (crops, _), (again, _) in zip(whole[2:], rest, strict=True):
            np.testing.assert_array_equal(crops, again)
        assert not np.array_equal(labels, np.concatenate([of for _, of in batches.epoch(2)]))
