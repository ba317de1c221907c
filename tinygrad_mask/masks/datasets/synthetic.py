"""The synthetic data set: photographs of people with and without masks, drawn from a seed.

A photograph is sampled as a description first, which knows its faces and their boxes; its pixels
are drawn from the description whenever they are opened.
"""

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
from PIL import Image, ImageDraw

from tinygrad_mask.masks.datasets.drawing.face import (
    SUPERSAMPLING,
    draw_face,
    draw_person,
    enlarged,
    unit_box,
)
from tinygrad_mask.masks.datasets.drawing.scene import Background, develop, draw_background
from tinygrad_mask.masks.datasets.drawing.surface import View
from tinygrad_mask.masks.datasets.drawing.traits import (
    DAYLIGHT,
    FaceTraits,
    Light,
    sample_light,
    sample_traits,
)
from tinygrad_mask.masks.datasets.records import Box, Face

__all__ = [
    "DAYLIGHT",
    "FaceTraits",
    "Light",
    "Person",
    "SyntheticPhotograph",
    "draw_face",
    "synthetic_photographs",
]

FACE_HEIGHTS = (24.0, 110.0)
"""The smallest and the largest height of a face's box, in pixels."""

_MOST_FACES = 3
_CLOSE_UPS = 0.5
"""The share of photographs that show one face, close to the camera."""
_TRIES = 8
# In heights of the smallest face.
_MOST_SOFTNESS = 0.015
# Streams of the same seed and photograph, so that neither disturbs the other.
_DESCRIPTION, _PIXELS = 0, 1


@dataclass(frozen=True)
class Person:
    """Somebody in a photograph: the traits, where the head is, and the face's box there."""

    traits: FaceTraits
    view: View
    box: Box


