"""What can vary about a drawn face and its light, and how it is sampled.

Every trait is drawn independently of how the mask is worn, so that no other trait gives the label
away. A hand lies before a bare mouth, and at the edge of a mask that is worn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

RGB = tuple[float, float, float]
"""A colour; each channel from 0 to 1, in sRGB."""

Worn = Literal[
    "over nose and mouth",
    "under the nose",
    "under the mouth",
    "on the chin",
    "under the chin",
    "from one ear",
    "on the forehead",
    "not worn",
]
MaskKind = Literal["surgical", "cloth", "cup", "folded"]
MaskPattern = Literal["plain", "checks", "stripes", "dots", "print"]
Hair = Literal["bald", "short", "fringe", "long"]
Headwear = Literal["nothing", "cap", "beanie", "hijab"]
Beard = Literal["none", "stubble", "moustache", "goatee", "full"]
Glasses = Literal["none", "thin", "thick", "sunglasses"]
Held = Literal["nothing", "cup", "phone"]

LABEL_OF_WORN: dict[Worn, str] = {
    "over nose and mouth": "proper",
    "under the nose": "improper",
    "under the mouth": "improper",
    "on the chin": "improper",
    "under the chin": "improper",
    "from one ear": "improper",
    "on the forehead": "improper",
    "not worn": "none",
}
"""The label of each way to wear a mask."""

MOUTH_COVERED: frozenset[Worn] = frozenset({"over nose and mouth", "under the nose"})
"""The ways to wear a mask that hide the mouth."""

_IMPROPER: tuple[tuple[Worn, float], ...] = (
    ("under the nose", 0.36),
    ("under the mouth", 0.18),
    ("on the chin", 0.16),
    ("under the chin", 0.12),
    ("from one ear", 0.1),
    ("on the forehead", 0.08),
)
"""The ways to wear a mask improperly, with their shares."""

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class FaceTraits:
    """One face; the mask's traits are set even where none is worn.

    Angles are in degrees: `yaw` turns the head to the viewer's right, `pitch` lowers it, `roll`
    tilts it clockwise, `mask_tilt` turns the mask on the face. `skin` runs from 0 (lightest) to 1
    (darkest). The remaining numbers are factors around 1 (`face_length`, `jaw_width`, `nose_size`,
    `eye_size`, `mask_size`) or run from 0 to 1. `hand` is a hand before the mouth or, of a mask
    that is worn, at its edge; what is `held` is shown only without it.
    """

    worn: Worn
    mask: MaskKind
    mask_pattern: MaskPattern
    mask_colour: RGB
    mask_accent: RGB
    mask_slack: float
    mask_size: float
    mask_tilt: float
    hand: bool
    hand_side: Literal[-1, 1]
    hand_height: float
    held: Held
    held_colour: RGB
    skin: float
    undertone: float
    yaw: float
    pitch: float
    roll: float
    face_length: float
    jaw_width: float
    nose_size: float
    eye_size: float
    eyes_open: float
    gaze: float
    mouth_open: float
    smile: float
    hair: Hair
    hair_colour: RGB
    headwear: Headwear
    headwear_colour: RGB
    beard: Beard
    glasses: Glasses
    clothing_colour: RGB
    scarf: bool
    scarf_height: float
    scarf_colour: RGB
    age: float
    visor: bool

    @property
    def label(self) -> str:
        """The face's label, one of `LABELS`."""
        return LABEL_OF_WORN[self.worn]


@dataclass(frozen=True)
class Light:
    """How a photograph is lit.

    `direction` points from the face to the light (x right, y down, z to the viewer; unit length).
    `ambient` is the share of the light that comes from everywhere, `exposure` a factor on the
    whole, `cast` one on each channel, `behind` one on the background alone (above 1 the people
    stand against the light).
    """

    direction: tuple[float, float, float]
    ambient: float
    exposure: float
    cast: RGB
    behind: float = 1.0


DAYLIGHT = Light((-0.36, -0.48, 0.8), ambient=0.55, exposure=1.0, cast=(1.0, 1.0, 1.0))
"""An even, neutral light from above the viewer's left."""

_HAIR_COLOURS: tuple[RGB, ...] = (
    (0.07, 0.06, 0.06),
    (0.12, 0.09, 0.08),
    (0.20, 0.13, 0.09),
    (0.33, 0.21, 0.13),
    (0.55, 0.38, 0.20),
    (0.75, 0.60, 0.36),
    (0.45, 0.20, 0.10),
    (0.55, 0.54, 0.53),
    (0.82, 0.81, 0.80),
)
_MASK_COLOURS: tuple[RGB, ...] = (
    (0.55, 0.76, 0.90),
    (0.63, 0.80, 0.92),
    (0.55, 0.82, 0.78),
    (0.94, 0.95, 0.96),
    (0.88, 0.89, 0.89),
    (0.10, 0.10, 0.12),
    (0.16, 0.17, 0.20),
    (0.14, 0.18, 0.33),
    (0.95, 0.74, 0.80),
    (0.62, 0.12, 0.14),
    (0.55, 0.55, 0.57),
    (0.74, 0.68, 0.88),
)


