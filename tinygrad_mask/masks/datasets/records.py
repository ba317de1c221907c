"""What a data set yields: photographs, and the faces that somebody marked in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from tinygrad_mask.masks.images import read_image

Box = tuple[float, float, float, float]
"""`(x1, y1, x2, y2)` in pixels of the upright photograph; x to the right, y down, x2 and y2 the
right and bottom edges (exclusive), so that the width is x2 - x1."""


@dataclass(frozen=True)
class Face:
    """A face in a photograph: its label (one of `LABELS`) and where it is.

    `box` is None where the whole picture is the face.
    """

    label: str
    box: Box | None


class Photograph(Protocol):
    """A photograph of a data set; reading its pixels is left until they are wanted."""

    @property
    def source(self) -> str:
        """The data set it is of, as shown to the user (`larxel`, `synthetic`)."""

    @property
    def name(self) -> str:
        """Its name, unique within the data set and the same on every machine."""

    @property
    def faces(self) -> tuple[Face, ...]:
        """The labelled faces."""

    @property
    def ignored(self) -> tuple[Box, ...]:
        """Regions that are neither a labelled face nor background."""

    def open(self) -> Image.Image:
        """Return its pixels, upright and in RGB; raises `OSError` where they cannot be read."""


@dataclass(frozen=True)
class PhotographFile:
    """A photograph in an image file."""

    source: str
    name: str
    path: Path
    faces: tuple[Face, ...]
    ignored: tuple[Box, ...] = ()

    def open(self) -> Image.Image:
        """Return its pixels, upright and in RGB; raises `OSError` where they cannot be read."""
        return read_image(self.path)
