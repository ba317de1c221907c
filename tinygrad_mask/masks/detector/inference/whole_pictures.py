"""Decide whether a picture is a photograph of faces or one face that fills it.

The detector is trained on photographs: a face that fills a picture is cut off at its edges, and
larger than those that it has seen. So the picture is first reduced to `_REDUCED` pixels and put in
the middle of a grey frame, where such a face is an ordinary one:

1. A picture of at most `SMALLEST_PHOTOGRAPH` pixels is one face.
2. If the most certain face of the reduced picture spans at least `FILLS` of its longer side, the
   picture is one face, and the classifier is given all of it, as it is given pictures of faces.
3. If no face is found at full size, or that face spans at least `_LARGE` and all that are found may
   be parts of it, it is the only one.
4. Otherwise the faces are those found at full size.

Measured with the shipped detector, in shares of the pictures:

    pictures of                           n   the whole   one box   several   no face
    a face (chandrikadeb7)              160        0.60      0.32      0.05      0.03
    a face, enlarged to 700 pixels       40        0.55      0.35      0.05      0.05
    people (Larxel)                      80        0.00      0.23      0.78      0.00
    people (ILC 2021, not trained on)    80        0.03      0.39      0.54      0.05
    no face, parts of these two         124        0.02      0.19      0.04      0.75

Of ILC's photographs with one box three have more faces. Of chandrikadeb7's pictures in which a face
is found 0.95 are given the right one of its two classes (0.93 if the classifier is always given all
of the picture), enlarged ones 0.90 (0.93).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.network.input import GREY

FILLS = 0.7
"""The share of a picture's longer side from which on a face fills the picture."""

SMALLEST_PHOTOGRAPH = 64
"""Pictures whose longer side is at most so many pixels are taken for one face."""

_LEAST_SCORE = 0.3  # lower than that of `detect`: who asks about a picture expects a face in it
_REDUCED = 48  # pixels of the longer side
_LARGE = 0.4  # the share of the longer side from which on a face may be found in parts
_OVERLAP = 0.5  # the share of the area of a part of a face that is in the face
_PART = 0.4  # the least longer side of such a part, in longer sides of the face


class FaceFinder:
    """Says of each picture where its faces are, for `classifier.inference.prediction.predict`.

    `whole` has the pictures that are taken for one face, and why; `faceless` those without a face.

    Example:
        >>> finder = FaceFinder(load_detector())
        >>> finder("street.jpg", read_image("street.jpg"))
        [(201.5, 88.2, 239.9, 137.0)]
        >>> finder("passport.jpg", read_image("passport.jpg"))
        [None]
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.whole: dict[str, str] = {}
        self.faceless: list[str] = []

    def __call__(self, name: str, image: Image.Image) -> list[Box | None]:
        """Return the boxes of the faces in a picture, [None] if the picture is one face."""
        longer = max(image.size)
        if longer <= SMALLEST_PHOTOGRAPH:
            self.whole[name] = f"at most {SMALLEST_PHOTOGRAPH} pixels"
            return [None]
        reduced = self._find_reduced(image)
        span = 0.0
        if len(reduced):
            span = float((reduced.boxes[0, 2:] - reduced.boxes[0, :2]).max()) / longer
        if span >= FILLS:
            self.whole[name] = f"a face spans {span:.0%} of it"
            return [None]
        found = self.detector.find(image, _LEAST_SCORE)
        if not len(found) or (span >= _LARGE and _are_parts(found.boxes, reduced.boxes[0])):
            found = reduced[:1]
        if not len(found):
            self.faceless.append(name)
        boxes: list[Box | None] = []
        for left, top, right, bottom in found.boxes.tolist():
            boxes.append((left, top, right, bottom))
        return boxes

    def _find_reduced(self, image: Image.Image) -> Detections:
        """Return the faces in a picture as they are found in the reduced one, in its pixels."""
        scale = _REDUCED / max(image.size)
        width, height = (max(round(side * scale), 1) for side in image.size)
        reduced = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        framed = Image.new("RGB", (2 * _REDUCED, 2 * _REDUCED), (GREY,) * 3)
        corner = (_REDUCED - width // 2, _REDUCED - height // 2)
        framed.paste(reduced, corner)
        found = self.detector.find(framed, _LEAST_SCORE)
        factor = np.tile([image.width / width, image.height / height], 2).astype(np.float32)
        limits = np.tile(np.array(image.size, np.float32), 2)
        boxes = np.clip(
            (found.boxes - np.tile(np.array(corner, np.float32), 2)) * factor, 0, limits
        )
        inside = np.flatnonzero(np.all(boxes[:, 2:] > boxes[:, :2], axis=1))
        return Detections(boxes, found.scores, found.labels)[inside]


def _are_parts(boxes: NDArray[np.float32], face: NDArray[np.float32]) -> bool:
    """Whether all boxes (n, 4) may be parts of a face (4,), and none a smaller face next to it."""
    corner = np.minimum(boxes[:, 2:], face[2:])
    inside = np.maximum(corner - np.maximum(boxes[:, :2], face[:2]), 0).prod(axis=1)
    sides = boxes[:, 2:] - boxes[:, :2]
    overlapping = inside >= _OVERLAP * sides.prod(axis=1)
    large = sides.max(axis=1) >= _PART * (face[2:] - face[:2]).max()
    return bool((overlapping & large).all())