def sample_worn(rng: np.random.Generator) -> Worn:
    """How a mask is worn: each label with one chance in three."""
    label, way = rng.random(), rng.random()
    if label < 1 / 3:
        return "over nose and mouth"
    if label < 2 / 3:
        return _improper_way(way)
    return "not worn"


def _improper_way(place: float) -> Worn:
    """The improper way at a place from 0 to 1 along their shares."""
    ways, shares = zip(*_IMPROPER, strict=True)
    way: Worn = ways[min(int(np.searchsorted(np.cumsum(shares), place)), len(ways) - 1)]
    return way


def sample_traits(rng: np.random.Generator) -> FaceTraits:
    """A face; every trait is independent of how the mask is worn."""
    worn = sample_worn(rng)
    hand = rng.random() < 0.2
    light_hair = rng.random() < 0.5
    return FaceTraits(
        worn=worn,
        mask=_choose(rng, get_args(MaskKind), (0.5, 0.2, 0.12, 0.18)),
        mask_pattern=_choose(rng, get_args(MaskPattern), (0.68, 0.1, 0.08, 0.06, 0.08)),
        mask_colour=_vary(rng, _choose(rng, _MASK_COLOURS), 0.05),
        mask_accent=any_colour(rng),
        mask_slack=rng.random(),
        mask_size=rng.uniform(0.9, 1.15),
        mask_tilt=_choose(rng, (rng.normal(0, 2), rng.normal(0, 7)), (0.75, 0.25)),
        hand=hand,
        hand_side=1 if rng.random() < 0.5 else -1,
        hand_height=rng.random(),
        held=_choose(rng, get_args(Held), (0.86, 0.07, 0.07)),
        held_colour=any_colour(rng),
        skin=rng.random(),
        undertone=rng.random(),
        yaw=_choose(rng, (rng.normal(0, 16), rng.uniform(-72, 72)), (0.7, 0.3)),
        pitch=float(np.clip(rng.normal(2, 7), -15, 18)),
        roll=float(np.clip(rng.normal(0, 8), -25, 25)),
        face_length=rng.uniform(0.9, 1.08),
        jaw_width=rng.uniform(0.88, 1.14),
        nose_size=rng.uniform(0.75, 1.2),
        eye_size=rng.uniform(0.85, 1.15),
        eyes_open=_choose(rng, (rng.uniform(0.45, 1.0), 0.0), (0.94, 0.06)),
        gaze=rng.uniform(-1, 1),
        mouth_open=_choose(rng, (0.0, rng.random()), (0.6, 0.4)),
        smile=rng.random(),
        hair=_choose(rng, get_args(Hair), (0.1, 0.42, 0.2, 0.28)),
        hair_colour=_vary(
            rng, _choose(rng, _HAIR_COLOURS if light_hair else _HAIR_COLOURS[:3]), 0.02
        ),
        headwear=_choose(rng, get_args(Headwear), (0.7, 0.1, 0.1, 0.1)),
        headwear_colour=any_colour(rng),
        beard=_choose(rng, get_args(Beard), (0.58, 0.12, 0.07, 0.08, 0.15)),
        glasses=_choose(rng, get_args(Glasses), (0.66, 0.14, 0.13, 0.07)),
        clothing_colour=any_colour(rng),
        scarf=rng.random() < 0.15,
        scarf_height=rng.random(),
        scarf_colour=any_colour(rng),
        age=rng.random(),
        visor=rng.random() < 0.05,
    )


def sample_light(rng: np.random.Generator) -> Light:
    """The light of one photograph.

    One in six is taken in low light, one in six against the light, and one in eight in coloured
    light (a screen, a lamp, a sunset).
    """
    kind, coloured = rng.random(), rng.random() < 0.125
    side, height = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.1)
    direction = np.array([side, height, 0.8])
    x, y, z = direction / np.linalg.norm(direction)
    warmth = rng.normal(0, 0.18 if coloured else 0.06)
    exposure, behind = rng.uniform(0.8, 1.15), rng.uniform(0.8, 1.15)
    if kind < 1 / 6:
        exposure = rng.uniform(0.25, 0.6)
    elif kind < 1 / 3:
        exposure, behind = rng.uniform(0.35, 0.75), rng.uniform(1.3, 2.6)
    return Light(
        direction=(float(x), float(y), float(z)),
        ambient=rng.uniform(0.35, 0.8),
        exposure=exposure,
        cast=(1 + warmth, 1 + rng.normal(0, 0.06 if coloured else 0.02), 1 - warmth),
        behind=behind,
    )


def _choose(
    rng: np.random.Generator, options: Sequence[_Choice], weights: Sequence[float] | None = None
) -> _Choice:
    """One of the options, with these chances (they sum to 1), or all with the same one."""
    if weights is None:
        return options[int(rng.integers(len(options)))]
    return options[min(int(np.searchsorted(np.cumsum(weights), rng.random())), len(options) - 1)]


def _vary(rng: np.random.Generator, colour: RGB, spread: float) -> RGB:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, spread, 3), 0.02, 0.98).tolist()
    return red, green, blue


def any_colour(rng: np.random.Generator) -> RGB:
    """A colour as cloth and walls have it: any hue, mostly muted, from black to white."""
    grey = rng.random()
    red, green, blue = (grey + (rng.random(3) - grey) * rng.random() ** 1.5).tolist()
    return red, green, blue
