"""The shape of a head, its pose in the picture, and drawing lit surfaces with Pillow.

Head coordinates: x to the viewer's right, y down, z to the viewer; the unit is half the width of
the face at the cheekbones; the origin lies between the ears, at the height of the eyes. The skin is
swept by an azimuth (0 in front, in radians, positive to the right) and y. Masks, hair, beards and
headwear are patches of this skin, lifted off it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

from tinygrad_mask.masks.datasets.drawing.traits import RGB, FaceTraits, Light

Array = NDArray[np.float64]
_Number = TypeVar("_Number", float, Array)

CHIN = 1.64
"""y of the lowest point of the face."""

NOSE_BASE = 0.75
"""y of the base of the nose."""

# Rows: y, half the width, depth of the front, depth of the ring's centre (the jaw slopes to the
# ears, so the rings move forward towards the chin), depth of the back behind that centre.
_RINGS = np.array(
    [
        (-1.62, 0.02, 0.10, -0.10, 0.02),
        (-1.58, 0.30, 0.35, -0.12, 0.35),
        (-1.48, 0.54, 0.66, -0.12, 0.65),
        (-1.25, 0.80, 0.95, -0.10, 0.98),
        (-0.95, 0.95, 1.12, -0.08, 1.18),
        (-0.55, 1.01, 1.22, -0.05, 1.26),
        (-0.20, 1.01, 1.24, -0.03, 1.24),
        (0.10, 1.00, 1.18, 0.00, 1.18),
        (0.40, 0.97, 1.18, 0.02, 1.05),
        (0.75, 0.90, 1.17, 0.08, 0.85),
        (1.05, 0.80, 1.15, 0.18, 0.60),
        (1.30, 0.66, 1.09, 0.30, 0.45),
        (1.48, 0.51, 1.04, 0.42, 0.40),
        (1.58, 0.38, 0.98, 0.50, 0.35),
        (CHIN, 0.22, 0.86, 0.55, 0.25),
        (1.70, 0.05, 0.65, 0.56, 0.05),
    ]
)
_NOSE_PROFILE = np.array(
    [(-0.08, 0.0), (0.2, 0.28), (0.5, 0.84), (0.6, 1.0), (0.68, 0.72), (0.75, 0.1), (0.8, 0.0)]
)


def exposed(colours: Array, light: Light) -> NDArray[np.uint8]:
    """Colours (..., 3) from 0 to 1 as the pixels that the camera sees of them in this light."""
    gain = 255 * light.exposure * np.array(light.cast)
    return np.clip(np.rint(colours * gain), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Head:
    """The surface of one person's head."""

    face_length: float
    jaw_width: float
    nose_size: float

    @classmethod
    def of(cls, traits: FaceTraits) -> "Head":
        """The head that these traits describe."""
        return cls(traits.face_length, traits.jaw_width, traits.nose_size)

    def half_width(self, y: ArrayLike) -> Array:
        """Half the width of the head at each y."""
        y = np.asarray(y, np.float64)
        half_width: Array = np.interp(y, _RINGS[:, 0], _RINGS[:, 1]) * self._jaw(y)
        return half_width

    def points(self, azimuth: ArrayLike, y: ArrayLike, lift: ArrayLike = 0.0) -> Array:
        """Points (..., 3) of the skin, `lift` above it."""
        points = self.draped(azimuth, y, lift)
        x, z = points[..., 0], points[..., 2]
        points[..., 2] += np.where(z > 0.3, self._relief(x, np.asarray(y, np.float64)), 0.0)
        return points

    def draped(
        self, azimuth: ArrayLike, y: ArrayLike, lift: ArrayLike = 0.0, hang: float = np.inf
    ) -> Array:
        """Points (..., 3) of cloth or hair `lift` above the head: smooth over eyes, nose and lips.

        Below y = `hang` it no longer follows the head, but hangs straight down.
        """
        azimuth, y = np.asarray(azimuth, np.float64), np.asarray(y, np.float64)
        level = np.minimum(y, hang)
        # All of a ring's numbers are interpolated at once; levels beyond the last ring keep it.
        above = np.clip(np.searchsorted(_RINGS[:, 0], level) - 1, 0, len(_RINGS) - 2)
        start, end = _RINGS[above], _RINGS[above + 1]
        share = np.clip((level - start[..., 0]) / (end[..., 0] - start[..., 0]), 0, 1)
        ring = start + share[..., None] * (end - start)
        half_width, front, centre, back = (ring[..., i] for i in range(1, 5))
        sine, cosine = np.sin(azimuth), np.cos(azimuth)
        x = (half_width * self._jaw(level) + lift) * sine
        points = np.empty((*x.shape, 3))
        points[..., 0] = x
        points[..., 1] = y * self.face_length
        points[..., 2] = centre + (np.where(cosine > 0, front - centre, back) + lift) * cosine
        return points

    def at(self, *lines: tuple[ArrayLike, ArrayLike, float]) -> list[Array]:
        """Lines (N, 3) on the front of the face, each given as (x, y, lift) seen from the front."""
        x = np.concatenate([line[0] for line in lines])
        y = np.concatenate([line[1] for line in lines])
        lengths = [len(np.asarray(line[0])) for line in lines]
        lift = np.repeat([line[2] for line in lines], lengths)
        azimuth = np.arcsin(np.clip(x / np.maximum(self.half_width(y), 1e-3), -0.99, 0.99))
        points = self.points(azimuth, y, lift)
        return [
            points[end - length : end]
            for end, length in zip(accumulate(lengths), lengths, strict=True)
        ]

    def _jaw(self, y: Array) -> Array:
        """How much wider the face is at each y than the usual one."""
        widening: Array = 1 + (self.jaw_width - 1) * np.clip((y - 0.1) / 1.1, 0, 1)
        return widening

    def _relief(self, x: Array, y: Array) -> Array:
        """How far nose, lips and chin stand out from the egg, and the eyes lie within it."""
        side = np.abs(x)
        nose_width = 0.11 + 0.12 * np.clip(y / 0.6, 0, 1)
        nose = 0.36 * np.interp(y, *_NOSE_PROFILE.T) * np.exp(-((x / nose_width) ** 2))
        eyes = -0.09 * np.exp(-(((side - 0.42) / 0.24) ** 2) - ((y - 0.04) / 0.15) ** 2)
        lips = 0.06 * np.exp(-((x / 0.32) ** 2) - ((y - 1.0) / 0.13) ** 2)
        chin = 0.07 * np.exp(-((x / 0.3) ** 2) - ((y - 1.48) / 0.14) ** 2)
        relief: Array = self.nose_size * nose + eyes + lips + chin
        return relief


