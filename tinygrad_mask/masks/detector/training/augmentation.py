"""Random training images for the detector: scale, crop, mosaic, mirror, colour, noise.

Every image is a square cut from a photograph, or four of them in a mosaic (YOLOv4, Bochkovskiy et
al. 2020), with the faces' boxes in its pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.data import Dataset
from tinygrad_mask.masks.detector.network.architecture import LARGEST_STRIDE
from tinygrad_mask.masks.detector.network.input import GREY

_MIRROR, _COLOUR, _NOISE, _GREYSCALE = 0.5, 0.8, 0.15, 0.05  # probabilities
_ON_A_FACE = 0.7  # the probability that a crop is laid about a face rather than anywhere
_LEAST_INSIDE = 0.5  # the share of a face that must be inside the crop for it to count as a face
_FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass(frozen=True, eq=False)
class PhotographView:
    """A photograph at one resolution: its image and its faces.

    `boxes` (n, 4) are x1, y1, x2, y2 in pixels of `image`, float32; `labels` (n,) positions in
    `LABELS`, int64; `ignored` (m, 4) regions that are neither a face nor background.
    """

    image: Image.Image
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]


@dataclass(frozen=True)
class DetectorAugmentation:
    """How training images are drawn.

    `size` is their side in pixels, a multiple of the network's largest stride. A photograph is
    resized so that its longer side has a random number of pixels, drawn log-uniformly between the
    two of `long_side`, before the square is cut out. `mosaic` is the probability of four crops
    instead of one.
    """

    size: int = 256
    long_side: tuple[float, float] = (160, 1600)
    mosaic: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what no image can be drawn with."""
        if self.size < LARGEST_STRIDE or self.size % LARGEST_STRIDE:
            raise ValueError(
                f"size: expected a multiple of {LARGEST_STRIDE} from {LARGEST_STRIDE} on, "
                f"got {self.size}"
            )
        if not 0 < self.long_side[0] <= self.long_side[1] < math.inf:
            raise ValueError(
                f"long_side: expected two numbers above 0, the smaller first, got {self.long_side}"
            )
        if not 0 <= self.mosaic <= 1:
            raise ValueError(f"mosaic: expected a share from 0 to 1, got {self.mosaic:g}")


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """An image (size, size, 3), float32 in [0, 255], and its faces as in `PhotographView`."""

    pixels: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]


def draw_image(
    views: Dataset[PhotographView], settings: DetectorAugmentation, rng: np.random.Generator
) -> TrainingImage:
    """Draw a training image from randomly chosen photographs."""
    if rng.random() < settings.mosaic:
        image = _mosaic(views, settings, rng)
    else:
        image = random_crop(_choose(views, rng), settings.size, settings.long_side, rng)
    if rng.random() < _MIRROR:
        image = mirror(image)
    return TrainingImage(
        _change_colours(image.pixels, rng), image.boxes, image.labels, image.ignored
    )


def random_crop(
    view: PhotographView, size: int, long_side: tuple[float, float], rng: np.random.Generator
) -> TrainingImage:
    """Cut a square of `size` pixels out of a photograph at a random place and scale.

    `long_side` is the range of the photograph's longer side in pixels of the crop. Faces less than
    half of which are inside become ignored regions.
    """
    longer = math.exp(rng.uniform(math.log(long_side[0]), math.log(long_side[1])))
    side = size * max(view.image.size) / longer  # of the window, in pixels of the photograph
    stretch = math.exp(rng.uniform(-0.05, 0.05))
    window = np.array([side * stretch, side / stretch])
    left, top = _place(view, window, rng)
    pixels = _cut(view.image, left, top, window, size, rng)

    factor = np.tile(size / window, 2)
    offset = np.array([left, top, left, top])
    boxes = ((view.boxes - offset) * factor).astype(np.float32)
    inside = np.clip(boxes, 0, size)
    area, area_inside = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, inside))
    faces = area_inside > _LEAST_INSIDE * area
    cut_off = ~faces & (area_inside > 0)
    ignored = np.clip((view.ignored - offset) * factor, 0, size).astype(np.float32)
    return TrainingImage(
        pixels, inside[faces], view.labels[faces], np.concatenate([ignored, inside[cut_off]])
    )


