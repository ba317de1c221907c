"""Crops varied at random, so that a model learns what does not matter: side, place and light."""

import numpy as np
from numpy.typing import NDArray

_SHIFT = 1 / 16  # of the crop's side, at most, in each direction
_CONTRAST = 0.2  # a factor between 1 - this and 1 + this
_BRIGHTNESS = 25  # of 255, up or down


def augment(crops: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return crops (n, s, s, 3), each mirrored or not, shifted a little and in another light.

    What a shift uncovers repeats the edge. The crops given are left as they are.
    """
    n, size = crops.shape[:2]
    reach = round(size * _SHIFT)
    padded = np.pad(crops, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    down, right = rng.integers(0, 2 * reach + 1, (2, n))
    places = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    shifted = np.moveaxis(places[np.arange(n), down, right], 1, -1)
    mirrored = rng.random(n) < 0.5
    shifted[mirrored] = shifted[mirrored, :, ::-1]
    contrast = rng.uniform(1 - _CONTRAST, 1 + _CONTRAST, (n, 1, 1, 1)).astype(np.float32)
    brightness = rng.uniform(-_BRIGHTNESS, _BRIGHTNESS, (n, 1, 1, 1)).astype(np.float32)
    mean = shifted.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    lit = (shifted - mean) * contrast + mean + brightness
    return np.clip(lit, 0, 255).astype(np.uint8)