_FINE_SCALE = 80
"""Drawn pixels a unit from which on a head's fine grid can be told from a coarse one."""


@dataclass(frozen=True)
class View:
    """Where a head is in a picture: its pose (degrees), the pixel of its origin, pixels a unit."""

    yaw: float
    pitch: float
    roll: float
    origin: tuple[float, float]
    scale: float

    @property
    def rotation(self) -> Array:
        """The 3x3 matrix that turns head coordinates into the viewer's."""
        yaw, pitch, roll = np.radians([self.yaw, self.pitch, self.roll])
        turn = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        nod = [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        tilt = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
        rotation: Array = np.array(tilt) @ np.array(nod) @ np.array(turn)
        return rotation


class Painter:
    """Draws the surfaces of one head into a picture, lit and from the viewer's side."""

    def __init__(self, draw: ImageDraw.ImageDraw, view: View, light: Light) -> None:
        self.draw = draw
        self.view = view
        self._rotation = view.rotation
        self._light = light

    @property
    def step(self) -> int:
        """Draw every row and column of a fine grid, or, of a small head, every second one."""
        return 1 if self.view.scale >= _FINE_SCALE else 2

    def turned(self, points: Array) -> Array:
        """Head coordinates (..., 3) in the viewer's: pixels, pixels, depth in units."""
        turned: Array = points @ self._rotation.T
        turned[..., :2] = turned[..., :2] * self.view.scale + self.view.origin
        return turned

    def faces_viewer(self, outward: Sequence[float], least: float = 0.1) -> bool:
        """Whether a spot with this outward direction is turned to the viewer."""
        direction = self._rotation @ np.asarray(outward)
        return bool(direction[2] > least * np.linalg.norm(direction))

    def patch(self, points: Array, colour: ArrayLike) -> None:
        """Draw a grid of points (rows, columns, 3), lit cell by cell, from far to near.

        Rows run down and columns to the viewer's right; a cell that is turned away is not drawn.
        `colour` broadcasts to (rows - 1, columns - 1, 3).
        """
        turned = self.turned(points)
        pixels = np.rint(turned[..., :2]).astype(np.int64)
        # The diagonals' cross product: the normal of a cell, by which it is lit and culled.
        diagonal, other = turned[1:, 1:] - turned[:-1, :-1], turned[1:, :-1] - turned[:-1, 1:]
        diagonal[..., 2] *= self.view.scale
        other[..., 2] *= self.view.scale
        normal = np.cross(diagonal, other)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
        visible = normal[..., 2] > 0
        depth = (turned[1:, 1:, 2] + turned[:-1, :-1, 2])[visible]
        corners = np.concatenate(
            [pixels[:-1, :-1], pixels[:-1, 1:], pixels[1:, 1:], pixels[1:, :-1]], axis=-1
        )[visible]
        shape = (*normal.shape[:2], 3)
        colours = self._lit(np.broadcast_to(np.asarray(colour), shape)[visible], normal[visible])
        order = np.argsort(depth, kind="stable")
        for cell, fill in zip(corners[order].tolist(), colours[order].tolist(), strict=True):
            self.draw.polygon(cell, fill=tuple(fill))

    def shape(self, points: Array, colour: RGB | Array, outward: Sequence[float]) -> None:
        """Draw one flat outline (N, 3), lit as a surface that faces `outward` is."""
        normal = self._rotation @ outward
        self.picture_shape(self.turned(points)[:, :2], colour, normal.tolist())

    def picture_shape(
        self, pixels: ArrayLike, colour: RGB | Array, outward: Sequence[float]
    ) -> None:
        """Draw one outline (N, 2) given in pixels and facing `outward` as the viewer sees it."""
        outline = np.rint(pixels).ravel().tolist()
        self.draw.polygon(outline, fill=self._flat(colour, outward))

    def stroke(
        self, points: Array, width: float, colour: RGB | Array, outward: Sequence[float]
    ) -> None:
        """Draw a line through points (N, 3), `width` units wide and round at its ends."""
        pixels = self.turned(points)[:, :2]
        fill = self._flat(colour, (self._rotation @ outward).tolist())
        broad = max(1, round(width * self.view.scale))
        self.draw.line(np.rint(pixels).ravel().tolist(), fill=fill, width=broad, joint="curve")
        if broad > 3:
            for x, y in (pixels[0].tolist(), pixels[-1].tolist()):
                self.draw.circle((x, y), broad / 2, fill=fill)

    def _flat(self, colour: RGB | Array, outward: Sequence[float]) -> tuple[int, ...]:
        """The pixel of one flat surface: `_lit` for a single colour, without arrays."""
        (x, y, z), (to_x, to_y, to_z) = outward, self._light.direction
        towards = (x * to_x + y * to_y + z * to_z) / math.sqrt(x * x + y * y + z * z)
        shade = self._shade(max(0.0, towards))
        gain = 255 * self._light.exposure * shade
        cast = self._light.cast
        return tuple(min(255, round(c * gain * k)) for c, k in zip(colour, cast, strict=True))

    def _lit(self, colours: Array, normals: Array) -> NDArray[np.uint8]:
        """Colours (N, 3) from 0 to 1 as pixels, each lit from its normal's side."""
        diffuse = np.maximum(normals @ np.array(self._light.direction), 0.0)
        return exposed(colours * self._shade(diffuse)[:, None], self._light)

    def _shade(self, diffuse: _Number) -> _Number:
        """How bright a surface is, by the cosine of its angle to the light."""
        return self._light.ambient + (1.12 - self._light.ambient) * diffuse
