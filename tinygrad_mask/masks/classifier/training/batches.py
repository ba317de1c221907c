"""Batches of faces to train on, varied at random in a thread of their own."""

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.data import DataLoader
from tinygrad_mask.masks.classifier.training.augmentation import Augmentation, augment
from tinygrad_mask.masks.faces import FaceSet

Batch = tuple[NDArray[Any], NDArray[np.int64]]
"""Crops (n, size, size, 3), uint8 or what `scale` makes of them, and labels (n,)."""

_AHEAD = 2  # batches


class TrainingBatches:
    """The faces of a face set to train on, in an order of its own for each epoch.

    `positions` (n,), int64, are those of the faces. An epoch's batches are of the same size, up to
    one face: a last one of a few faces would have statistics of its own in batch normalisation.
    Order and augmentation come from `seed`, the epoch and the step alone. `scale`, if there is one,
    is applied to the crops, in the thread that makes the batches.
    """

    def __init__(
        self,
        faces: FaceSet,
        positions: NDArray[np.int64],
        batch_size: int,
        augmentation: Augmentation | None,
        *,
        seed: int,
        scale: Callable[[NDArray[np.uint8]], NDArray[Any]] | None = None,
    ) -> None:
        self.faces = faces
        self.positions = positions
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.scale = scale

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.positions) // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `first` on, made ahead while others are used."""
        # A worker makes whole batches: an item of this loader is one.
        loader = DataLoader(
            _Epoch(self, epoch, first), workers=1, prefetch=_AHEAD, collate=itemgetter(0)
        )
        return iter(loader)

    def batch(self, order: NDArray[np.int64], epoch: int, step: int) -> Batch:
        """Return the batch of a step, of the faces at these positions."""
        if self.augmentation is None:
            crops = np.array(self.faces.crops[order])
        else:
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(epoch, step)))
            size = self.faces.crops.shape[1]
            crops = augment(self.faces.cuts[order], size, self.augmentation, rng)
        return crops if self.scale is None else self.scale(crops), self.faces.labels[order]


class _Epoch:
    """The data set whose items are the batches of an epoch from a step on."""

    def __init__(self, batches: TrainingBatches, epoch: int, first: int) -> None:
        self.batches, self.epoch, self.first = batches, epoch, first
        rng = np.random.default_rng(np.random.SeedSequence(batches.seed, spawn_key=(epoch,)))
        self.orders = np.array_split(rng.permutation(batches.positions), len(batches))

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __getitem__(self, index: int) -> Batch:
        step = self.first + index
        return self.batches.batch(self.orders[step], self.epoch, step)
