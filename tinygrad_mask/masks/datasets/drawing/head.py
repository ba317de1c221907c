"""The head itself: skin, features, beard, hair, headwear and glasses.

Each function draws one thing of a head and is called from far to near; see `face.draw_face`.
"""

import numpy as np

from tinygrad_mask.masks.datasets.drawing.surface import Array, Head, Painter
from tinygrad_mask.masks.datasets.drawing.traits import MOUTH_COVERED, FaceTraits, Hair

_SIDES = (-1, 1)
_BEARD_END = 1.72
_HAIR_COLUMNS = 23

_SKIN_TONES = np.array(
    [
        (0.97, 0.84, 0.76),
        (0.92, 0.74, 0.62),
        (0.80, 0.59, 0.45),
        (0.58, 0.39, 0.28),
        (0.40, 0.26, 0.19),
        (0.26, 0.17, 0.13),
    ]
)
_SKIN_AZIMUTHS = np.radians(
    (
        -180,
        -130,
        -100,
        -85,
        -70,
        -56,
        -44,
        -33,
        -23,
        -13,
        0,
        13,
        23,
        33,
        44,
        56,
        70,
        85,
        100,
        130,
        180,
    )
)
_SKIN_ROWS = np.array(
    (
        *(
            -1.62,
            -1.56,
            -1.44,
            -1.25,
            -0.95,
            -0.65,
            -0.4,
            -0.22,
            -0.1,
            0.02,
            0.12,
            0.25,
            0.42,
            0.58,
            0.74,
        ),
        *(0.86, 0.96, 1.06, 1.16, 1.28, 1.4, 1.5, 1.58, 1.64, 1.7),
    )
)

# The edge of hair and headwear: azimuth in degrees (both sides alike), y.
_HAIRLINES: dict[Hair, Array] = {
    "short": np.array(
        [
            *((0, -0.92), (30, -0.9), (48, -0.76), (60, -0.35), (70, 0.1), (82, 0.12)),
            *((92, -0.12), (108, 0.2), (125, 0.8), (180, 0.95)),
        ]
    ),
    "fringe": np.array(
        [(0, -0.42), (40, -0.36), (56, 0.0), (70, 0.4), (92, 0.5), (125, 0.95), (180, 1.0)]
    ),
    "long": np.array(
        [
            (0, -1.0),
            (22, -0.86),
            (42, -0.62),
            (58, -0.05),
            (68, 0.9),
            (74, 1.7),
            (90, 2.1),
            (180, 2.2),
        ]
    ),
}
_HIJAB = np.array(
    [(0, -0.72), (25, -0.68), (40, -0.48), (54, 0.05), (62, 0.7), (66, 1.3), (70, 2.0), (180, 2.3)]
)
_BEANIE = np.array([(0, -0.6), (60, -0.5), (90, -0.35), (180, 0.2)])
_CAP = np.array([(0, -0.72), (60, -0.66), (90, -0.5), (180, -0.2)])
_BEARD_LINES = {
    "stubble": np.array([(0, 1.2), (14, 1.16), (24, 0.86), (45, 0.92), (65, 0.7), (82, 0.3)]),
    "full": np.array([(0, 1.2), (14, 1.16), (24, 0.84), (45, 0.86), (65, 0.62), (82, 0.2)]),
    "goatee": np.array([(0, 1.2), (14, 1.16), (24, 0.9), (30, 1.2), (36, 1.5)]),
}


def skin_colour(traits: FaceTraits) -> Array:
    """The colour (3,) of the skin in a neutral light."""
    tone = traits.skin * (len(_SKIN_TONES) - 1)
    steps = np.arange(len(_SKIN_TONES))
    colour = np.array([np.interp(tone, steps, channel) for channel in _SKIN_TONES.T])
    return colour * (1.0, 0.97 + 0.05 * traits.undertone, 0.92 + 0.1 * traits.undertone)


