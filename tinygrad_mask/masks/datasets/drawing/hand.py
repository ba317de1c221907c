"""A hand: before the mouth, at the edge of a mask, or holding a cup or a telephone."""

import numpy as np

from tinygrad_mask.masks.datasets.drawing.head import skin_colour
from tinygrad_mask.masks.datasets.drawing.surface import Array, Painter
from tinygrad_mask.masks.datasets.drawing.traits import MOUTH_COVERED, FaceTraits, Worn

_DEPTH = 1.45
_FINGER = 0.2
_REACHES = (0.3, 0.46, 0.42, 0.22)
"""How far each finger reaches past the middle of the face, from the index finger down."""

_AT_MASK: dict[Worn, tuple[float, float]] = {
    "over nose and mouth": (0.8, 0.1),
    "under the nose": (0.8, 0.25),
    "under the mouth": (0.5, 0.6),
    "on the chin": (0.45, 0.7),
    "under the chin": (0.4, 0.95),
    "from one ear": (0.6, 0.3),
    "on the forehead": (0.75, -1.0),
    "not worn": (0.0, 0.0),
}
"""How far a hand is moved aside and down from before the mouth to the edge of a mask."""


def draw_hand(painter: Painter, traits: FaceTraits) -> None:
    """Draw a hand, from one side, and its forearm; or what is held in it."""
    side = traits.hand_side
    if traits.hand:
        aside, below = _AT_MASK[traits.worn]
        height = 0.72 + 0.16 * traits.hand_height
        _draw_fingers(painter, traits, np.array((side * aside, below + height, _DEPTH)))
    elif traits.held == "cup":
        # At the lips, or lowered where the mouth is covered.
        y = 1.9 if traits.worn in MOUTH_COVERED else 0.9
        _draw_cup(painter, traits, y)
    elif traits.held == "phone":
        _draw_phone(painter, traits)


def _draw_fingers(painter: Painter, traits: FaceTraits, at: Array) -> None:
    """Draw a hand whose index finger lies at a point (3,) of the head."""
    side, skin = traits.hand_side, skin_colour(traits)
    front = (0.2 * side, 0.0, 1.0)

    def points(*places: tuple[float, float]) -> Array:
        return np.array([(side * x, y, 0.0) for x, y in places]) + at

    elbow = points((0.95, 0.7), (1.5, 4.0))
    painter.stroke(elbow, 0.5, 0.85 * skin, front)
    painter.stroke(points((1.11, 1.35), (1.5, 4.0)), 0.68, traits.clothing_colour, front)
    palm = ((0.45, -0.05), (0.85, 0.0), (1.15, 0.35), (1.2, 0.75), (0.8, 0.95), (0.5, 0.7))
    painter.shape(points(*palm), 0.9 * skin, front)
    thumb = points((0.95, 0.2), (0.8, -0.42))
    fingers = [
        points(
            (0.7, 0.02 + _FINGER * finger),
            (0.2, -0.06 + _FINGER * finger),
            (-reach, _FINGER * finger),
        )
        for finger, reach in enumerate(_REACHES)
    ]
    for digit in (thumb, *reversed(fingers)):
        painter.stroke(digit, _FINGER + 0.05, 0.62 * skin, front)
        painter.stroke(digit, _FINGER - 0.01, skin, front)


def _draw_cup(painter: Painter, traits: FaceTraits, top: float) -> None:
    """Draw a cup whose rim is at y = `top`, and the hand that holds it."""
    colour = np.array(traits.held_colour)
    rim, foot = 0.36, 0.26
    outline = np.array(
        [(-rim, top, _DEPTH), (rim, top, _DEPTH), (foot, top + 0.9, 1.6), (-foot, top + 0.9, 1.6)]
    )
    side, skin = traits.hand_side, skin_colour(traits)
    painter.stroke(
        np.array([(0.4 * side, top + 0.6, 1.5), (1.3 * side, top + 3.0, 1.2)]),
        0.5,
        traits.clothing_colour,
        (0, 0, 1),
    )
    painter.shape(outline, colour, (0, -0.2, 1))
    painter.stroke(outline[:2], 0.06, 0.75 * colour, (0, 0, 1))
    for finger in range(3):
        y = top + 0.35 + 0.17 * finger
        painter.stroke(
            np.array([(0.42 * side, y + 0.05, 1.6), (-0.2 * side, y, 1.65)]),
            0.17,
            skin * (1 - 0.08 * finger),
            (0, 0, 1),
        )


def _draw_phone(painter: Painter, traits: FaceTraits) -> None:
    """Draw a telephone at one ear, and the hand that holds it."""
    side, skin = traits.hand_side, skin_colour(traits)
    if not painter.faces_viewer((side, 0.0, 0.5)):
        return
    painter.stroke(
        np.array([(1.25 * side, 1.0, 0.5), (1.7 * side, 3.5, 0.4)]),
        0.5,
        traits.clothing_colour,
        (side, 0, 1),
    )
    corners = [(1.02, -0.1), (1.2, -0.1), (1.0, 1.35), (0.82, 1.3)]
    slab = np.array([(side * x, y, 0.55) for x, y in corners])
    painter.shape(slab, (0.08, 0.08, 0.1), (0.6 * side, 0, 0.8))
    for finger in range(4):
        y = 0.35 + 0.2 * finger
        painter.stroke(
            np.array([(1.3 * side, y + 0.1, 0.5), (0.88 * side, y, 0.65)]),
            0.18,
            skin,
            (0.6 * side, 0, 0.8),
        )
