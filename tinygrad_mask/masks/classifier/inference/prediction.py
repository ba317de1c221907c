"""Asking a classifier about pictures: from image files, and boxes in them, to answers."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.data import DataLoader
from tinygrad_mask.masks.classifier.inference.answers import Prediction
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.colour_order import seems_exchanged
from tinygrad_mask.masks.crops import CropSettings, box_size, crop_face
from tinygrad_mask.masks.data_issues import DataIssues, logger
from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.file_names import printable
from tinygrad_mask.masks.images import read_image

BATCH = 128
"""Faces that the model is asked about at a time."""

_WORKERS = 2  # threads that decode photographs


@dataclass
class Speed:
    """How fast a model answered: `faces` in `seconds`, reading and cutting not counted."""

    faces: int = 0
    seconds: float = 0.0

    @property
    def faces_per_second(self) -> float | None:
        """The faces in a second, None where there was none."""
        return self.faces / self.seconds if self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name, as what `json.dumps` takes."""
        return {**asdict(self), "faces_per_second": self.faces_per_second, "batch": BATCH}


Locator = Callable[[str, Image.Image], Sequence[Box | None]]
"""Takes the name of an image and its pixels, and returns where its faces are; None is all of it."""


def predict(
    classifier: Classifier,
    images: Sequence[str | Path],
    boxes: Sequence[Sequence[Box]] | Locator | None,
    issues: DataIssues,
    *,
    speed: Speed,
    device: str = "cpu",
) -> Iterator[Prediction]:
    """Yield what the classifier says of every face, in the order of images and of boxes in each.

    `boxes` has the faces' boxes of each image, or is a function that finds them, which is called
    with one image after the other; without them each image is one face, cut as `crop_face` cuts it
    without a box. Images that cannot be read and boxes outside of theirs are
    told to `issues` and passed over. A picture whose red and blue seem to be exchanged is logged
    as a warning. `speed` is added to. Memory does not grow with the images.
    """
    loader = DataLoader(_Cutter(images, boxes, classifier.crops), workers=_WORKERS, collate=list)
    waiting: list[_Face] = []
    for [cut] in loader:
        if cut.pixels is not None and callable(boxes):
            _cut_faces(cut, cut.pixels, boxes(cut.image, cut.pixels), classifier.crops)
        for kind, detail in cut.faults:
            issues.warn(kind, cut.image, detail)
        if seems_exchanged(np.array([face.crop for face in cut.faces])):
            _warn_of_colours(cut.image)
        waiting += cut.faces
        while len(waiting) >= BATCH:
            yield from _answers(classifier, waiting[:BATCH], speed, device)
            waiting = waiting[BATCH:]
    if waiting:
        yield from _answers(classifier, waiting, speed, device)


def _warn_of_colours(image: str) -> None:
    logger.warning(
        "%s: red and blue seem to be exchanged; if the picture was saved from an array in the "
        "order blue, green, red, as OpenCV has it, the answers about it are worth nothing",
        printable(image),
    )


@dataclass(frozen=True, eq=False)
class _Face:
    image: str
    box: Box | None
    crop: NDArray[np.uint8]
    size: float


@dataclass(frozen=True, eq=False)
class _Cut:
    """What became of one image: its faces, and (kind, detail) of each fault.

    `pixels` is the image itself if its faces have yet to be found, outside of the loader's threads.
    """

    image: str
    faces: list[_Face]
    faults: list[tuple[str, str]]
    pixels: Image.Image | None = None


class _Cutter:
    """The data set whose item i is what is cut out of image i."""

    def __init__(
        self,
        images: Sequence[str | Path],
        boxes: Sequence[Sequence[Box]] | Locator | None,
        settings: CropSettings,
    ) -> None:
        self.images, self.boxes, self.settings = images, boxes, settings

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> _Cut:
        cut = _Cut(str(self.images[index]), [], [])
        try:
            pixels = read_image(self.images[index])
        except OSError as error:
            reason = str(error).removeprefix(f"{cut.image}: ")
            cut.faults.append(("image cannot be read", reason))
            return cut
        if callable(self.boxes):
            return replace(cut, pixels=pixels)
        boxes = [None] if self.boxes is None else self.boxes[index]
        _cut_faces(cut, pixels, boxes, self.settings)
        return cut


def _cut_faces(
    cut: _Cut, pixels: Image.Image, boxes: Sequence[Box | None], settings: CropSettings
) -> None:
    for box in boxes:
        try:
            crop = crop_face(pixels, box, settings)
            cut.faces.append(_Face(cut.image, box, crop, box_size(pixels, box)))
        except ValueError as error:
            cut.faults.append(("box outside its image", str(error)))


def _answers(
    classifier: Classifier, faces: list[_Face], speed: Speed, device: str
) -> Iterator[Prediction]:
    crops = np.stack([face.crop for face in faces])
    start = time.perf_counter()
    probabilities = classifier.probabilities(crops, device)
    speed.seconds += time.perf_counter() - start
    speed.faces += len(faces)
    for face, of in zip(faces, probabilities, strict=True):
        yield Prediction.of(face.image, face.box, of, face.crop, face.size, classifier.threshold)
