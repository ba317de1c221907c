"""Fit and measure what notices that red and blue are exchanged (masks/colour_order.py).

    python studies/colour_order.py --data FOLDER ... [--measure FOLDER ...]

Fits the weights to the faces of `--data` by logistic regression: of two copies of each crop, one
with red and blue exchanged, tell which is which. Prints them, and how many faces of each data set
are noticed exchanged, and wrongly doubted as they are.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks import colour_order
from tinygrad_mask.masks.classifier.runs.loading import load
from tinygrad_mask.masks.crops import CropSettings

STEPS, RATE, DECAY = 1500, 4.0, 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, metavar="PATH")
    parser.add_argument("--measure", action="append", default=[], metavar="PATH")
    arguments = parser.parse_args()
    crops = {path: crops_of(path) for path in (*arguments.data, *arguments.measure)}
    colour_order.WEIGHTS = fit([crops[path] for path in arguments.data])
    print(np.array2string(colour_order.WEIGHTS, separator=", ", precision=1))
    for path, of in crops.items():
        right, exchanged = (colour_order.bgr_evidence(pixels) for pixels in (of, of[..., ::-1]))
        enough = colour_order.ENOUGH
        print(
            f"{path}: {len(of)} faces, {(exchanged > enough).mean():.1%} noticed exchanged, "
            f"{(right > enough).mean():.1%} doubted as they are"
        )


def crops_of(path: str) -> NDArray[np.uint8]:
    """Return the crops of all faces of a data set, 48 x 48 pixels."""
    classes = {"with_incorrect_mask": "improper"}
    loaded = load(
        [path], CropSettings(48), min_face=0, classes=classes, other_coverings=None, seed=0
    )
    return np.array(loaded.faces.crops)


def fit(sets: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the weights, each data set counting the same."""
    colour_order.WEIGHTS = np.zeros((colour_order.CELLS, colour_order.CELLS // 2))
    features, share = [], []
    for pixels in sets:
        features.append(np.stack([evidence_of_cell(pixels, k) for k in range(18)], axis=1))
        share.append(np.full(len(pixels), 1 / len(pixels)))
    x, weight = np.concatenate(features), np.concatenate(share)
    weight /= weight.sum()
    found = np.zeros(18)
    for _ in range(STEPS):
        doubt = 1 / (1 + np.exp(x @ found))  # the probability of the wrong order
        found += RATE * ((x * (doubt * weight)[:, None]).sum(axis=0) - DECAY * found)
    return np.round(found.reshape(colour_order.CELLS, -1), 1)


def evidence_of_cell(pixels: NDArray[np.uint8], cell: int) -> NDArray[np.float64]:
    """Return the evidence for RGB of one cell with the weight 1."""
    colour_order.WEIGHTS = np.eye(18)[cell].reshape(colour_order.CELLS, -1)
    return -colour_order.bgr_evidence(pixels)


if __name__ == "__main__":
    main()
