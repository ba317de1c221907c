"""A face mask: a patch of cloth over the face, and the loops that hold it."""

from dataclasses import dataclass

import numpy as np

from tinygrad_mask.masks.datasets.drawing.surface import Array, Head, Painter
from tinygrad_mask.masks.datasets.drawing.traits import FaceTraits, MaskKind, Worn

_ROWS, _COLUMNS = 10, 13


@dataclass(frozen=True)
class _Edges:
    """y of a mask's edges mid-face and at the sides, and how much of its bulge is left.

    `play` is how far the upper edge moves up and down with the mask's slack.
    """

    top: float
    top_side: float
    bottom: float
    bottom_side: float
    bulge: float
    play: float


_WORN: dict[Worn, _Edges] = {
    "over nose and mouth": _Edges(0.22, 0.5, 1.74, 1.3, 1.0, 0.3),
    "under the nose": _Edges(0.8, 0.8, 1.8, 1.42, 0.45, 0.16),
    "under the mouth": _Edges(1.2, 1.0, 1.9, 1.5, 0.3, 0.12),
    "on the chin": _Edges(1.3, 1.06, 1.86, 1.56, 0.15, 0.12),
    "under the chin": _Edges(1.52, 1.2, 2.05, 1.8, 0.1, 0.16),
    "on the forehead": _Edges(-0.75, -0.6, 0.0, 0.0, 0.1, 0.5),
}
# How far round the face a mask of each kind reaches (degrees), and its bulge in units.
_REACH: dict[MaskKind, float] = {"surgical": 60, "cloth": 64, "cup": 47, "folded": 54}
_BULGE: dict[MaskKind, float] = {"surgical": 0.3, "cloth": 0.3, "cup": 0.42, "folded": 0.5}
_DANGLE = (46, 88)
"""Between which azimuths (degrees) a mask hangs from an ear."""


def draw_mask(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw the mask as it is worn, if it is."""
    if traits.worn == "not worn":
        return
    if traits.worn == "from one ear":
        _draw_dangling(painter, head, traits)
        return
    edges = _WORN[traits.worn]
    across = np.linspace(-1, 1, _COLUMNS)
    down = np.linspace(0, 1, _ROWS)[:, None]
    play = edges.play * (traits.mask_slack - 0.5)
    tilt = np.tan(np.radians(traits.mask_tilt)) * across
    top = edges.top + play + (edges.top_side - edges.top) * across**2 + tilt
    bottom = edges.bottom + (edges.bottom_side - edges.bottom) * across**2 + tilt
    if traits.worn == "on the forehead":
        bottom = bottom + play
    else:
        bottom = bottom + 0.8 * (traits.mask_size - 1)
    azimuth = np.radians(min(_REACH[traits.mask] * traits.mask_size, 70)) * across
    lift = 0.06 + edges.bulge * traits.nose_size * _bulge(traits.mask, across, down)
    if traits.worn == "on the forehead":
        lift = lift + 0.14  # over the hair
    cloth = head.draped(azimuth, top + (bottom - top) * down, lift, hang=1.4)
    for side in (-1, 1):
        _draw_loops(painter, head, traits, cloth, side)
    painter.patch(cloth, _colours(traits))


def _draw_dangling(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw a mask that hangs from one ear, edge-on beside the cheek and the jaw."""
    side = traits.hand_side
    if not painter.faces_viewer((side, 0.0, 0.5)):
        side = -side
    first, last = (side * degrees for degrees in _DANGLE)
    azimuth = np.radians(np.linspace(min(first, last), max(first, last), _COLUMNS))
    across = np.linspace(-1, 1, _COLUMNS)
    down = np.linspace(0, 1, _ROWS)[:, None]
    top = 0.55 + 0.3 * traits.mask_slack + 0.1 * across * side
    y = top + (0.9 + 0.35 * traits.mask_slack) * traits.mask_size * down
    lift = 0.14 + 0.12 * np.cos(2.2 * across + 3 * down) ** 2
    cloth = head.draped(azimuth, y, lift, hang=0.9)
    _draw_loops(painter, head, traits, cloth, side)
    painter.patch(cloth, _colours(traits))


def _bulge(kind: MaskKind, across: Array, down: Array) -> Array:
    """How far (rows, columns) a mask of this kind stands out from the face."""
    if kind == "cup":
        profile = np.interp(down, [0, 0.15, 0.5, 0.85, 1], [0.3, 0.75, 1.0, 0.6, 0.0])
        ridge = 1 - across**2
    elif kind == "folded":
        profile = np.interp(down, [0, 0.35, 0.6, 1], [0.25, 0.9, 0.9, 0.0])
        ridge = np.exp(-np.abs(across) / 0.4)
    else:
        profile = np.interp(down, [0, 0.15, 0.35, 0.8, 1], [0.4, 0.8, 1.0, 0.5, 0.1])
        ridge = np.exp(-((across / 0.42) ** 2))
    bulge: Array = _BULGE[kind] * profile * ridge
    return bulge


def _colours(traits: FaceTraits) -> Array:
    """The colour of each of the mask's cells (rows, columns, 3)."""
    rows, columns = np.arange(_ROWS - 1)[:, None], np.arange(_COLUMNS - 1)
    everywhere = np.ones((_ROWS - 1, _COLUMNS - 1), bool)
    accented = {
        "plain": ~everywhere,
        "checks": (rows // 2 + columns // 2) % 2 == 0,
        "stripes": (columns % 3 == 0) & everywhere,
        "dots": (rows % 3 == 1) & ((columns + rows // 3) % 3 == 1),
        "print": (rows >= 3) & (rows <= 4) & (columns >= 3) & (columns <= 8) & (columns % 2 == 1),
    }[traits.mask_pattern]
    colour = np.where(accented[..., None], traits.mask_accent, traits.mask_colour)
    shade = np.ones((_ROWS - 1, _COLUMNS - 1))
    if traits.mask == "surgical":
        shade[(2, 4, 6), :] = 0.86
        shade[(3, 5, 7), :] = 1.04
    elif traits.mask == "cloth":
        shade[:, _COLUMNS // 2] = 0.9
    # The hem: darker where light cloth ends, lighter where dark cloth does.
    hem = 0.9 if np.mean(traits.mask_colour) > 0.3 else 1.35
    shade[(0, -1), :] *= hem
    shade[:, (0, -1)] *= hem
    shaded: Array = np.minimum(colour * shade[..., None], 1.0)
    return shaded


def _draw_loops(painter: Painter, head: Head, traits: FaceTraits, cloth: Array, side: int) -> None:
    """Draw what holds the mask at one side: loops round the ear, or a cup's bands."""
    if not painter.faces_viewer((side, 0.0, 0.45)):
        return
    dark = np.mean(traits.mask_colour) < 0.3
    colour = (0.12, 0.12, 0.13) if dark else (0.9, 0.9, 0.9)
    corners = cloth[(1, -2), 0 if side < 0 else -1]
    # Above and below the ear, in degrees of azimuth; bands go on round the head.
    behind = 112 if traits.mask == "cup" else 86
    ends = head.draped(np.radians(side * behind), np.array((-0.1, 0.5)), 0.04)
    for corner, end in zip(corners, ends, strict=True):
        painter.stroke(np.stack([corner, end]), 0.035, colour, (side, 0, 0.5))