@dataclass(frozen=True)
class SyntheticPhotograph:
    """A photograph that is drawn when it is opened, the same bits each time.

    `people` are in the order of `faces`, the farthest first; `softness` is the camera's blur in
    pixels, `noise` its grain in grey levels, `motion` and `quality` are as in `develop`. If the
    photograph is a `portrait`, the whole picture is one face, as people photograph themselves.
    """

    seed: int
    index: int
    size: tuple[int, int]
    background: Background
    light: Light
    people: tuple[Person, ...]
    softness: float
    noise: float
    motion: tuple[float, float] = (0.0, 0.0)
    quality: int | None = None
    portrait: bool = False

    @property
    def source(self) -> str:
        """The data set it is of."""
        return "synthetic"

    @property
    def name(self) -> str:
        """Its name, unique for a seed."""
        return f"synthetic-{self.seed}-{self.index}"

    @property
    def faces(self) -> tuple[Face, ...]:
        """The labelled faces, the farthest first."""
        return tuple(
            Face(person.traits.label, None if self.portrait else person.box)
            for person in self.people
        )

    @property
    def ignored(self) -> tuple[Box, ...]:
        """Nothing: every face is labelled."""
        return ()

    def open(self) -> Image.Image:
        """Draw its pixels, in RGB."""
        rng = np.random.default_rng([self.seed, self.index, _PIXELS])
        background = draw_background(rng, self.background, self.size, self.light)
        width, height = (SUPERSAMPLING * side for side in self.size)
        canvas = background.resize((width, height), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(canvas)
        for person in self.people:
            draw_person(draw, person.traits, self.light, enlarged(person.view), height)
        return develop(
            rng,
            canvas.reduce(SUPERSAMPLING),
            self.softness,
            self.noise,
            motion=self.motion,
            quality=self.quality,
        )


def synthetic_photographs(count: int, seed: int) -> list[SyntheticPhotograph]:
    """Describe photographs; the same seed and position always give the same photograph.

    Raises `ValueError` for a negative count or seed.
    """
    if count < 0 or seed < 0:
        raise ValueError(
            f"synthetic_photographs: expected a count and a seed from 0 on, got {count} and {seed}"
        )
    return [_describe(seed, index) for index in range(count)]


def _describe(seed: int, index: int) -> SyntheticPhotograph:
    rng = np.random.default_rng([seed, index, _DESCRIPTION])
    light = sample_light(rng)
    close = rng.random() < _CLOSE_UPS
    size, heights, people = (_close_up if close else _company)(rng)
    # However the camera shakes, the smallest face can still be made out.
    smallest = min(heights)
    most_softness = _MOST_SOFTNESS * smallest
    angle, shaken = rng.uniform(0, 2 * np.pi), rng.random() < 0.2
    length = shaken * rng.uniform(0.02, 0.07) * smallest
    return SyntheticPhotograph(
        seed=seed,
        index=index,
        size=size,
        background=get_args(Background)[int(rng.integers(len(get_args(Background))))],
        light=light,
        people=people,
        softness=min(max(0.0, rng.normal(0.2, 0.35)), most_softness),
        noise=rng.uniform(0, 9 if light.exposure < 0.6 else 5),
        motion=(float(length * np.cos(angle)), float(length * np.sin(angle))),
        quality=int(rng.integers(25, 92)) if rng.random() < 0.6 else None,
        portrait=close and rng.random() < 0.5,
    )


_Composition = tuple[tuple[int, int], list[float], tuple[Person, ...]]
"""The size of a photograph, the heights of its faces in pixels, and who is where."""


def _company(rng: np.random.Generator) -> _Composition:
    """People at different distances."""
    size = int(rng.integers(184, 217)), int(rng.integers(148, 173))
    smallest, largest = np.log(FACE_HEIGHTS)
    heights = np.exp(rng.uniform(smallest, largest, int(rng.integers(1, _MOST_FACES + 1)))).tolist()
    people: list[Person] = []
    for height in sorted(heights, reverse=True):
        person = _place(rng, sample_traits(rng), height, size, people)
        if person is not None:
            people.append(person)
    return size, heights, tuple(reversed(people))


def _close_up(rng: np.random.Generator) -> _Composition:
    """One person before a camera: the face fills a third of the frame to nearly all of it."""
    traits = sample_traits(rng)
    x1, y1, x2, y2 = unit_box(traits)
    height = rng.uniform(60, FACE_HEIGHTS[1])
    scale = height / (y2 - y1)
    width = scale * (x2 - x1)
    tall = height * rng.uniform(1.15, 2.1)
    wide = max(tall * rng.choice((9 / 16, 3 / 4, 1.0, 4 / 3)), 1.1 * width)
    left = (wide - width) * rng.uniform(0.25, 0.75)
    top = (tall - height) * rng.uniform(0.3, 0.7)
    view = View(traits.yaw, traits.pitch, traits.roll, (left - scale * x1, top - scale * y1), scale)
    person = Person(traits, view, (left, top, left + width, top + height))
    return (math.ceil(wide), math.ceil(tall)), [height], (person,)


def _place(
    rng: np.random.Generator,
    traits: FaceTraits,
    height: float,
    size: tuple[int, int],
    nearer: list[Person],
) -> Person | None:
    """Find a place for a face, this many pixels high, that nobody nearer hides; None if none is."""
    x1, y1, x2, y2 = unit_box(traits)
    scale = height / (y2 - y1)
    for _ in range(_TRIES):
        left = rng.uniform(1, size[0] - 1 - scale * (x2 - x1))
        top = rng.uniform(1, size[1] - 1 - height)
        box = (left, top, left + scale * (x2 - x1), top + height)
        if not any(_overlap(box, _covered(person.box)) for person in nearer):
            origin = (left - scale * x1, top - scale * y1)
            return Person(traits, View(traits.yaw, traits.pitch, traits.roll, origin, scale), box)
    return None


def _covered(box: Box) -> Box:
    """What a person with this face covers: hair and headwear above, the body below."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    return x1 - 0.75 * width, y1 - 0.45 * height, x2 + 0.75 * width, float("inf")


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
