"""Draw found faces into a photograph so that they can be read on any background.

An answer is told by a colour, a symbol and, where there is room, a word:

    proper      a tick                 green
    improper    an exclamation mark    orange
    none        a cross                vermilion
    unsure      a question mark        white, the box dashed
    too small   no symbol              white, the box dotted and thin

Colours are those of Okabe and Ito (2008), which people who cannot tell red from green can tell
apart. Lines have a black outline on both sides, captions a black background.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tinygrad_mask.masks.detector.network.detector import TOO_SMALL, UNSURE, DetectedFace
from tinygrad_mask.masks.labels import LABELS

COLOURS = {
    "proper": (0, 190, 140),
    "improper": (240, 180, 0),
    "none": (255, 95, 20),
    UNSURE: (235, 235, 235),
    TOO_SMALL: (235, 235, 235),
}
"""The colour of each answer, RGB."""

# Of a symbol in a square of side 1: the lines, each a list of points.
_SYMBOLS: dict[str, list[list[tuple[float, float]]]] = {
    "proper": [[(0.12, 0.55), (0.4, 0.84), (0.9, 0.18)]],
    "improper": [[(0.5, 0.08), (0.5, 0.6)], [(0.5, 0.82), (0.5, 0.94)]],
    "none": [[(0.14, 0.14), (0.86, 0.86)], [(0.86, 0.14), (0.14, 0.86)]],
    UNSURE: [
        [(0.24, 0.3), (0.34, 0.12), (0.64, 0.12), (0.76, 0.3), (0.5, 0.5), (0.5, 0.64)],
        [(0.5, 0.84), (0.5, 0.96)],
    ],
}
_DASHES = {UNSURE: (6, 4), TOO_SMALL: (2, 3)}  # drawn and left out, in widths of the line

_SMALLEST_TEXT, _LARGEST_TEXT = 11, 44  # pixels
_LONG_SIDE_PER_POINT = 110  # the text grows with the photograph, from 8 pixels
_SMALLEST_SYMBOL = 5  # pixels
_LEGIBLE = 1200  # pixels of the longer side
_MOST_ENLARGED = 3

_Rectangle = tuple[int, int, int, int]


def legible_scale(size: tuple[int, int]) -> int:
    """Return by which whole number a photograph (width, height) is enlarged before it is drawn on.

    Photographs of 400 pixels have faces of 10, and no room for captions between them.
    """
    return min(max(round(_LEGIBLE / max(size)), 1), _MOST_ENLARGED)


def draw_faces(
    image: Image.Image,
    faces: Sequence[DetectedFace],
    numbers: Sequence[int] | None = None,
    *,
    scale: int = 1,
) -> Image.Image:
    """Return a copy of an RGB image, enlarged by `scale`, with a box and a caption for each face.

    `numbers` are those of the persons that the faces are of, part of the captions. A caption is
    drawn next to its box, where it hides no other face and no other caption; if there is no such
    place it is reduced to its symbol, and that is drawn at the corner of the box.
    """
    if scale == 1:
        drawn = image.copy()
    else:
        size = (image.width * scale, image.height * scale)
        drawn = image.resize(size, Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(drawn)
    grown = 8 + max(drawn.size) // _LONG_SIDE_PER_POINT
    point = min(max(grown, _SMALLEST_TEXT), _LARGEST_TEXT)
    font = _font(point)
    line = max(point // 6, 1)
    boxes = [_pixels(face, scale) for face in faces]
    by_size = sorted(range(len(faces)), key=lambda k: -_area(boxes[k]))
    for k in by_size:
        _draw_box(canvas, boxes[k], faces[k].answer, line)
    taken = _Taken(boxes, drawn.size)
    for k in by_size:
        text = _text(faces[k], None if numbers is None else numbers[k])
        _draw_caption(canvas, text, faces[k].answer, boxes[k], taken, font, line)
    return drawn


def _pixels(face: DetectedFace, scale: int) -> _Rectangle:
    left, top, right, bottom = (round(edge * scale) for edge in face.box)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _area(box: _Rectangle) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _text(face: DetectedFace, number: int | None) -> str:
    words = [] if number is None else [f"{number}"]
    if face.answer in LABELS:
        words.append(f"{face.answer} {face.probability:.0%}")
    elif face.answer == UNSURE:
        words.append(UNSURE)
    return " ".join(words)  # of a face that is too small the box says enough


@lru_cache(maxsize=32)
def _font(point: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(point)


# --- boxes ----------------------------------------------------------------------------------------


def _draw_box(canvas: ImageDraw.ImageDraw, box: _Rectangle, answer: str, line: int) -> None:
    """Draw a coloured line round a box, between two black ones."""
    line = max(line // 2, 1) if answer == TOO_SMALL else line
    outer = _grown(box, line + 1)
    if answer in _DASHES:
        _dashed(canvas, outer, (0, 0, 0), line + 2, (1, 0))
        _dashed(canvas, _grown(box, line), COLOURS[answer], line, _DASHES[answer])
        return
    canvas.rectangle(outer, outline=(0, 0, 0), width=line + 2)
    canvas.rectangle(_grown(box, line), outline=COLOURS[answer], width=line)


def _dashed(
    canvas: ImageDraw.ImageDraw,
    box: _Rectangle,
    colour: tuple[int, int, int],
    width: int,
    dashes: tuple[int, int],
) -> None:
    """Draw the edges of a rectangle, inside of it, in dashes."""
    left, top, right, bottom = box
    on, off = (n * width for n in dashes)
    step = max(on + off, 1)
    for x in range(left, right + 1, step):
        end = min(x + step if off == 0 else x + on - 1, right)
        canvas.rectangle((x, top, end, top + width - 1), fill=colour)
        canvas.rectangle((x, bottom - width + 1, end, bottom), fill=colour)
    for y in range(top, bottom + 1, step):
        end = min(y + step if off == 0 else y + on - 1, bottom)
        canvas.rectangle((left, y, left + width - 1, end), fill=colour)
        canvas.rectangle((right - width + 1, y, right, end), fill=colour)


def _grown(box: _Rectangle, by: int) -> _Rectangle:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


# --- captions -------------------------------------------------------------------------------------


class _Taken:
    """The parts of a picture (width, height) that no further caption may hide."""

    def __init__(self, boxes: Sequence[_Rectangle], size: tuple[int, int]) -> None:
        self._faces: NDArray[np.int64] = np.array(boxes, np.int64).reshape(-1, 4)
        self._captions: list[_Rectangle] = []
        self._size = size

    def add(self, caption: _Rectangle) -> None:
        """Take the place of a caption."""
        self._captions.append(caption)

    def is_free(self, place: _Rectangle) -> bool:
        """Whether a place is in the picture and hides neither a face nor a caption."""
        if place[0] < 0 or place[1] < 0 or place[2] >= self._size[0] or place[3] >= self._size[1]:
            return False
        others = np.concatenate([self._faces, np.array(self._captions, np.int64).reshape(-1, 4)])
        apart = (
            (others[:, 2] <= place[0])
            | (others[:, 0] >= place[2])
            | (others[:, 3] <= place[1])
            | (others[:, 1] >= place[3])
        )
        return bool(apart.all())


def _draw_caption(
    canvas: ImageDraw.ImageDraw,
    text: str,
    answer: str,
    box: _Rectangle,
    taken: _Taken,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    line: int,
) -> None:
    if not text and answer not in _SYMBOLS:
        return
    x1, _, x2, _ = canvas.textbbox((0, 0), text or "0", font=font)
    pad = 2 * line
    ascent = int(canvas.textbbox((0, 0), "0p", font=font)[3])  # the same height for every caption
    height = ascent + 2 * pad
    symbol = ascent - line if answer in _SYMBOLS else 0
    width = symbol + (int(x2 - x1) + pad if text else 0) + 2 * pad
    place = _place(box, width, height, taken, line)
    if place is None:
        # The symbol alone, no larger than the face, at the corner of its box.
        symbol = min(symbol, max((box[2] - box[0]) * 2 // 3, _SMALLEST_SYMBOL))
        if answer not in _SYMBOLS:
            return
        side = symbol + 2 * max(line, 1)
        place = _place(box, side, side, taken, line)
        if place is None:
            right, top = box[2] + line + 1, box[1] - line - 1
            place = (right - side, top, right, top + side)
        text = ""
    taken.add(place)
    canvas.rectangle(place, fill=(0, 0, 0))
    left, top, right, bottom = place
    middle = (top + bottom) / 2
    if symbol:
        start = left + (right - left - symbol) / 2 if not text else left + pad
        _draw_symbol(canvas, answer, start, middle - symbol / 2, symbol)
    if text:
        start = left + pad + (symbol + pad if symbol else 0)
        canvas.text((start - x1, top + pad), text, fill="white", font=font)


def _place(box: _Rectangle, width: int, height: int, taken: _Taken, line: int) -> _Rectangle | None:
    """Return the first free place of a caption next to a box, None if there is none."""
    left, top, right, bottom = _grown(box, line + 1)
    middle = (left + right - width) // 2
    for x, y in (
        (left, top - height),
        (middle, top - height),
        (right - width, top - height),
        (left, bottom + 1),
        (middle, bottom + 1),
        (right - width, bottom + 1),
        (right + 1, top),
        (right + 1, bottom - height),
        (left - width, top),
        (left - width, bottom - height),
    ):
        place = (x, y, x + width, y + height)
        if taken.is_free(place):
            return place
    return None


def _draw_symbol(
    canvas: ImageDraw.ImageDraw, answer: str, left: float, top: float, side: float
) -> None:
    width = max(round(side / 6), 1)
    for points in _SYMBOLS[answer]:
        placed = [(left + x * side, top + y * side) for x, y in points]
        canvas.line(placed, fill=COLOURS[answer], width=width, joint="curve")
