"""How a photograph becomes an input of the network, at one size or at two."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.detector.network.architecture import LARGEST_STRIDE

GREY = 114
"""The grey value of what lies outside of a photograph, in training and in detection."""

PIXEL_MEAN, PIXEL_SCALE = 127.5, 63.75
"""What is subtracted from pixels of 0 to 255, and what the rest is divided by."""

_MOST = 16384
_MUCH_SMALLER = 0.6  # a second look at a size beyond this share of the first shows nothing new


@dataclass(frozen=True)
class InputSettings:
    """The sizes at which the network sees a photograph; part of the model.

    A network knows faces of a limited range of sizes, those that it met in training. So it looks
    twice: at the photograph with a longer side of `long_side` pixels, for the small faces, and with
    one of `coarse_long_side`, for those that are larger than `largest_face` pixels in the first.
    A photograph is never enlarged by more than `most_enlarged`: beyond that there is nothing more
    to see. Of the second look only faces of at least `least_coarse_face` pixels count; smaller ones
    were seen better in the first. A `coarse_long_side` of 0 means one look.

    Raises `ValueError` for numbers that are not positive.
    """

    long_side: int = 600
    most_enlarged: float = 1.5
    coarse_long_side: int = 256
    largest_face: float = 120.0
    least_coarse_face: float = 24.0

    def __post_init__(self) -> None:
        """Refuse what no photograph can be resized to."""
        if not all(0 <= value <= _MOST for value in vars(self).values()):
            raise ValueError(
                f"input: expected sizes above 0 and up to {_MOST:,} pixels, got {self}"
            )
        if not (
            self.long_side >= 1
            and self.coarse_long_side >= 0
            and min(self.most_enlarged, self.largest_face, self.least_coarse_face) > 0
        ):
            raise ValueError(f"input: expected sizes above 0, got {self}")

    def looks(self, width: int, height: int) -> list["Look"]:
        """Return how a photograph of width x height pixels is looked at, the finest look first."""
        longer = max(width, height)
        fine = min(self.long_side / longer, self.most_enlarged)
        coarse = self.coarse_long_side / longer
        if not 0 < coarse < _MUCH_SMALLER * fine:
            return [Look(fine)]
        return [Look(fine, most=self.largest_face), Look(coarse, least=self.least_coarse_face)]


@dataclass(frozen=True)
class Look:
    """One size at which a photograph is seen: pixels of the input per pixel of the photograph.

    Only faces whose shorter side is at least `least` and below `most` pixels of the input count.
    """

    scale: float
    least: float = 0.0
    most: float = float("inf")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) in pixels to which a photograph is resized."""
        return max(round(width * self.scale), 1), max(round(height * self.scale), 1)


def network_input(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an RGB image resized to (width, height) as an input of the network, (1, H, W, 3).

    It lies in the upper left corner, with grey below and to the right of it: H and W are multiples
    of the network's largest stride.
    """
    width, height = size
    resized = image.resize(
        size,
        Image.Resampling.BICUBIC if width > image.width else Image.Resampling.BILINEAR,
        reducing_gap=2.0,
    )
    rows, columns = (-(-n // LARGEST_STRIDE) * LARGEST_STRIDE for n in (height, width))
    pixels = np.full((1, rows, columns, 3), GREY, np.float32)
    pixels[0, :height, :width] = np.asarray(resized)
    return scale_pixels(pixels)


def scale_pixels(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale pixels from 0 to 255 to what the network takes, about -2 to 2."""
    return (pixels - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_SCALE)
