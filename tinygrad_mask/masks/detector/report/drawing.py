"""Draw found faces into a photograph so that they can be read on any background.

Colours are those of Okabe and Ito (2008), which people who cannot tell red from green can tell
apart; the label is written out as well, so that nothing depends on the colour.
"""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from tinygrad_mask.masks.detector.network.detector import DetectedFace
from tinygrad_mask.masks.labels import LABELS

COLOURS = {
    "proper": (0, 158, 115),
    "improper": (230, 159, 0),
    "none": (213, 94, 0),
    "unsure": (120, 120, 120),
    "too small": (120, 120, 120),
}
"""The colour of each answer, RGB."""

_LONG_SIDE_PER_POINT = 55  # the text's size grows with the photograph
_SMALLEST_TEXT, _LARGEST_TEXT = 10, 40


def draw_faces(image: Image.Image, faces: Sequence[DetectedFace]) -> Image.Image:
    """Return a copy of an RGB image with a box and a caption for each face.

    Boxes have a dark outline on both sides of the coloured line; captions are white on the colour,
    above the box or, where there is no room, inside of it. The least certain faces are drawn first,
    so that no caption of a more certain one is hidden.
    """
    drawn = image.copy()
    canvas = ImageDraw.Draw(drawn)
    size = min(max(max(image.size) // _LONG_SIDE_PER_POINT, _SMALLEST_TEXT), _LARGEST_TEXT)
    font = ImageFont.load_default(size)
    line = max(size // 6, 1)
    for face in sorted(faces, key=lambda face: face.score):
        left, top, right, bottom = (round(edge) for edge in face.box)
        colour = COLOURS[face.answer]
        box = (left, top, max(right, left + 1), max(bottom, top + 1))
        grown = (box[0] - line - 1, box[1] - line - 1, box[2] + line + 1, box[3] + line + 1)
        canvas.rectangle(grown, outline=(0, 0, 0), width=line + 2)
        inner = (box[0] - line, box[1] - line, box[2] + line, box[3] + line)
        canvas.rectangle(inner, outline=colour, width=line)
        _caption(canvas, _text(face), grown, colour, font)
    return drawn


def _text(face: DetectedFace) -> str:
    return f"{face.answer} {face.probability:.0%}" if face.answer in LABELS else face.answer


def _caption(
    canvas: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    x1, y1, x2, y2 = canvas.textbbox((0, 0), text, font=font)
    width, height = int(x2 - x1) + 4, int(y2 - y1) + 4
    left = max(min(box[0], canvas.im.size[0] - width), 0)
    top = box[1] - height if box[1] >= height else box[1]
    canvas.rectangle((left, top, left + width, top + height), fill=colour, outline=(0, 0, 0))
    canvas.text((left + 2 - x1, top + 2 - y1), text, fill="white", font=font)
