"""Whether the crops of faces have red and blue exchanged, as pictures that OpenCV read have.

Skin is redder than blue in every person and nearly every light, but masks, clothes and walls are
not. A crop is divided into 6 x 6 cells; each cell's (red - blue) / (red + green + blue) is weighted
by how well it tells the order of the colours. Exchanging red and blue changes the sign of the sum,
so that the evidence for one order is the evidence against the other.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 6
WEIGHTS = np.array(
    [
        [-1.7, -3.0, 0.9],
        [-1.4, 2.5, 11.5],
        [2.2, 4.1, 6.7],
        [0.9, -2.5, -0.8],
        [1.0, 1.4, -2.8],
        [-2.2, -1.7, 3.6],
    ]
)
"""The weight of each cell, (6, 3): rows from the top, columns from the left edge to the middle; the
right half is the mirror image. Fitted by `studies/colour_order.py`."""

ENOUGH = 2.0
"""The evidence from which on the order of the colours is doubted: e^2 to 1 against it."""

_DARK = 30.0  # added to the sum of a cell's colours: dark cells say little
_MOST = 6.0  # that one face can add to the evidence


class ColourOrderWarning(UserWarning):
    """The colours of a picture seem to be in another order than the caller said."""


def bgr_evidence(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return for crops (n, size, size, 3) the evidence that they are BGR, not RGB, (n,).

    It is the logarithm of the odds: above 0 the colours are more likely in the order blue, green,
    red, below 0 in the order red, green, blue.
    """
    size = crops.shape[1]
    edges = np.linspace(0, size, CELLS, endpoint=False).astype(np.int64)
    rows = np.add.reduceat(crops.astype(np.float64), edges, axis=1)
    cells = np.add.reduceat(rows, edges, axis=2)
    lengths = np.diff(np.append(edges, size))
    cells /= (lengths[:, None] * lengths)[..., None]
    lean = (cells[..., 0] - cells[..., 2]) / (cells.sum(axis=3) + _DARK)
    weights = np.concatenate([WEIGHTS, WEIGHTS[:, ::-1]], axis=1)
    evidence: NDArray[np.float64] = -(lean * weights).sum(axis=(1, 2))
    return evidence


def seems_exchanged(crops: NDArray[np.uint8]) -> bool:
    """Return whether crops (n, size, size, 3) of one source seem to be BGR instead of RGB."""
    if crops.ndim < 4 or len(crops) == 0 or crops.shape[1] < CELLS:
        return False
    return float(np.clip(bgr_evidence(crops), -_MOST, _MOST).sum()) > ENOUGH


def warn_if_exchanged(crops: NDArray[np.uint8], *, bgr: bool, stacklevel: int = 3) -> None:
    """Warn if crops of arrays, RGB by now, seem to have red and blue exchanged.

    `bgr` is what the caller said of the arrays.
    """
    if not seems_exchanged(crops):
        return
    if bgr:
        expected, got, cure = "blue, green, red", "red, green, blue", "leave bgr=True out"
    else:
        expected, got, cure = "red, green, blue", "blue, green, red", "pass bgr=True"
    message: Any = ColourOrderWarning(
        f"image: expected the colours of an array in the order {expected}, got what looks like "
        f"{got}; {cure} if it is (OpenCV reads blue first)"
    )
    warnings.warn(message, stacklevel=stacklevel)
