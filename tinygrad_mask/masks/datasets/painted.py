"""Masks painted on the bare faces of real photographs, worn in every way alike.

The masks are those of the drawings (`drawing.mask`). The drawn head is fitted to a face whose nose
somebody marked; the mask on it is lit, blurred and grained as the photograph is. Masks worn
properly and improperly are painted alike, so that paint does not tell the label. Pixels outside of
the mask's outline keep their bits.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tinygrad_mask.masks.datasets.drawing.mask import draw_mask
from tinygrad_mask.masks.datasets.drawing.surface import CHIN, NOSE_BASE, Head, Painter, View
from tinygrad_mask.masks.datasets.drawing.traits import (
    LABEL_OF_WORN,
    FaceTraits,
    Light,
    Worn,
    sample_traits,
)
from tinygrad_mask.masks.datasets.records import Box, Face, Photograph
from tinygrad_mask.masks.errors import UsageError

SOURCE = "painted"
"""The data set of a painted photograph is called this, an underscore and that of the original."""

MARKS = Path(__file__).with_name("larxel_noses.csv")
"""Where the noses of Larxel's bare faces are; marked by eye, by one annotator."""

_SUPERSAMPLING = 3
_WAYS: tuple[tuple[Worn, float], ...] = (
    ("over nose and mouth", 0.27),
    ("under the nose", 0.18),
    ("under the mouth", 0.09),
    ("on the chin", 0.07),
    ("under the chin", 0.05),
    ("on the forehead", 0.04),
    ("not worn", 0.3),
)
"""How painted masks are worn, and their shares.

Some faces stay bare: faces to paint on are the larger ones, so that without those a large and sharp
face would be one with a mask.
"""

_USUAL = ((0.96, 0.97, 0.98), (0.66, 0.84, 0.95), (0.6, 0.86, 0.84), (0.1, 0.1, 0.11))
_USUAL_SHARES = (0.38, 0.3, 0.12, 0.2)


@dataclass(frozen=True)
class Nose:
    """Where the tip (x) and the base (y) of a nose are, as shares of the face's box."""

    x: float
    y: float


@dataclass(frozen=True)
class PaintedPhotograph:
    """A photograph with a mask painted on one of its faces, or none, the same bits each time.

    Only that face is labelled. `origin` is the photograph painted on.
    """

    photograph: Photograph
    face: int
    nose: Nose
    traits: FaceTraits
    seed: int
    index: int

    @property
    def source(self) -> str:
        """The data set it is of."""
        return f"{SOURCE}_{self.photograph.source}"

    @property
    def name(self) -> str:
        """Its name: that of the photograph, and a number."""
        return f"{self.photograph.name}#{self.index}"

    @property
    def origin(self) -> str:
        """The name of the photograph that the mask was painted into."""
        return self.photograph.name

    @property
    def faces(self) -> tuple[Face, ...]:
        """The painted face."""
        return (Face(self.traits.label, self.photograph.faces[self.face].box),)

    @property
    def ignored(self) -> tuple[Box, ...]:
        """Nothing: only faces are looked at."""
        return ()

    def open(self) -> Image.Image:
        """Return the photograph's pixels with the mask in them, in RGB."""
        picture = self.photograph.open()
        if self.traits.worn == "not worn":
            return picture
        box = self.photograph.faces[self.face].box or (0.0, 0.0, picture.width, picture.height)
        rng = np.random.default_rng([self.seed, self.index])
        return paint_mask(picture, box, self.nose, self.traits, rng)[0]


def painted_photographs(
    photographs: Sequence[Photograph],
    marks: Mapping[tuple[str, int], Nose],
    count: int,
    seed: int,
) -> list[PaintedPhotograph]:
    """Describe `count` painted photographs: the marked bare faces take turns.

    `marks` holds noses by a photograph's name and a face's position in it. The same seed and
    position always give the same photograph.

    Raises `UsageError` if no bare face of the photographs is marked.
    """
    bare = [
        (photograph, number, marks[photograph.name, number])
        for photograph in photographs
        for number, face in enumerate(photograph.faces)
        if face.label == "none" and (photograph.name, number) in marks
    ]
    if not bare:
        raise UsageError(
            "painted: expected photographs of Larxel's with bare faces whose noses are marked, got "
            f"{len(photographs)} photographs without; name the folder of that data set"
        )
    order = np.random.default_rng(seed).permutation(len(bare))
    painted = []
    for index in range(count):
        photograph, number, nose = bare[order[index % len(bare)]]
        rng = np.random.default_rng([seed, index, 1])
        ways, shares = zip(*_WAYS, strict=True)
        worn: Worn = ways[int(rng.choice(len(ways), p=shares))]
        traits = _usual_colours(
            replace(
                sample_traits(rng),
                worn=worn,
                mask_size=rng.uniform(0.95, 1.2),
                face_length=1.0,
                roll=0.0,
                pitch=0.0,
            ),
            rng,
        )
        painted.append(PaintedPhotograph(photograph, number, nose, traits, seed, index))
    return painted


