"""What users of such tools complain about, as pairs of faces that differ in that alone.

`DRAWN_SLICES` are drawn: each pair shares all its traits, its background and its grain but for what
the slice is named after. `CHANGED_SLICES` change photographs: each pair is a face as it is
and as it would have been taken in low light, from farther away or with red and blue exchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics, compute_metrics
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.crops import crop_face, face_size
from tinygrad_mask.masks.datasets.drawing.scene import develop
from tinygrad_mask.masks.datasets.drawing.traits import Worn, sample_traits
from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.datasets.synthetic import DAYLIGHT, draw_face
from tinygrad_mask.masks.labels import LABELS

FAR_FACE = 12.0
"""The shorter side of a face's box, in pixels, in what is seen from farther away."""

_NIGHT = 0.2  # of the levels of day
_NIGHT_NOISE = 7.0  # grey levels of grain that a camera adds then
_HEIGHT = 64  # pixels of a drawn face
_NOISE = 3.0  # grey levels of grain in drawn pictures


@dataclass(frozen=True, eq=False)
class SlicedFace:
    """A face of a slice: an RGB picture, where the face is in it, and its label."""

    picture: Image.Image
    box: Box
    label: str


Change = Callable[[Image.Image, Box, np.random.Generator], tuple[Image.Image, Box]]
"""Makes another picture, and box, of a picture and a face's box in it."""


def in_low_light(
    picture: Image.Image, box: Box, rng: np.random.Generator
) -> tuple[Image.Image, Box]:
    """Return the picture with its levels at a fifth, and the grain that a camera adds then."""
    dark = Image.fromarray((np.asarray(picture, np.float32) * _NIGHT).astype(np.uint8))
    return develop(rng, dark, 0.0, _NIGHT_NOISE), box


def from_farther_away(
    picture: Image.Image, box: Box, rng: np.random.Generator
) -> tuple[Image.Image, Box]:
    """Return the picture so much smaller that the face has `FAR_FACE` pixels."""
    factor = FAR_FACE / face_size(box)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    x, y = width / picture.width, height / picture.height
    smaller = picture.resize((width, height), Image.Resampling.BICUBIC)
    return smaller, (box[0] * x, box[1] * y, box[2] * x, box[3] * y)


def in_bgr(picture: Image.Image, box: Box, rng: np.random.Generator) -> tuple[Image.Image, Box]:
    """Return the picture with red and blue exchanged, as OpenCV reads files."""
    return Image.fromarray(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])), box


CHANGED_SLICES: dict[str, Change] = {
    "low light": in_low_light,
    f"seen from farther away ({FAR_FACE:g} px)": from_farther_away,
    "BGR in place of RGB": in_bgr,
}


_BLUE, _BLACK, _ACCENT = (0.55, 0.76, 0.9), (0.06, 0.06, 0.07), (0.75, 0.2, 0.25)

DRAWN_SLICES: dict[str, tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]] = {
    "dark skin": ({"skin": (0.8, 0.9, 1.0)}, {"skin": (0.0, 0.1, 0.2)}),
    "beard": ({"beard": ("full", "goatee")}, {"beard": ("none",)}),
    "black mask": (
        {"mask_pattern": ("plain",), "mask_colour": (_BLACK,)},
        {"mask_pattern": ("plain",), "mask_colour": (_BLUE,)},
    ),
    "patterned mask": (
        {"mask_pattern": ("checks", "stripes", "dots", "print"), "mask_accent": (_ACCENT,)},
        {"mask_pattern": ("plain",)},
    ),
    "hand before the mouth": (
        {"worn": ("not worn",), "hand": (True,)},
        {"worn": ("not worn",), "hand": (False,)},
    ),
    "profile view": (
        {"yaw": (-70.0, -60.0, 60.0, 70.0)},
        {"yaw": (-12.0, -4.0, 4.0, 12.0)},
    ),
}
"""By name, the traits that the faces of a slice have, and those that they are compared with have;
where there are several, they take turns."""


def drawn_pair(name: str, index: int, seed: int) -> tuple[SlicedFace, SlicedFace]:
    """Draw pair `index` of a slice: a face with what it is named after, and the same without.

    Labels take turns, as far as the slice has them. Raises `KeyError` for a name there is not.
    """
    rng = np.random.default_rng([seed, index])
    improper: Worn = "on the chin" if index // 3 % 2 else "under the nose"
    worn: tuple[Worn, ...] = ("over nose and mouth", improper, "not worn")
    traits = replace(
        sample_traits(rng),
        hand=False,
        held="nothing",
        visor=False,
        scarf=False,
        mask_slack=0.5,
        mask_tilt=0.0,
        worn=worn[index % 3],
    )
    red, green, blue = (int(level) for level in rng.integers(60, 200, 3))
    pair = []
    for choices in DRAWN_SLICES[name]:
        chosen = {trait: of[index // 6 % len(of)] for trait, of in choices.items()}
        changed = replace(traits, **chosen)
        picture, box = draw_face(changed, _HEIGHT, DAYLIGHT, (red, green, blue))
        grain = np.random.default_rng([seed, index, 1])  # the same in both
        pair.append(SlicedFace(develop(grain, picture, 0.0, _NOISE), box, changed.label))
    return pair[0], pair[1]


def judge_slice(classifier: Classifier, faces: Sequence[SlicedFace]) -> Metrics:
    """Return the figures of a classifier on some faces, at least one."""
    return compute_metrics(
        [LABELS.index(face.label) for face in faces], scores_of(classifier, faces)
    )


def scores_of(classifier: Classifier, faces: Sequence[SlicedFace]) -> NDArray[np.float32]:
    """Return a classifier's scores for some faces, (n, 3)."""
    crops = [crop_face(face.picture, face.box, classifier.crops) for face in faces]
    return classifier.scores(np.stack(crops))