def mirror(image: TrainingImage) -> TrainingImage:
    """Exchange left and right."""
    width = image.pixels.shape[1]

    def flip(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
        )

    return TrainingImage(
        image.pixels[:, ::-1], flip(image.boxes), image.labels, flip(image.ignored)
    )


def _choose(views: Dataset[PhotographView], rng: np.random.Generator) -> PhotographView:
    return views[int(rng.integers(len(views)))]


def _mosaic(
    views: Dataset[PhotographView], settings: DetectorAugmentation, rng: np.random.Generator
) -> TrainingImage:
    """Put four crops of half the side together."""
    half = settings.size // 2
    pixels = np.empty((2 * half, 2 * half, 3), np.float32)
    parts: list[TrainingImage] = []
    for top in (0, half):
        for left in (0, half):
            part = random_crop(_choose(views, rng), half, settings.long_side, rng)
            pixels[top : top + half, left : left + half] = part.pixels
            offset = np.array([left, top, left, top], np.float32)
            parts.append(
                TrainingImage(part.pixels, part.boxes + offset, part.labels, part.ignored + offset)
            )
    return TrainingImage(
        pixels,
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ignored for part in parts]),
    )


def _place(
    view: PhotographView, window: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float]:
    """Draw left and top of a window: about a face, or anywhere; at most a tenth of it outside."""
    extent = np.array(view.image.size)
    lowest, highest = np.minimum(0, extent - window), np.maximum(0, extent - window)
    if len(view.boxes) and rng.random() < _ON_A_FACE:
        box = view.boxes[int(rng.integers(len(view.boxes)))]
        slack = 0.45 * (window - (box[2:] - box[:2]))
        centre = rng.uniform(box[:2], box[2:]) + rng.uniform(-1, 1, 2) * slack
        corner = np.clip(centre - window / 2, lowest - 0.1 * window, highest + 0.1 * window)
    else:
        corner = rng.uniform(lowest, highest)
    return float(corner[0]), float(corner[1])


def _cut(
    image: Image.Image,
    left: float,
    top: float,
    window: NDArray[np.float64],
    size: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Resize the part of an image that is in the window, on plain grey or a random colour."""
    x1, y1 = max(left, 0.0), max(top, 0.0)
    x2, y2 = min(left + window[0], image.width), min(top + window[1], image.height)
    factor_x, factor_y = size / window
    column, row = round((x1 - left) * factor_x), round((y1 - top) * factor_y)
    width = min(max(1, round((x2 - x1) * factor_x)), size - column)
    height = min(max(1, round((y2 - y1) * factor_y)), size - row)
    pixels = np.full((size, size, 3), GREY, np.float32)
    if rng.random() < 0.3:
        pixels[:] = rng.integers(0, 256, 3)
    resized = image.resize(
        (width, height), _FILTERS[int(rng.integers(len(_FILTERS)))], (x1, y1, x2, y2), 2.0
    )
    pixels[row : row + height, column : column + width] = np.asarray(resized)
    return pixels


def _change_colours(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change brightness, saturation, contrast and cast; at times add noise or drop the colour."""
    if rng.random() < _COLOUR:
        pixels = pixels * np.float32(rng.uniform(0.6, 1.4)) + np.float32(rng.uniform(-25, 25))
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.5, 1.5))
        mean = pixels.mean()
        pixels = mean + (pixels - mean) * np.float32(rng.uniform(0.7, 1.3))
        pixels *= rng.uniform(0.9, 1.1, 3).astype(np.float32)
    if rng.random() < _NOISE:
        pixels = pixels + rng.normal(0, rng.uniform(2, 12), pixels.shape).astype(np.float32)
    if rng.random() < _GREYSCALE:
        pixels = np.broadcast_to(pixels.mean(axis=2, keepdims=True), pixels.shape)
    return np.clip(pixels, 0, 255)
