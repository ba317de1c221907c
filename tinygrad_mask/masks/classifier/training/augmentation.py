"""Crops varied at random, so that a model learns what does not matter: side, place, light, focus.

Everything is drawn for each crop by itself and done to the whole batch at once. The rotation and
all that goes with it is one lookup of pixels; focus is a product with a small matrix.
"""

import math
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

_STEPS = 16  # between two pixels: how finely a place between them is told
_SOFTNESSES = 8  # of each kind
_REDUCTIONS = 12
_SIDE_ENDS, _CHIN_ENDS = 0.3, 0.38  # of the crop's side, from its middle
_NIGHT_GAIN = (0.12, 0.6)  # of the levels of day
_NIGHT_GRAIN = (1.0, 9.0)  # grey levels
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


@dataclass(frozen=True)
class Augmentation:
    """How far crops are varied; what is 0 stays as it is.

    `mirror` is the share of crops mirrored. Each crop is turned by up to `rotation` degrees either
    way, made larger or smaller by a factor of up to 1 + `scale`, and moved by up to `shift` of its
    side, across and down. `border` says how much of the photograph is kept round the crop for that,
    as a share of its side on each side; beyond it, edge pixels are repeated.

    `soften` is the share of crops made slightly blurred or of slightly lower resolution, `reduce`
    the share reduced to a random number of pixels from 0.17 to 0.8 of the side and enlarged again,
    as a face far from the camera is, `night` the share that is darkened and given the grain of a
    camera in low light, `cut_off` the share at one or more sides of which the picture ends close to
    the face, its edge pixels repeated, `erase` the share that has a rectangle painted over.
    `contrast` and `saturation` are multiplied by a factor between 1 - this and 1 + this,
    `brightness` moves by this share of the range of values, and `cast` is a factor like that of
    contrast for each colour by itself.

    Raises `ValueError` for a share above 1 or anything negative.
    """

    mirror: float = 0.5
    rotation: float = 15.0
    scale: float = 0.15
    shift: float = 0.08
    border: float = 0.25
    soften: float = 0.3
    contrast: float = 0.3
    brightness: float = 0.15
    saturation: float = 0.4
    cast: float = 0.1
    erase: float = 0.25
    reduce: float = 0.0
    night: float = 0.0
    cut_off: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        for field in fields(self):
            value, most = getattr(self, field.name), 180.0 if field.name == "rotation" else 1.0
            if not 0 <= value <= most:
                raise ValueError(
                    f"augmentation: expected {field.name} from 0 to {most:g}, got {value:g}"
                )

    def border_pixels(self, size: int) -> int:
        """Return how many pixels are kept on each side of a crop of `size` pixels."""
        return round(self.border * size) if self.rotation or self.scale or self.shift else 0


