"""From a box in a photograph to the pixels that a model sees: the same way wherever one is cut."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.images import to_rgb

_FILTER = Image.Resampling.BICUBIC
_FILTER_RADIUS = 2  # of the bicubic kernel, in pixels of the coarser of photograph and crop
_LARGEST_CROP = 512  # pixels a side; the networks are made for 40
_LARGEST_MARGIN = 100.0
_LARGEST_WINDOW = 4096  # pixels a side


@dataclass(frozen=True)
class CropSettings:
    """How a model's input was cut; part of the model, since other cuts are other pictures.

    `size` is the side of the crop in pixels. `margin` is what is added on every side of the box,
    as a share of the box's longer side: chin, hair and background tell how a mask is worn.
    Raises `ValueError` for a size below 1 or a negative margin.
    """

    size: int = 40
    margin: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what no crop can have."""
        if self.size < 1:
            raise ValueError(f"crop size expects at least 1 pixel, got {self.size}")
        if self.size > _LARGEST_CROP:
            raise ValueError(
                f"image_size: expected at most {_LARGEST_CROP} pixels, got {self.size}"
            )
        if not (math.isfinite(self.margin) and 0 <= self.margin <= _LARGEST_MARGIN):
            raise ValueError(
                f"crop margin expects a share of 0 to {_LARGEST_MARGIN}, got {self.margin}"
            )


def crop_face(
    photograph: Image.Image | NDArray[Any], box: Box | None, settings: CropSettings
) -> NDArray[np.uint8]:
    """Cut a face out of a photograph: uint8, HWC, (size, size, 3), in RGB.

    The photograph is an image of Pillow's or an array of uint8: RGB, RGBA or grey, converted to RGB
    by `images.to_rgb`.

    The box is clipped to the photograph, grown by the margin, and made square about its centre
    with its longer side; where the square leaves the photograph, the photograph's edge pixels are
    repeated. It is resized bicubically with antialiasing, to a fraction of a pixel. Without a box,
    the face is the whole picture, made square and not grown.

    Raises `ValueError` for a box that has no area inside the photograph, `ValueError` or
    `TypeError` for an array that is no picture.
    """
    photograph = to_rgb(photograph)
    return _cut(photograph, *_square(photograph, box, settings), settings.size)


def crop_with_border(
    photograph: Image.Image | NDArray[Any], box: Box | None, settings: CropSettings, border: int
) -> NDArray[np.uint8]:
    """Cut a face out with what is round it: uint8, (size + 2 border, size + 2 border, 3).

    All is as in `crop_face`, whose crop is the middle of the result, to the bit; the pixels of the
    border, on each side, are of the same scale.
    """
    photograph = to_rgb(photograph)
    crop = crop_face(photograph, box, settings)
    if border == 0:
        return crop
    left, top, side = _square(photograph, box, settings)
    beyond = border * side / settings.size
    cut = _cut(
        photograph, left - beyond, top - beyond, side + 2 * beyond, settings.size + 2 * border
    )
    # Cut as one, the middle might be rounded otherwise here and there: its place in the photograph
    # has passed through other sums.
    cut[border:-border, border:-border] = crop
    return cut


def _square(
    photograph: Image.Image, box: Box | None, settings: CropSettings
) -> tuple[float, float, float]:
    """Return left, top and side of the square that becomes the crop, in the photograph's pixels."""
    width, height = photograph.size
    if box is None:
        box, margin = (0.0, 0.0, float(width), float(height)), 0.0
    else:
        box, margin = clip_box(box, width, height), settings.margin
    x1, y1, x2, y2 = box
    side = max(x2 - x1, y2 - y1) * (1 + 2 * margin)
    return (x1 + x2 - side) / 2, (y1 + y2 - side) / 2, side


def _cut(
    photograph: Image.Image, left: float, top: float, side: float, size: int
) -> NDArray[np.uint8]:
    """Cut a square out of a photograph, beyond its edges too, and resize it to `size` pixels."""
    width, height = photograph.size
    # Only a window of whole pixels about the square, as far as the filter reaches, is touched.
    reach = _FILTER_RADIUS * max(1.0, side / size) + 1
    window_left, window_top = math.floor(left - reach), math.floor(top - reach)
    window_right, window_bottom = math.ceil(left + side + reach), math.ceil(top + side + reach)
    inside = (
        max(window_left, 0),
        max(window_top, 0),
        min(window_right, width),
        min(window_bottom, height),
    )
    window = photograph.crop(inside)
    left, top = left - inside[0], top - inside[1]
    beyond: tuple[int, ...] = (
        inside[0] - window_left,
        inside[1] - window_top,
        window_right - inside[2],
        window_bottom - inside[3],
    )

    # A window larger than any face is averaged in whole-number blocks before it is padded: without
    # that, a picture 100,000 pixels long and 1 high would need a square of that side in memory.
    factor = math.ceil((window_right - window_left) / _LARGEST_WINDOW)
    if factor > 1:
        window = window.reduce(factor)
        left, top, side = left / factor, top / factor, side / factor
        beyond = tuple(math.ceil(pixels / factor) for pixels in beyond)
    if any(beyond):
        window = _repeat_edges(window, beyond)
        left, top = left + beyond[0], top + beyond[1]
    corners = (left, top, left + side, top + side)
    return np.array(window.resize((size, size), _FILTER, box=corners))


def clip_box(box: Box, width: int, height: int) -> Box:
    """Return the part of a box that lies in a photograph of `width` x `height` pixels.

    Raises `ValueError` where that part has no area or a coordinate is not finite.
    """
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], float(width)), min(box[3], float(height))
    if not (all(map(math.isfinite, box)) and x1 < x2 and y1 < y2):
        corners = ", ".join(f"{value:g}" for value in box)
        raise ValueError(f"box ({corners}) has no area inside the photograph, {width} x {height}")
    return x1, y1, x2, y2


def face_size(box: Box) -> float:
    """Return a face's size: the shorter side of its box, in pixels."""
    return min(box[2] - box[0], box[3] - box[1])


def box_size(photograph: Image.Image, box: Box | None) -> float:
    """Return the size of a face in a photograph: of its box, clipped, or of the whole picture."""
    width, height = photograph.size
    return face_size(clip_box(box or (0.0, 0.0, width, height), width, height))


def _repeat_edges(image: Image.Image, beyond: tuple[int, ...]) -> Image.Image:
    left, top, right, bottom = beyond
    pixels = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode="edge")
    return Image.fromarray(pixels)
