"""The answer about one face, and when there is none because the crop does not show a face."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.labels import LABELS

UNSURE = "unsure"
"""The label of a face that a model must not be asked about (see `doubt`), or is not sure of."""

MIN_SIZE = 4.0
MIN_CONTRAST = 5.0
MIN_SMOOTHNESS = 0.5
"""The limits below which a crop is not judged: the size of a face in pixels, the standard deviation
of its grey values (0 to 255), and the correlation of neighbouring pixels.

Chosen by looking at 8054 faces of three data sets, cut to 40 x 40 pixels. The lowest of each, and
how many fall below the limits:

    data set       faces   size        contrast     smoothness
    Larxel          3325   1.0 (11)    13.8 (0)     0.70 (0)
    ILC 2021         861   4.0 (0)     14.4 (0)     0.75 (0)
    chandrikadeb7   3868   26 (0)      17.2 (0)     0.64 (0)

So 11 of 3325 faces of Larxel (0.3 %) become `unsure`, all for their size. Noise of at least 30 x 30
pixels has a smoothness of -0.03 to 0.46. Smaller noise is as smooth as a face once it is enlarged,
and is not recognised.
"""

_SMOOTHNESS_SIZE = 32
"""The side in pixels of the smallest crops whose smoothness is looked at: the fewer pixels a face
is cut to, the more neighbouring ones differ."""

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer about one face.

    `image` is the path as it was given, None for a picture that came from memory; `box` says where
    the face is in it, None if the picture is the face. `label` is the most probable of `LABELS` and
    `probability` its probability. If the crop does not show a face, or no label is probable enough,
    they are `UNSURE` and None, and `reason` says why. `probabilities` (3,) are those of all labels,
    in any case as the model computes them. `crop` (size, size, 3) is what the model saw.
    """

    image: str | None
    box: Box | None
    label: str
    probability: float | None
    probabilities: NDArray[np.float32]
    crop: NDArray[np.uint8]
    reason: str | None = None

    @classmethod
    def of(
        cls,
        image: str | None,
        box: Box | None,
        probabilities: NDArray[np.float32],
        crop: NDArray[np.uint8],
        size: float,
        threshold: float = 0.0,
    ) -> "Prediction":
        """Return the answer about a face of a size in pixels, from the model's probabilities.

        The answer is `UNSURE` if the most probable label is less probable than `threshold`.
        """
        reason = doubt(crop, size)
        best = int(probabilities.argmax())
        if reason is None and probabilities[best] < threshold:
            reason = (
                f"not sure: {LABELS[best]} {probabilities[best]:.2f}, "
                f"an answer has at least {threshold:.2f}"
            )
        if reason is not None:
            return cls(image, box, UNSURE, None, probabilities, crop, reason)
        return cls(image, box, LABELS[best], float(probabilities[best]), probabilities, crop)

    def to_json(self) -> dict[str, Any]:
        """Return all but the crop, for `json.dumps`."""
        return {
            "image": self.image,
            "box": None if self.box is None else list(self.box),
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(zip(LABELS, map(float, self.probabilities), strict=True)),
            "reason": self.reason,
        }

    def __repr__(self) -> str:
        where = "" if self.image is None else f", image={self.image!r}"
        where += "" if self.box is None else f", box={self.box}"
        sure = self.reason if self.probability is None else f"{self.probability:.3f}"
        return f"Prediction({self.label}, {sure}{where})"


def doubt(crop: NDArray[np.uint8], size: float) -> str | None:
    """Return why a crop (n, n, 3) cannot show a face, None if it can.

    `size` is the shorter side of the face in the photograph, in pixels.
    """
    if size < MIN_SIZE:
        return f"too small: {size:.3g} pixels, a face has at least {MIN_SIZE:g}"
    grey = crop.astype(np.float32) @ _GREY
    contrast = float(grey.std())
    if contrast < MIN_CONTRAST:
        return (
            f"no contrast: {contrast:.1f} of 255 grey levels, a face has at least {MIN_CONTRAST:g}"
        )
    if len(grey) < _SMOOTHNESS_SIZE:
        return None
    smoothness = _smoothness(grey)
    if smoothness < MIN_SMOOTHNESS:
        return (
            f"noise: neighbouring pixels correlate by {smoothness:.2f}, "
            f"in a face by at least {MIN_SMOOTHNESS:g}"
        )
    return None


def _smoothness(grey: NDArray[np.float32]) -> float:
    """The correlation of neighbouring pixels of a picture that is not plain.

    For a stationary signal of variance v, the mean square of the differences is 2 v (1 - r).
    """
    squares = [float((np.diff(grey, axis=axis) ** 2).mean()) for axis in (0, 1)]
    return 1 - sum(squares) / 2 / (2 * float(grey.var()))
