"""Batches of training images for the detector, drawn ahead of time in a thread of their own."""

import copy
import threading
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.data import DataLoader, Dataset
from tinygrad_mask.distributed import part_of
from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.detector.network.input import scale_pixels
from tinygrad_mask.masks.detector.training.augmentation import (
    DetectorAugmentation,
    PhotographView,
    draw_image,
)
from tinygrad_mask.masks.detector.training.targets import HeatMapTargets, make_targets
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS

_AHEAD = 3  # batches
_CACHE_BYTES = 2 << 30


class Views:
    """The views of some photographs: their pixels are decoded when asked for.

    Decoded photographs are kept as long as they fit in `cache_bytes`; the others are decoded each
    time. Safe to be used by several threads.
    """

    def __init__(
        self, photographs: Sequence[Photograph], *, cache_bytes: int = _CACHE_BYTES
    ) -> None:
        self.photographs = photographs
        self._faces = [face_arrays(photograph) for photograph in photographs]
        self._cache: dict[int, Image.Image] = {}
        self._free_bytes = cache_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.photographs)

    def labels(self) -> NDArray[np.int64]:
        """Return the labels of all faces, positions in `LABELS`."""
        return np.concatenate([labels for _, labels, _ in self._faces])

    def __getitem__(self, index: int) -> PhotographView:
        """Return one photograph's view; raises `OSError` if it cannot be read."""
        image = self._cache.get(index)
        if image is None:
            image = self.photographs[index].open()
            size = 3 * image.width * image.height
            with self._lock:
                if index not in self._cache and size <= self._free_bytes:
                    self._free_bytes -= size
                    self._cache[index] = image
        return PhotographView(image, *self._faces[index])


Batch = tuple[NDArray[Any], ...]
"""Images, float32 (n, size, size, 3) and scaled for the network, then the fields of
`HeatMapTargets`."""


class DetectorBatches:
    """Batches for each epoch of `steps` steps, as a `Trainer` takes them.

    Every image is drawn from randomly chosen photographs. What is drawn comes from `seed`, the
    epoch and the step alone, so that a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        views: Dataset[PhotographView],
        batch_size: int,
        augmentation: DetectorAugmentation,
        *,
        steps: int,
        min_face: float,
        seed: int,
    ) -> None:
        self.views = views
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.steps = steps
        self.min_face = min_face
        self.seed = seed
        self._part: tuple[int, int] | None = None  # the rank and the number of ranks

    def share(self, rank: int, size: int) -> "DetectorBatches":
        """Return what makes one rank's part of each batch; its random numbers are its own.

        Raises `UsageError` if a rank would have no image in a batch.
        """
        if self.batch_size < size:
            raise UsageError(
                f"--batch-size: expected at least one image per rank, got {self.batch_size} for "
                f"{size} ranks"
            )
        shared = copy.copy(self)
        part = part_of(self.batch_size, rank, size)
        shared.batch_size, shared._part = part.stop - part.start, (rank, size)
        return shared

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self.steps

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `first` on."""
        loader = DataLoader(
            _DetectorEpoch(self, epoch, first), workers=1, prefetch=_AHEAD, collate=itemgetter(0)
        )
        return iter(loader)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the batch of a step."""
        key = (epoch, step) if self._part is None else (epoch, step, self._part[0])
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        size = self.augmentation.size
        images = [draw_image(self.views, self.augmentation, rng) for _ in range(self.batch_size)]
        targets = [
            make_targets((size, size), image.boxes, image.labels, image.ignored, self.min_face)
            for image in images
        ]
        pixels = scale_pixels(np.stack([image.pixels for image in images]))
        return (pixels, *vars(HeatMapTargets.stack(targets)).values())


class _DetectorEpoch:
    """The data set whose items are the batches of an epoch from a step on."""

    def __init__(self, batches: DetectorBatches, epoch: int, first: int) -> None:
        self.batches, self.epoch, self.first = batches, epoch, first

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __getitem__(self, index: int) -> Batch:
        return self.batches.batch(self.epoch, self.first + index)


def face_arrays(
    photograph: Photograph,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return boxes (n, 4), labels (n,) and ignored regions (m, 4) of a photograph's faces."""
    faces = [face for face in photograph.faces if face.box is not None]
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    labels = np.array([LABELS.index(face.label) for face in faces], np.int64)
    return boxes, labels, np.array(photograph.ignored, np.float32).reshape(-1, 4)
