"""A hand before the mouth."""

import numpy as np

from tinygrad_mask.masks.datasets.drawing.head import skin_colour
from tinygrad_mask.masks.datasets.drawing.surface import Painter
from tinygrad_mask.masks.datasets.drawing.traits import FaceTraits

_DEPTH = 1.45
_FINGER = 0.2
_REACHES = (0.3, 0.46, 0.42, 0.22)
"""How far each finger reaches past the middle of the face, from the index finger down."""


def draw_hand(painter: Painter, traits: FaceTraits) -> None:
    """Draw a hand laid over the mouth from one side, if there is one, and its forearm."""
    if not traits.hand:
        return
    side, skin = traits.hand_side, skin_colour(traits)
    front = (0.2 * side, 0.0, 1.0)
    top = 0.72 + 0.16 * traits.hand_height
    elbow = np.array([(side * 0.95, top + 0.7, _DEPTH), (side * 1.5, top + 4.0, _DEPTH)])
    sleeve = np.array([(side * 1.11, top + 1.35, _DEPTH), elbow[1]])
    painter.stroke(elbow, 0.5, 0.85 * skin, front)
    painter.stroke(sleeve, 0.68, traits.clothing_colour, front)
    palm = [(0.45, -0.05), (0.85, 0.0), (1.15, 0.35), (1.2, 0.75), (0.8, 0.95), (0.5, 0.7)]
    outline = np.array([(side * x, top + y, _DEPTH) for x, y in palm])
    painter.shape(outline, 0.9 * skin, front)
    thumb = np.array([(side * 0.95, top + 0.2, _DEPTH), (side * 0.8, top - 0.42, _DEPTH)])
    fingers = [
        np.array(
            [
                (side * 0.7, top + 0.02 + _FINGER * finger, _DEPTH),
                (side * 0.2, top - 0.06 + _FINGER * finger, _DEPTH),
                (-side * reach, top + _FINGER * finger, _DEPTH),
            ]
        )
        for finger, reach in enumerate(_REACHES)
    ]
    for digit in (thumb, *reversed(fingers)):
        painter.stroke(digit, _FINGER + 0.05, 0.62 * skin, front)
        painter.stroke(digit, _FINGER - 0.01, skin, front)
