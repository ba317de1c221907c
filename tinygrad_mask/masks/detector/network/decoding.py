"""From the network's output map to boxes, and back from cells to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.detector.network.architecture import BOX, FACE, LABEL, STRIDE

LOG_DISTANCE = (-4.0, 5.5)
"""The range of the predicted logarithms: from a fifteenth of a pixel to 980 pixels."""

NMS_THRESHOLD = 0.45
"""The intersection over union from which on two boxes are taken for the same face."""

MOST_CELLS = 1000
"""How many cells are looked at before non-maximum suppression, the most certain ones."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Faces found in one photograph, most certain first.

    `boxes` (n, 4) are x1, y1, x2, y2 in pixels, `scores` (n,) the probabilities that there is a
    face, `labels` (n, 3) the probabilities of each of `LABELS` if there is one; all float32.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.scores)

    def __getitem__(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Detections":
        """Return some of the faces, in the order asked for."""
        return Detections(self.boxes[which], self.scores[which], self.labels[which])


def decode(output: NDArray[np.float32], least_score: float, most: int = MOST_CELLS) -> Detections:
    """Return the faces in an output map (H, W, 8), in pixels of the network's input.

    A face is a cell whose probability is at least `least_score` and the highest among its eight
    neighbours; of those, non-maximum suppression drops the boxes that overlap a more certain one
    by `NMS_THRESHOLD`. At most the `most` most certain cells are looked at.
    """
    score = _sigmoid(output[..., FACE.start])
    rows, columns = np.nonzero((score >= least_score) & (score >= _neighbourhood_maximum(score)))
    order = np.argsort(-score[rows, columns], kind="stable")[:most]
    rows, columns = rows[order], columns[order]
    cells = output[rows, columns]
    boxes = cell_boxes(rows, columns, cells[:, BOX])
    scores = score[rows, columns]
    labels = np.exp(cells[:, LABEL] - cells[:, LABEL].max(axis=1, keepdims=True))
    labels /= labels.sum(axis=1, keepdims=True)
    return without_doubles(Detections(boxes, scores, labels))


def join(parts: Sequence[Detections]) -> Detections:
    """Return all the faces of several looks at one photograph, in no order."""
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def without_doubles(found: Detections) -> Detections:
    """Return the faces that non-maximum suppression keeps, most certain first."""
    return found[nms(found.boxes, found.scores, NMS_THRESHOLD)]


def cell_boxes(
    rows: NDArray[np.int64], columns: NDArray[np.int64], logarithms: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the boxes (n, 4) in pixels that n cells predict, from their logarithms (n, 4)."""
    distance = np.exp(np.clip(logarithms, *LOG_DISTANCE)) * np.float32(STRIDE)
    centre = cell_centres(rows, columns)
    return np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1)


def cell_centres(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the centres (n, 2), x and y in pixels of the input, of cells of the output map."""
    return (np.stack([columns, rows], axis=1).astype(np.float32) + np.float32(0.5)) * STRIDE


def nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Return the positions of the boxes that are kept, most certain first.

    Greedy non-maximum suppression: the most certain box is kept, all whose intersection over union
    with it is at least `threshold` are dropped, and so on with the rest. Of equal scores the first
    is kept.
    """
    order = np.argsort(-scores, kind="stable")
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        corner = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        inside = np.maximum(corner - np.maximum(boxes[best, :2], boxes[rest, :2]), 0)
        intersection = np.prod(inside, axis=1)
        union = area[best] + area[rest] - intersection
        order = rest[intersection < threshold * union]
    return np.array(kept, dtype=np.int64)


def _neighbourhood_maximum(score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each cell (H, W) the maximum over it and its eight neighbours."""
    for axis in (0, 1):
        padded = np.pad(score, [(1, 1) if k == axis else (0, 0) for k in (0, 1)])
        count = score.shape[axis]
        shifted = [np.take(padded, range(k, k + count), axis) for k in range(3)]
        score = np.maximum(np.maximum(shifted[0], shifted[1]), shifted[2])
    return score


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = x.clip(-60, 60)  # beyond, the probability is 0 or 1 in float32
    return np.float32(1) / (np.float32(1) + np.exp(-clipped))