def augment(
    cuts: NDArray[np.uint8], size: int, augmentation: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a crop (n, size, size, 3), uint8, of each cut (n, side, side, 3), varied by `rng`.

    A cut is a crop with the same border on each side (`crop_with_border`), or none. The cuts given
    are left as they are. Raises `ValueError` where a cut is smaller than the crop.
    """
    if cuts.shape[1] < size or (cuts.shape[1] - size) % 2:
        raise ValueError(
            f"augment: expected cuts of {size} pixels and twice a border, got {cuts.shape[1]}"
        )
    crops = _move(cuts, size, augmentation, rng).astype(np.float32)
    _light(crops, augmentation, rng)
    if augmentation.night:
        _darken(crops, augmentation.night, rng)
    _soften(crops, augmentation.soften, _softening_matrices(size), rng)
    if augmentation.reduce:
        _soften(crops, augmentation.reduce, _reducing_matrices(size), rng)
    _erase(crops, augmentation.erase, rng)
    np.rint(crops, out=crops)
    np.clip(crops, 0, 255, out=crops)
    return crops.astype(np.uint8)


# --- place --------------------------------------------------------------------------------------


def _move(
    cuts: NDArray[np.uint8], size: int, augmentation: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Mirror, turn, scale and shift: take each pixel from where it was before, between pixels."""
    n = len(cuts)
    mirrored = np.where(rng.random(n) < augmentation.mirror, -1, 1)
    angle = np.deg2rad(_between(rng, augmentation.rotation, n))
    zoom = np.exp(_between(rng, math.log1p(augmentation.scale), n))
    across, down = _between(rng, augmentation.shift * size, (2, n))

    # From a pixel's place in the result, as seen from the middle, to its place in the cut.
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    from_middle = np.arange(size) - (size - 1) / 2
    middle = (cuts.shape[1] - 1) / 2
    right = (from_middle[None, :] * mirrored[:, None] + across[:, None])[:, None, :]
    below = (from_middle[None, :] + down[:, None])[:, :, None]
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    x = cosine * right - sine * below + middle
    y = sine * right + cosine * below + middle
    if augmentation.cut_off:
        _cut_off(x, y, augmentation.cut_off, size, middle, rng)
    return _sample(cuts, x, y)


def _cut_off(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    share: float,
    size: int,
    middle: float,
    rng: np.random.Generator,
) -> None:
    """End the picture at some sides of some crops: limit places (n, size, size), in place.

    Each side ends with one chance in two, at a random distance from the middle of the face; below
    it is no nearer than the chin, which a mask may hang from.
    """
    n = len(x)
    chosen = rng.random(n) < share
    nearest = np.array([_SIDE_ENDS, _SIDE_ENDS, _SIDE_ENDS, _CHIN_ENDS])[:, None]
    distance = rng.uniform(nearest, 0.55, (4, n)) * size
    distance[(rng.random((4, n)) < 0.5) | ~chosen] = np.inf
    left, right, above, below = distance[:, :, None, None]
    np.clip(x, middle - left, middle + right, out=x)
    np.clip(y, middle - above, middle + below, out=y)


def _sample(
    cuts: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return the pixels at places (n, h, w) of images (n, H, W, 3), bilinearly, as uint8.

    Beyond the edge the edge is repeated. The three colours of a pixel lie in 16 bits each of one
    64-bit number, so that one lookup and one product do for all of them: weights of a sixteenth
    each way are whole numbers that come to 256 together, and 256 * 255 fits 16 bits.
    """
    n, height, width = cuts.shape[:3]
    lanes = np.zeros((n, height, width, 4), np.uint16)
    lanes[..., :3] = cuts
    pixels = lanes.view(np.uint64).reshape(-1)
    x0, x_next, right = _neighbours(x, width)
    y0, y_next, below = _neighbours(y, height)
    first = np.arange(n)[:, None, None] * (height * width) + y0 * width + x0
    y_next *= width
    left, above = _STEPS - right, _STEPS - below
    total = pixels[first] * (left * above).view(np.uint64)
    total += pixels[first + x_next] * (right * above).view(np.uint64)
    first += y_next
    total += pixels[first] * (left * below).view(np.uint64)
    total += pixels[first + x_next] * (right * below).view(np.uint64)
    sums = total.view(np.uint16).reshape(*x.shape, 4)
    sums += _STEPS**2 // 2
    sums //= _STEPS**2
    return sums[..., :3].astype(np.uint8)


def _neighbours(
    place: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixel at or before each place, the step to the next one, and the next's weight."""
    fine = np.rint(place * _STEPS).astype(np.int64).clip(0, (length - 1) * _STEPS)
    before = fine // _STEPS
    return before, np.minimum(length - 1 - before, 1), fine % _STEPS


# --- focus --------------------------------------------------------------------------------------


def _soften(
    crops: NDArray[np.float32],
    share: float,
    matrices: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Multiply rows and columns of some crops by one of the matrices (k, size, size), in place."""
    chosen = np.flatnonzero(rng.random(len(crops)) < share)
    size = crops.shape[1]
    kind = rng.integers(0, len(matrices), len(chosen))
    if not len(chosen):
        return
    drawn = matrices[kind]
    columns = drawn @ crops[chosen].reshape(len(chosen), size, -1)
    crops[chosen] = drawn[:, None] @ columns.reshape(len(chosen), size, size, 3)


@cache
def _softening_matrices(size: int) -> NDArray[np.float32]:
    """Return matrices (2 _SOFTNESSES, size, size) that soften a row of pixels: first the blurs.

    A blur is Gaussian, of a deviation from 0.01 to 0.03 of the side. Low resolution has from 0.4 to
    0.75 of the pixels. Each row sums to 1, so a plain colour does not change.
    """
    places = np.arange(size)
    squared = (places[:, None] - places[None, :]) ** 2
    matrices = []
    for deviation in np.linspace(0.01, 0.03, _SOFTNESSES) * size:
        matrices.append(np.exp(-squared / (2 * deviation**2)))
    matrices += [_reduction(size, share) for share in np.linspace(0.4, 0.75, _SOFTNESSES)]
    stacked = np.stack(matrices)
    return (stacked / stacked.sum(axis=2, keepdims=True)).astype(np.float32)


@cache
def _reducing_matrices(size: int) -> NDArray[np.float32]:
    """Return matrices (_REDUCTIONS, size, size) that keep from 0.17 to 0.8 of the pixels of a row.

    A face of 8 pixels, with a margin of 0.2 on each side, has 11 pixels in its crop: 0.23 of a crop
    of 48. The shares are evenly spaced in their logarithms. Each row sums to 1.
    """
    shares = np.geomspace(0.17, 0.8, _REDUCTIONS)
    stacked = np.stack([_reduction(size, share) for share in shares])
    return (stacked / stacked.sum(axis=2, keepdims=True)).astype(np.float32)


def _reduction(size: int, share: float) -> NDArray[np.float64]:
    """Return the (size, size) matrix that reduces a row to a share of its pixels and enlarges it.

    Each coarse pixel is the mean of the fine pixels within it; the enlargement is linear between
    the centres of the coarse pixels.
    """
    places = np.arange(size)
    coarse = max(round(share * size), 1)
    edges = np.linspace(0, size, coarse + 1)
    # How much of each fine pixel lies in each coarse one.
    inside = np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places)
    mean = np.maximum(inside, 0)
    between = (places + 0.5) * coarse / size - 0.5
    distance = np.abs(between.clip(0, coarse - 1)[:, None] - np.arange(coarse)[None, :])
    matrix: NDArray[np.float64] = np.maximum(1 - distance, 0) @ mean
    return matrix


# --- light, and what stands before a face -------------------------------------------------------


def _light(
    crops: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator
) -> None:
    """Vary saturation, contrast, brightness and the colour of the light, in place."""
    n = len(crops)
    contrast = 1 + _between(rng, augmentation.contrast, (n, 1))
    brightness = 255 * _between(rng, augmentation.brightness, (n, 1))
    saturation = (1 + _between(rng, augmentation.saturation, n)).astype(np.float32)
    cast = 1 + _between(rng, augmentation.cast, (n, 3))
    grey = crops @ _GREY
    grey *= (1 - saturation)[:, None, None]
    mean = crops.mean(axis=(1, 2))
    # All of it is one factor and one term for each colour of a crop, but for the grey.
    gain = cast * contrast
    offset = cast * (1 - contrast) * mean + brightness
    crops *= saturation[:, None, None, None]
    crops += grey[..., None]
    crops *= gain.astype(np.float32)[:, None, None]
    crops += offset.astype(np.float32)[:, None, None]


def _darken(crops: NDArray[np.float32], share: float, rng: np.random.Generator) -> None:
    """Darken some crops and add grain, in place: half of it of each colour by itself.

    What is left of the light is drawn evenly in its logarithm.
    """
    chosen = np.flatnonzero(rng.random(len(crops)) < share)
    n, size = len(chosen), crops.shape[1]
    if not n:
        return
    darkest, lightest = np.log(_NIGHT_GAIN)
    finest, coarsest = _NIGHT_GRAIN
    gain = np.exp(rng.uniform(darkest, lightest, (n, 1, 1, 1))).astype(np.float32)
    grain = (rng.uniform(finest, coarsest, (n, 1, 1, 1)) / math.sqrt(2)).astype(np.float32)
    grey = rng.standard_normal((n, size, size, 1), np.float32)
    colour = rng.standard_normal((n, size, size, 3), np.float32)
    crops[chosen] = np.clip(crops[chosen] * gain, 0, 255) + (grey + colour) * grain


def _erase(crops: NDArray[np.float32], share: float, rng: np.random.Generator) -> None:
    """Paint a rectangle over some crops, in place, of a tenth to a third of the side each way."""
    n, size = crops.shape[:2]
    chosen = np.flatnonzero(rng.random(n) < share)
    lengths = rng.uniform(0.1, 0.35, (2, len(chosen), 1)) * size
    starts = rng.uniform(0, 1, (2, len(chosen), 1)) * (size - lengths)
    colours = rng.uniform(0, 255, (len(chosen), 1, 1, 3)).astype(np.float32)
    if not len(chosen):
        return
    middles = np.arange(size) + 0.5
    rows, columns = (middles >= starts) & (middles < starts + lengths)
    inside = rows[:, :, None] & columns[:, None, :]
    crops[chosen] = np.where(inside[..., None], colours, crops[chosen])


def _between(
    rng: np.random.Generator, most: float, shape: int | tuple[int, ...]
) -> NDArray[np.float64]:
    """Draw numbers from -most to most."""
    return rng.uniform(-most, most, shape)