def draw_back(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw what hangs behind the neck: the inside of long hair or of a hijab."""
    if traits.headwear == "hijab":
        edge, colour = _HIJAB, traits.headwear_colour
    elif traits.hair == "long":
        edge, colour = _HAIRLINES["long"], traits.hair_colour
    else:
        return
    painter.patch(_drape(painter, head, edge, lift=0.1, hang=0.4)[:, ::-1], 0.55 * np.array(colour))


def draw_skin(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw the skin, ears, eyes, nose and mouth."""
    skin = skin_colour(traits)
    near = [side for side in _SIDES if painter.faces_viewer((side, 0.0, 0.35))]
    for side in _SIDES:
        if side not in near:
            _draw_ear(painter, head, skin, side)
    y = _SKIN_ROWS[:: painter.step, None]
    points = head.points(_SKIN_AZIMUTHS[:: painter.step], y)
    x = points[..., 0]
    blush = np.exp(-(((np.abs(x) - 0.55) / 0.3) ** 2) - ((y - 0.5) / 0.3) ** 2)
    socket = np.exp(-(((np.abs(x) - 0.4) / 0.3) ** 2) - ((y - 0.08) / 0.2) ** 2)
    tint = 1 - 0.1 * blush[..., None] * (0.0, 1.0, 0.8) - 0.14 * socket[..., None]
    painter.patch(points, skin * tint[:-1, :-1])
    for side in near:
        _draw_ear(painter, head, skin, side)
    for side in _SIDES:
        if painter.faces_viewer((0.5 * side, 0.0, 0.85), least=0.15):
            _draw_eye(painter, head, traits, side)
    if traits.age > 0.65:
        _draw_wrinkles(painter, head, traits)
    if traits.worn not in MOUTH_COVERED:
        _draw_mouth(painter, head, traits)
    _draw_nose(painter, head, traits)


def draw_beard(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw the beard and the moustache, if there are any."""
    if traits.beard == "none":
        return
    density = 0.45 if traits.beard == "stubble" else 0.92
    colour = (1 - density) * skin_colour(traits) + density * 0.9 * np.array(traits.hair_colour)
    volume = 0.02 if traits.beard == "stubble" else 0.07
    if traits.beard != "moustache":
        edge = _BEARD_LINES[traits.beard]
        azimuth = np.linspace(-edge[-1, 0], edge[-1, 0], 15)
        top = np.interp(np.abs(azimuth), *edge.T)
        down = np.linspace(0, 1, 6)[:, None]
        y = top + (_BEARD_END - top) * down
        painter.patch(
            head.draped(np.radians(azimuth), y, volume * (0.4 + down), hang=1.58),
            _streaks(colour, 14, 0.12),
        )
    azimuth = np.linspace(-26, 26, 9)
    top = 0.8 + 0.1 * (np.abs(azimuth) / 26) ** 2
    down = np.linspace(0, 1, 3)[:, None]
    y = top + (0.1 + 0.1 * (np.abs(azimuth) / 26) ** 2) * down
    painter.patch(head.points(np.radians(azimuth), y, volume), _streaks(colour, 8, 0.1))


def draw_hair(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw the hair and what is worn over it."""
    if traits.headwear == "hijab":
        cloth = _drape(painter, head, _HIJAB, lift=0.12, hang=0.4)
        painter.patch(cloth, _streaks(np.array(traits.headwear_colour), _HAIR_COLUMNS - 1, 0.05))
        return
    if traits.hair != "bald":
        lift, hang = (0.1, 0.4) if traits.hair == "long" else (0.08, np.inf)
        hair = _drape(painter, head, _HAIRLINES[traits.hair], lift, hang)
        painter.patch(hair, _streaks(np.array(traits.hair_colour), _HAIR_COLUMNS - 1, 0.09))
    colour = np.array(traits.headwear_colour)
    if traits.headwear == "beanie":
        painter.patch(_drape(painter, head, _BEANIE, lift=0.16, hang=np.inf), colour)
        rim = _drape(painter, head, _BEANIE, lift=0.21, hang=np.inf)[-2:]
        painter.patch(rim, 0.85 * colour)
    elif traits.headwear == "cap":
        painter.patch(_drape(painter, head, _CAP, lift=0.14, hang=np.inf), colour)
        azimuth = np.radians(np.linspace(-58, 58, 9))
        rim = head.draped(azimuth, np.interp(np.abs(np.degrees(azimuth)), *_CAP.T), 0.12)
        brim = rim + np.cos(1.5 * azimuth)[:, None] * (0.0, 0.16, 0.6)
        painter.patch(np.stack([rim, brim]), 0.9 * colour)
        painter.patch(np.stack([brim, rim]), 0.5 * colour)


def draw_glasses(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw glasses, if there are any."""
    if traits.glasses == "none":
        return
    width = {"thin": 0.035, "thick": 0.075, "sunglasses": 0.06}[traits.glasses]
    frame = (0.32, 0.3, 0.28) if traits.glasses == "thin" else (0.08, 0.07, 0.07)
    turn = np.linspace(0, 2 * np.pi, 17)
    # A superellipse: round enough for one frame, square enough for the other.
    power = 0.9 if traits.glasses == "thin" else 0.6
    lens_x = 0.33 * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    lens_y = 0.06 + 0.24 * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    front = float(head.points(0.0, -0.05)[2]) + 0.06
    for side in _SIDES:
        x = side * 0.44 + lens_x
        rim = np.stack([x, lens_y * head.face_length, front - 0.22 * x**2], axis=-1)
        if painter.faces_viewer((0.45 * side, 0.0, 0.9)):
            if traits.glasses == "sunglasses":
                painter.shape(rim, (0.07, 0.07, 0.08), (0, 0, 1))
            painter.stroke(rim, width, frame, (0, 0, 1))
        if painter.faces_viewer((side, 0.0, 0.3)):
            hinge = np.array([side * 0.77, 0.0, front - 0.13])
            painter.stroke(
                np.stack([hinge, [side * 1.05, -0.02, 0.1]]), width, frame, (side, 0, 0.3)
            )
    bridge = np.array([(-0.12, 0.0, front), (0.0, -0.03, front + 0.03), (0.12, 0.0, front)])
    painter.stroke(bridge, width, frame, (0, 0, 1))


def draw_visor(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw a face shield, if there is one: its band, its edge and the streaks that it reflects."""
    if not traits.visor:
        return
    azimuth = np.radians(np.linspace(-72, 72, 13))
    band = head.draped(azimuth, np.array((-0.82, -0.62))[:, None], 0.3)
    painter.patch(band, traits.headwear_colour)
    edge = head.draped(azimuth, np.full(13, 1.75), 0.45, hang=0.2)
    painter.stroke(edge, 0.03, (0.85, 0.87, 0.9), (0, 0, 1))
    for side in _SIDES:
        if painter.faces_viewer((side, 0.0, 0.5)):
            rim = head.draped(np.full(5, side * np.radians(72)), np.linspace(-0.6, 1.75, 5), 0.4)
            painter.stroke(rim, 0.03, (0.85, 0.87, 0.9), (side, 0, 0.5))
            streak = head.draped(
                np.radians(side * np.linspace(38, 24, 4)), np.linspace(-0.45, 0.35, 4), 0.45, 0.2
            )
            painter.stroke(streak, 0.07, (0.92, 0.94, 0.96), (0, 0, 1))


def _draw_wrinkles(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw the folds of an old face: beside nose and mouth, on the forehead, at the eyes."""
    skin = skin_colour(traits) * (1 - 0.28 * (traits.age - 0.5))
    along = np.linspace(-1, 1, 5)
    lines = [(0.45 * along, -0.45 - 0.12 * row - 0.03 * (1 - along**2), 0.01) for row in range(3)]
    for side in _SIDES:
        lines.append((side * (0.27 + 0.1 * (along + 1)), 0.72 + 0.18 * (along + 1), 0.01))
        lines.append((side * np.array((0.68, 0.76)), np.array((0.05, 0.1)), 0.01))
    for line in head.at(*lines):
        painter.stroke(line, 0.04, skin, (0, 0, 1))


def _drape(painter: Painter, head: Head, edge: Array, lift: float, hang: float) -> Array:
    """A grid (rows, _HAIR_COLUMNS, 3) round the whole head, from the crown down to this edge."""
    azimuth = np.linspace(-180, 180, _HAIR_COLUMNS)
    bottom = np.interp(np.abs(azimuth), *edge.T)
    crown = -1.62
    # Rows crowd at the crown, where the head is most curved; volume thins out towards the edge.
    down = np.linspace(0, 1, 9)[:: painter.step, None] ** 1.5
    y = crown + (bottom - crown) * down
    grid = head.draped(np.radians(azimuth), y, lift * (1.3 - 0.5 * down), hang)
    grid[..., 1] -= 1.2 * lift * (1 - down)
    grid[0] = grid[0].mean(axis=0)
    return grid


def _streaks(colour: Array, columns: int, depth: float) -> Array:
    """Colours (columns, 3) that vary from strand to strand, the same each time."""
    strand = 2.4 * np.arange(columns)
    streaks: Array = colour * (1 + depth * np.sin(strand + np.sin(1.7 * strand)))[:, None]
    return streaks


def _draw_ear(painter: Painter, head: Head, skin: Array, side: int) -> None:
    turn = np.linspace(0, 2 * np.pi, 11)[:-1]
    bulge = np.cos(turn)
    x = head.half_width(0.2) + 0.05 + 0.07 * bulge
    rim = np.stack([side * x, 0.2 + 0.33 * np.sin(turn), -0.05 - 0.18 * bulge], axis=-1)
    painter.shape(rim, 0.95 * skin, (0.6 * side, 0, 0.6))
    hollow = rim.mean(axis=0) + 0.55 * (rim - rim.mean(axis=0))
    painter.shape(hollow, 0.72 * skin, (0.6 * side, 0, 0.6))


def _draw_eye(painter: Painter, head: Head, traits: FaceTraits, side: int) -> None:
    skin, hair = skin_colour(traits), np.array(traits.hair_colour)
    out = (0.35 * side, 0.0, 0.9)
    along = np.linspace(-1, 1, 9)
    x = side * 0.42 + 0.19 * traits.eye_size * along
    arch = 1 - along**2
    height = 0.1 * traits.eye_size * traits.eyes_open
    upper, lower = 0.04 - height * arch, 0.06 + 0.55 * height * arch
    is_open = traits.eyes_open > 0
    turn = np.linspace(0, 2 * np.pi, 13)[:-1]
    iris_x = side * 0.42 + 0.06 * traits.gaze + 0.085 * np.cos(turn)
    iris_y = np.clip(0.04 + 0.085 * np.sin(turn), 0.04 - height, 0.06 + 0.55 * height)
    outline, iris, lid, crease, bag, brow = head.at(
        (np.append(x, x[::-1]), np.append(upper, lower[::-1]), 0.01),
        (iris_x, iris_y, 0.02),
        (x, upper if is_open else lower + 0.03 * arch, 0.02),
        (x, upper - 0.06, 0.02),
        (x, lower + 0.07, 0.02),
        (side * np.array([0.18, 0.34, 0.5, 0.64]), [-0.2, -0.27, -0.28, -0.2], 0.03),
    )
    if is_open:
        painter.shape(outline, 0.35 * skin + 0.6 * np.array((0.93, 0.92, 0.9)), out)
        painter.shape(iris, (0.15, 0.1, 0.08), out)
    painter.stroke(lid, 0.04, 0.3 * skin, out)
    painter.stroke(crease, 0.03, 0.75 * skin, out)
    painter.stroke(bag, 0.03, 0.84 * skin, out)
    painter.stroke(brow, 0.075, 0.3 * skin + 0.6 * hair, out)


def _draw_nose(painter: Painter, head: Head, traits: FaceTraits) -> None:
    """Draw the nose once more and finer: at a turned head it hides the far eye."""
    skin = skin_colour(traits)
    azimuth = np.radians((-17, -12, -8, -4, 0, 4, 8, 12, 17))
    y = np.array((0.02, 0.15, 0.28, 0.4, 0.5, 0.58, 0.65, 0.71, 0.77))[:, None]
    tint = np.ones((8, 1, 3))
    tint[4:7] -= (0.0, 0.06, 0.05)
    step = painter.step
    painter.patch(head.points(azimuth[::step], y[::step], 0.01), skin * tint[::step])
    turn = np.linspace(0, 2 * np.pi, 9)[:-1]
    for side in _SIDES:
        if painter.faces_viewer((0.7 * side, 0.1, 0.7)):
            wing_x = side * traits.nose_size * np.array((0.17, 0.23, 0.22, 0.16))
            wing, nostril = head.at(
                (wing_x, (0.54, 0.6, 0.68, 0.74), 0.02),
                (side * 0.1 + 0.055 * np.cos(turn), 0.715 + 0.032 * np.sin(turn), 0.02),
            )
            painter.stroke(wing, 0.035, 0.68 * skin, (0.7 * side, 0, 0.7))
            painter.shape(nostril, 0.3 * skin, (0, 0, 1))


def _draw_mouth(painter: Painter, head: Head, traits: FaceTraits) -> None:
    skin = skin_colour(traits)
    lip = skin * (0.86, 0.6, 0.6) + (0.03, 0.0, 0.0)
    along = np.linspace(-1, 1, 11)
    x = (0.33 + 0.06 * traits.smile) * along
    arch = 1 - along**2
    middle = 1.0 - 0.1 * (traits.smile - 0.35) * along**2
    gap = 0.16 * traits.mouth_open * arch
    upper = middle - gap * 0.4 - 0.085 * arch**0.7 + 0.025 * np.exp(-((along / 0.2) ** 2))
    lower = middle + gap + 0.12 * arch**0.8
    both, teeth_x = np.append(x, x[::-1]), np.append(x[2:-2], x[-3:1:-1])
    lips, inside, teeth, line, chin_crease = head.at(
        (both, np.append(upper, lower[::-1]), 0.01),
        (both, np.append(middle - 0.4 * gap, (middle + gap)[::-1]), 0.01),
        (teeth_x, np.append((middle - 0.4 * gap)[2:-2], (middle + 0.15 * gap)[-3:1:-1]), 0.01),
        (x, middle, 0.02),
        (0.5 * x, lower + 0.06, 0.01),
    )
    front = (0, 0.1, 1)
    painter.shape(lips, lip, front)
    if traits.mouth_open > 0.15:
        painter.shape(inside, (0.22, 0.08, 0.08), front)
        painter.shape(teeth, (0.9, 0.88, 0.84), front)
    else:
        painter.stroke(line, 0.035, 0.4 * lip, front)
    painter.stroke(chin_crease, 0.04, 0.84 * skin, front)
