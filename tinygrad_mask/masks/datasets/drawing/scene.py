"""What is around the people of a photograph: the background, and what the camera does."""

import io
import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tinygrad_mask.masks.datasets.drawing.surface import exposed
from tinygrad_mask.masks.datasets.drawing.traits import Light, any_colour

Background = Literal["plain", "wall", "lights", "street"]

_SOFTNESS = 2
"""Backgrounds are drawn this many times smaller and enlarged: they are out of focus."""


def draw_background(
    rng: np.random.Generator, kind: Background, size: tuple[int, int], light: Light
) -> Image.Image:
    """Draw a background of `size` (width, height) pixels in RGB, out of focus."""
    width, height = size[0] // _SOFTNESS, size[1] // _SOFTNESS
    top, other = np.array(any_colour(rng)), np.array(any_colour(rng))
    bottom = top + 0.5 * (other - top)
    down = np.linspace(0, 1, height)[:, None, None]
    across = np.linspace(-0.15, 0.15, width)[None, :, None] * np.sign(light.direction[0])
    light = replace(light, exposure=light.exposure * light.behind)
    ramp = np.clip((top + (bottom - top) * down) * (1 + across), 0, 1)
    image = Image.fromarray(exposed(ramp, light))
    draw = ImageDraw.Draw(image)

    near = {"plain": 0.0, "wall": 0.12, "lights": 0.7, "street": 0.6}[kind]
    colours = bottom + near * (np.array([any_colour(rng) for _ in range(12)]) - bottom)
    palette = [tuple(colour) for colour in exposed(colours, light).tolist()]

    def some_colour() -> tuple[int, ...]:
        return palette[int(rng.integers(len(palette)))]

    if kind == "wall":
        tall, wide = int(rng.integers(8, 20)), int(rng.integers(10, 40))
        for y in range(0, height, tall):
            for x in range(-(y // tall % 2) * wide // 2, width, wide):
                draw.rectangle((x, y, x + wide - 2, y + tall - 2), fill=some_colour())
    elif kind == "lights":
        for _ in range(int(rng.integers(8, 24))):
            centre = float(rng.uniform(0, width)), float(rng.uniform(0, height))
            draw.circle(centre, float(rng.uniform(2, 9)), fill=some_colour())
    elif kind == "street":
        x = 0
        while x < width:
            step = int(rng.integers(6, 26))
            roof = int(rng.uniform(-0.1, 0.6) * height)
            draw.rectangle((x, max(roof, 0), x + step, height), fill=some_colour())
            for y in range(max(roof, 0) + 3, height, 7):
                draw.line((x + 2, y, x + step - 2, y), fill=some_colour(), width=2)
            x += step
    return image.resize(size, Image.Resampling.BILINEAR)


def develop(
    rng: np.random.Generator,
    image: Image.Image,
    softness: float,
    noise: float,
    *,
    motion: tuple[float, float] = (0.0, 0.0),
    quality: int | None = None,
) -> Image.Image:
    """What the camera adds.

    A blur of `softness` pixels, one along `motion` (x, y in pixels: how far a face moved while the
    shutter was open), grain of `noise` grey levels, and JPEG compression of this `quality`.
    """
    if softness > 0.2:
        image = image.filter(ImageFilter.BoxBlur(softness))
    pixels = np.asarray(image, np.float32)
    length = math.hypot(*motion)
    if length >= 1:
        pixels = _smeared(pixels, motion, round(length) + 1)
    grain = rng.standard_normal((image.height, image.width, 1), np.float32) * np.float32(noise)
    image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    if quality is None:
        return image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _smeared(
    pixels: NDArray[np.float32], motion: tuple[float, float], steps: int
) -> NDArray[np.float32]:
    """The mean of a picture (h, w, 3) moved from half of `motion` back to half of it on."""
    height, width = pixels.shape[:2]
    reach = math.ceil(max(abs(motion[0]), abs(motion[1])))
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    total = np.zeros_like(pixels)
    for share in np.linspace(-0.5, 0.5, steps):
        x, y = reach + round(share * motion[0]), reach + round(share * motion[1])
        total += padded[y : y + height, x : x + width]
    return total / np.float32(steps)
