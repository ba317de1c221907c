"""Batches of faces to train on, varied at random in a thread of their own."""

import copy
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.data import DataLoader
from tinygrad_mask.distributed import part_of
from tinygrad_mask.masks.classifier.training.augmentation import Augmentation, augment
from tinygrad_mask.masks.errors import UsageError
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

    Without `class_shares` an epoch has each face once. With them it has as many faces, drawn so
    that each class has its share (see `draw_positions`).
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
        class_shares: Sequence[float] | None = None,
    ) -> None:
        self.faces = faces
        self.positions = positions
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.scale = scale
        self._part: tuple[int, int] | None = None  # the rank and the number of ranks
        self.class_shares = class_shares

    def share(self, rank: int, size: int) -> "TrainingBatches":
        """Return what makes one rank's part of each batch; its random numbers are its own.

        Raises `UsageError` if a rank would have no face in a batch.
        """
        if len(self.positions) < len(self) * size:
            raise UsageError(
                f"--batch-size: expected at least one face per rank, got {self.batch_size} for "
                f"{size} ranks"
            )
        shared = copy.copy(self)
        shared._part = (rank, size)
        return shared

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
        key: tuple[int, ...] = (epoch, step)
        if self._part is not None:
            rank, size = self._part
            order, key = order[part_of(len(order), rank, size)], (epoch, step, rank)
        if self.augmentation is None:
            crops = np.array(self.faces.crops[order])
        else:
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
            size = self.faces.crops.shape[1]
            crops = augment(self.faces.cuts[order], size, self.augmentation, rng)
        return crops if self.scale is None else self.scale(crops), self.faces.labels[order]


def draw_positions(
    positions: NDArray[np.int64],
    labels: NDArray[np.int64],
    sources: NDArray[np.int64],
    class_shares: Sequence[float],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw as many positions as there are, (n,), so that each class has its share of them.

    Within a class every source has the same share, so that a few faces of photographs are not lost
    among many that are drawn. A source that has more faces of a class than its share is sampled
    without replacement; of one that has fewer, all come equally often, up to one. The shares of
    classes that do not occur go to the others.
    """
    cells = [
        (label, np.flatnonzero((labels == label) & (sources == source)))
        for label in np.unique(labels).tolist()
        for source in np.unique(sources[labels == label]).tolist()
    ]
    of_class = np.bincount([label for label, _ in cells], minlength=len(class_shares))
    shares = np.array([class_shares[label] / of_class[label] for label, _ in cells])
    # Ends that are rounded, instead of lengths: the lengths then sum to n.
    ends = np.rint(np.cumsum(shares) / shares.sum() * len(positions)).astype(np.int64)
    drawn = []
    for (_, members), count in zip(cells, np.diff(ends, prepend=0).tolist(), strict=True):
        times, rest = divmod(count, len(members))
        drawn += [np.tile(members, times), rng.permutation(members)[:rest]]
    chosen: NDArray[np.int64] = positions[np.concatenate(drawn)]
    return chosen


class _Epoch:
    """The data set whose items are the batches of an epoch from a step on."""

    def __init__(self, batches: TrainingBatches, epoch: int, first: int) -> None:
        self.batches, self.epoch, self.first = batches, epoch, first
        rng = np.random.default_rng(np.random.SeedSequence(batches.seed, spawn_key=(epoch,)))
        positions = batches.positions
        if batches.class_shares is not None:
            faces = batches.faces
            positions = draw_positions(
                positions,
                faces.labels[positions],
                faces.sources[positions],
                batches.class_shares,
                rng,
            )
        self.orders = np.array_split(rng.permutation(positions), len(batches))

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __getitem__(self, index: int) -> Batch:
        step = self.first + index
        return self.batches.batch(self.orders[step], self.epoch, step)
