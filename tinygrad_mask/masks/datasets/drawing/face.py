"""A whole person of a photograph: body, head, mask and hand, from far to near."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from tinygrad_mask.masks.datasets.drawing.hand import draw_hand
from tinygrad_mask.masks.datasets.drawing.head import (
    draw_back,
    draw_beard,
    draw_glasses,
    draw_hair,
    draw_skin,
    draw_visor,
    skin_colour,
)
from tinygrad_mask.masks.datasets.drawing.mask import draw_mask
from tinygrad_mask.masks.datasets.drawing.surface import CHIN, Head, Painter, View
from tinygrad_mask.masks.datasets.drawing.traits import DAYLIGHT, FaceTraits, Light
from tinygrad_mask.masks.datasets.records import Box

SUPERSAMPLING = 3
"""Pictures are drawn this many times larger and then averaged, for soft edges."""

_FOREHEAD = -0.85


def unit_box(traits: FaceTraits) -> Box:
    """The face's box, from the forehead to the chin and from ear to ear, in units about its origin.

    It depends on the head's shape and pose alone, not on what is worn.
    """
    head = Head.of(traits)
    azimuth = np.radians(np.linspace(-95, 95, 15))
    surface = head.points(azimuth, np.linspace(_FOREHEAD, CHIN, 14)[:, None])
    turned = surface @ View(traits.yaw, traits.pitch, traits.roll, (0, 0), 1).rotation.T
    x1, y1 = turned[..., :2].min(axis=(0, 1)).tolist()
    x2, y2 = turned[..., :2].max(axis=(0, 1)).tolist()
    return x1, y1, x2, y2


def draw_person(
    draw: ImageDraw.ImageDraw, traits: FaceTraits, light: Light, view: View, bottom: float
) -> None:
    """Draw a person; `view` places the head, the body goes down to `bottom` (pixels)."""
    head = Head.of(traits)
    painter = Painter(draw, view, light)
    draw_back(painter, head, traits)
    _draw_body(painter, traits, bottom)
    draw_skin(painter, head, traits)
    draw_beard(painter, head, traits)
    over_the_hair = traits.worn in ("on the forehead", "from one ear")
    if not over_the_hair:
        draw_mask(painter, head, traits)
    draw_hair(painter, head, traits)
    if over_the_hair:
        draw_mask(painter, head, traits)
    draw_glasses(painter, head, traits)
    _draw_scarf(painter, head, traits)
    draw_visor(painter, head, traits)
    draw_hand(painter, traits)


def draw_face(
    traits: FaceTraits,
    height: int,
    light: Light = DAYLIGHT,
    background: tuple[int, int, int] = (128, 128, 128),
) -> tuple[Image.Image, Box]:
    """Draw one face before a plain background: the RGB picture, and the face's box in it.

    The box is `height` pixels high, and the picture half as large again on every side. Raises
    `ValueError` for a height below 8.
    """
    if height < 8:
        raise ValueError(f"draw_face: expected a height of at least 8 pixels, got {height}")
    x1, y1, x2, y2 = unit_box(traits)
    scale = height / (y2 - y1)
    margin = height / 2
    size = round(2 * margin + scale * (x2 - x1)), 2 * height
    canvas = Image.new("RGB", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), background)
    origin = margin - scale * x1, margin - scale * y1
    view = View(traits.yaw, traits.pitch, traits.roll, origin, scale)
    draw_person(ImageDraw.Draw(canvas), traits, light, enlarged(view), canvas.height)
    box = (margin, margin, margin + scale * (x2 - x1), margin + height)
    return canvas.reduce(SUPERSAMPLING), box


def enlarged(view: View) -> View:
    """The same view in a picture that is `SUPERSAMPLING` times larger."""
    x, y = view.origin
    return replace(
        view, origin=(x * SUPERSAMPLING, y * SUPERSAMPLING), scale=view.scale * SUPERSAMPLING
    )


def _draw_body(painter: Painter, traits: FaceTraits, bottom: float) -> None:
    """Draw neck and shoulders, upright however the head is turned."""
    throat_x, throat_y = painter.turned(np.array([0.0, 1.0, 0.1]))[:2].tolist()
    origin_x, origin_y = painter.view.origin
    unit = painter.view.scale
    # The shoulders stand where an untilted head would put them.
    centre, collar = 0.4 * throat_x + 0.6 * origin_x, origin_y + 2.15 * unit
    upright = (0.0, -0.2, 1.0)
    neck_colour = skin_colour(traits) * 0.72
    if traits.headwear == "hijab":
        neck_colour = 0.8 * np.array(traits.headwear_colour)

    def fill(colour: object, *points: tuple[float, float]) -> None:
        painter.picture_shape(points, np.asarray(colour, np.float64), upright)

    reach = 0.62 * unit
    fill(
        neck_colour,
        (throat_x - reach, throat_y),
        (throat_x + reach, throat_y),
        (centre + 1.05 * reach, collar + 0.2 * unit),
        (centre - 1.05 * reach, collar + 0.2 * unit),
    )
    fill(
        traits.clothing_colour,
        (centre - 0.7 * unit, collar - 0.18 * unit),
        (centre, collar + 0.1 * unit),
        (centre + 0.7 * unit, collar - 0.18 * unit),
        (centre + 1.6 * unit, collar + 0.22 * unit),
        (centre + 2.0 * unit, collar + 0.7 * unit),
        (centre + 2.15 * unit, max(bottom, collar + unit)),
        (centre - 2.15 * unit, max(bottom, collar + unit)),
        (centre - 2.0 * unit, collar + 0.7 * unit),
        (centre - 1.6 * unit, collar + 0.22 * unit),
    )
    if traits.scarf:
        fill(
            traits.scarf_colour,
            (centre - 0.85 * unit, collar - 0.4 * unit),
            (centre, collar - 0.3 * unit),
            (centre + 0.85 * unit, collar - 0.4 * unit),
            (centre + 1.05 * unit, collar + 0.3 * unit),
            (centre, collar + 0.5 * unit),
            (centre - 1.05 * unit, collar + 0.3 * unit),
        )


def _draw_scarf(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw a scarf round the neck, up to the chin at most."""
    if not traits.scarf:
        return
    across = np.linspace(-1, 1, 13)
    down = np.linspace(0, 1, 7)[:, None]
    top = 2.0 - 0.42 * traits.scarf_height - 0.1 * across**2
    folds = 0.05 * np.sin(9 * down + 2 * across)
    cloth = head.draped(np.radians(105) * across, top + 0.75 * down, 0.28 + folds, hang=1.3)
    shade = 1 + 0.12 * np.sin(9 * down + 2 * across)[:-1, :-1, None]
    painter.patch(cloth, np.clip(np.array(traits.scarf_colour) * shade, 0, 1))