def _usual_colours(traits: FaceTraits, rng: np.random.Generator) -> FaceTraits:
    """Give two masks of three one of the usual colours: white, pale blue or green, black."""
    if rng.random() > 2 / 3:
        return traits
    red, green, blue = _USUAL[int(rng.choice(len(_USUAL), p=_USUAL_SHARES))]
    spread = rng.normal(0, 0.03, 3)
    colour = np.clip(np.array((red, green, blue)) + spread, 0.03, 1.0).tolist()
    return replace(traits, mask_pattern="plain", mask_colour=(colour[0], colour[1], colour[2]))


@cache
def read_marks(path: Path = MARKS) -> dict[tuple[str, int], Nose]:
    """Read a CSV file `photograph,face,x,y` of noses, in hundredths of the face's box."""
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["photograph"], int(row["face"])): Nose(int(row["x"]) / 100, int(row["y"]) / 100)
            for row in csv.DictReader(file)
        }


def paint_mask(
    picture: Image.Image,
    box: Box,
    nose: Nose,
    traits: FaceTraits,
    rng: np.random.Generator,
) -> tuple[Image.Image, NDArray[np.bool_]]:
    """Paint a mask on a bare face: the picture, and which of its pixels (height, width) may differ.

    `traits` say what mask is worn and how. Raises `ValueError` for a box of which less than a pixel
    lies inside the picture, and for a mask that is not worn.
    """
    if traits.worn == "not worn" or LABEL_OF_WORN[traits.worn] == "none":
        raise ValueError(f"paint_mask: expected a mask that is worn, got {traits.worn!r}")
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], float(picture.width)), min(box[3], float(picture.height))
    if x2 - x1 < 1 or y2 - y1 < 1:
        corners = ", ".join(f"{corner:g}" for corner in box)
        raise ValueError(
            f"paint_mask: expected a box inside the picture of {picture.width} x {picture.height} "
            f"pixels, got ({corners})"
        )
    reach = 0.6 * max(x2 - x1, y2 - y1)
    left, top = max(0, int(x1 - reach)), max(0, int(y1 - reach))
    right, bottom = min(picture.width, int(x2 + reach)), min(picture.height, int(y2 + reach))
    window = picture.crop((left, top, right, bottom))
    pixels = np.asarray(window, np.float32)
    inside = (x1 - left, y1 - top, x2 - left, y2 - top)
    head, view = _fitted(inside, nose, traits)
    colour, alpha = _layer(window.size, head, view, traits, _light_of(pixels, inside, rng))
    sigma = _blur_of(pixels, inside)
    colour, alpha = _blurred(colour, alpha, sigma)
    grain = rng.standard_normal((*alpha.shape, 1), np.float32) * _grain_of(pixels, inside)
    mixed = pixels + alpha[..., None] * (colour + grain - pixels)
    touched = alpha > 0
    result = np.asarray(picture).copy()
    part = result[top:bottom, left:right]
    part[touched] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)[touched]
    where = np.zeros(result.shape[:2], bool)
    where[top:bottom, left:right] = touched
    return Image.fromarray(result), where


# --- fitting the head to the face ---------------------------------------------------------------


def _fitted(box: Box, nose: Nose, traits: FaceTraits) -> tuple[Head, View]:
    """The drawn head whose contour fills the box and whose nose is where that of the face is."""
    x1, y1, x2, y2 = box
    yaws, tips, lefts, rights = _profiles()
    yaw = float(np.interp(nose.x, tips, yaws))
    left, right = float(np.interp(yaw, yaws, lefts)), float(np.interp(yaw, yaws, rights))
    scale = (x2 - x1) / (right - left)
    # From the base of the nose down to the chin, which is the lower edge of the box.
    length = (1 - nose.y) * (y2 - y1) / ((CHIN - NOSE_BASE) * scale)
    length = float(np.clip(length, 0.7, 1.5))
    origin = (x1 - left * scale, y2 - CHIN * length * scale)
    head = Head(length, traits.jaw_width, traits.nose_size)
    return head, View(yaw, 0.0, 0.0, origin, scale)


@cache
def _profiles() -> tuple[NDArray[np.float64], ...]:
    """For yaws (degrees): where the tip of the nose is in the face's width, and the face's edges.

    The edges are in units of the head. They are those of the face alone, without the ears.
    """
    head = Head(1.0, 1.0, 1.0)
    azimuth = np.radians(np.linspace(-72, 72, 41))
    surface = head.points(azimuth, np.linspace(-0.4, 1.4, 19)[:, None])
    tip = head.points(0.0, 0.6)
    yaws = np.linspace(-70, 70, 29)
    tips, lefts, rights = [], [], []
    for yaw in yaws:
        rotation = View(float(yaw), 0.0, 0.0, (0.0, 0.0), 1.0).rotation
        x = (surface @ rotation.T)[..., 0]
        left, right = float(x.min()), float(x.max())
        tips.append((float((tip @ rotation.T)[0]) - left) / (right - left))
        lefts.append(left)
        rights.append(right)
    return yaws, np.maximum.accumulate(tips), np.array(lefts), np.array(rights)


