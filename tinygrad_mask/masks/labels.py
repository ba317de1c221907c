"""The three labels that a face can have, in the order of the models' outputs."""

import numpy as np
from numpy.typing import NDArray

LABELS: tuple[str, ...] = ("proper", "improper", "none")
"""`proper`: the mask covers nose, mouth and chin; `improper`: it is worn, but leaves the nose or
the mouth free; `none`: the face wears no mask. A class index is a position in this tuple."""


def class_weights(labels: NDArray[np.int64], power: float) -> NDArray[np.float32] | None:
    """Return a weight per class, (3,): its inverse frequency to this power, 1 in the mean of faces.

    `labels` (n,) are positions in `LABELS`. None for a power of 0. A class that does not occur has
    the weight 1.
    """
    if power == 0:
        return None
    shares = np.bincount(labels, minlength=len(LABELS)) / len(labels)
    weights = np.where(shares > 0, np.maximum(shares, 1e-12) ** -power, 0)
    weights /= (weights * shares).sum()
    return np.where(shares > 0, weights, 1).astype(np.float32)