# --- the light, the blur and the grain of the photograph ------------------------------------------


def _inner(pixels: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """The pixels of the box alone."""
    x1, y1, x2, y2 = (int(corner) for corner in box)
    return pixels[y1 : max(y2, y1 + 2), x1 : max(x2, x1 + 2)]


def _light_of(pixels: NDArray[np.float32], box: Box, rng: np.random.Generator) -> Light:
    """The light on a face: as bright as the brightest of its surroundings, from its brighter side.

    How bright white cloth is there is not known; it is drawn between the face's bright skin and the
    brightest pixels around it.
    """
    face = _inner(pixels, box).mean(axis=2)
    skin, white = float(np.percentile(face, 85)), float(np.percentile(pixels.mean(axis=2), 97))
    level = skin + rng.uniform(0.5, 1.2) * max(white - skin, 0.2 * skin)
    half = face.shape[1] // 2
    leaning = float(face[:, half:].mean() - face[:, :half].mean()) / max(skin, 1.0)
    direction = np.array([np.clip(2.5 * leaning, -0.9, 0.9), rng.uniform(-0.7, -0.1), 0.8])
    x, y, z = direction / np.linalg.norm(direction)
    mean = pixels.mean(axis=(0, 1))
    cast = (mean / max(float(mean.mean()), 1.0)) ** 0.3
    return Light(
        direction=(float(x), float(y), float(z)),
        ambient=rng.uniform(0.55, 0.85),
        exposure=float(np.clip(level / 255, 0.08, 1.1)),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
    )


def _blur_of(pixels: NDArray[np.float32], box: Box) -> float:
    """The deviation, in pixels, of the blur of a face's edges.

    A Gaussian of deviation 1 lowers the gradient of an edge blurred by s to s / sqrt(s^2 + 1) of
    what it was (Zhuo and Sim 2011, 'Defocus map estimation from a single image').
    """
    face = _inner(pixels, box).mean(axis=2)
    image = Image.fromarray(np.clip(face, 0, 255).astype(np.uint8))
    again = np.asarray(image.filter(ImageFilter.GaussianBlur(1)), np.float32)
    before, after = (
        np.percentile(np.hypot(*np.gradient(of)), 95)
        for of in (np.asarray(image, np.float32), again)
    )
    ratio = max(float(before / max(after, 1e-3)), 1.02)
    return float(np.clip(1 / np.sqrt(ratio**2 - 1), 0.4, 4.0))


def _grain_of(pixels: NDArray[np.float32], box: Box) -> np.float32:
    """The deviation of the grain of a face, in grey levels."""
    face = _inner(pixels, box).mean(axis=2)
    # Neighbours differ by grain and by what is to be seen; most of a face is smooth.
    steps = np.abs(np.diff(face, axis=1)) if face.shape[1] > 1 else np.zeros(1)
    return np.float32(min(float(np.median(steps)) / 1.35 / np.sqrt(2), 6.0))


# --- the mask as a layer ------------------------------------------------------------------------


def _layer(
    size: tuple[int, int], head: Head, view: View, traits: FaceTraits, light: Light
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the mask alone: colours (h, w, 3), and how much of each pixel it covers, (h, w).

    It is drawn twice, on black and on white: where both are the same it is opaque.
    """
    large = size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING
    enlarged = replace(
        view,
        origin=(view.origin[0] * _SUPERSAMPLING, view.origin[1] * _SUPERSAMPLING),
        scale=view.scale * _SUPERSAMPLING,
    )
    drawn = []
    for background in ("black", "white"):
        canvas = Image.new("RGB", large, background)
        draw_mask(Painter(ImageDraw.Draw(canvas), enlarged, light), head, traits)
        drawn.append(np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32))
    black, white = drawn
    alpha = np.clip(1 - (white - black).mean(axis=2) / 255, 0, 1)
    alpha[alpha < 0.01] = 0
    # On black, what is seen is colour times coverage.
    return black / np.maximum(alpha, 0.01)[..., None], alpha


def _blurred(
    colour: NDArray[np.float32], alpha: NDArray[np.float32], sigma: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Blur a layer, colours weighted by their coverage."""
    blur = ImageFilter.GaussianBlur(sigma)

    covered = np.asarray(
        Image.fromarray(np.rint(255 * alpha).astype(np.uint8)).filter(blur), np.float32
    )
    weighted = np.clip(colour * alpha[..., None], 0, 255).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(weighted).filter(blur), np.float32)
    share = covered / np.float32(255)
    share[share < 0.02] = 0
    return smooth / np.maximum(share, np.float32(0.02))[..., None], share
