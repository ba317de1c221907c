"""From the boxes of an image to what each cell of the output map is taught.

A face's centre cell is the positive example. Around it the heat falls off as a Gaussian whose
widths are proportional to the box's, and a negative example counts the less the hotter its cell is
(CenterNet, Zhou et al. 2019). The cells of the Gaussian's core all learn the box and the label,
each weighted by its heat, and each face weighted by the logarithm of its area (TTFNet, Liu et al.
2020): a network that is taught by several cells per face learns in a fraction of the steps.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.detector.network.architecture import STRIDE

_SIGMA = 0.09
"""Standard deviation of the heat, as a share of the box's width and height (TTFNet: 0.54 / 6)."""

_LEAST_SIGMA = 0.4  # cells; the smallest faces still teach the neighbours of their centre a little
_CORE = 0.15  # cells hotter than this learn the box


@dataclass(frozen=True, eq=False)
class HeatMapTargets:
    """What the cells of one output map (H, W), or of a batch of them (N, H, W), are taught.

    `heat` in [0, 1], float32, is 1 at a face's centre; `ignored` is 1 where a cell is taught no
    heat, because a face is there that is too small to learn from; `box` (..., 4) in pixels of the
    input and `label`, int64, are those of the face that a cell belongs to; `weight` is how much
    that cell's box and label count, 0 for a cell of no face.
    """

    heat: NDArray[np.float32]
    ignored: NDArray[np.float32]
    box: NDArray[np.float32]
    label: NDArray[np.int64]
    weight: NDArray[np.float32]

    @classmethod
    def stack(cls, targets: "list[HeatMapTargets]") -> "HeatMapTargets":
        """Return the targets of a batch, with an axis of images in front."""
        return cls(*(np.stack([vars(t)[name] for t in targets]) for name in vars(targets[0])))


def make_targets(
    size: tuple[int, int],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    ignored: NDArray[np.float32],
    min_face: float,
) -> HeatMapTargets:
    """Return the targets of an image of `size` (height, width) pixels, multiples of the stride.

    `boxes` (n, 4) and `labels` (n,) are its faces, `ignored` (m, 4) regions that are neither face
    nor background. A face whose shorter side is under `min_face` pixels is such a region too. Where
    faces overlap, a cell belongs to the smaller one.
    """
    height, width = size[0] // STRIDE, size[1] // STRIDE
    targets = HeatMapTargets(
        heat=np.zeros((height, width), np.float32),
        ignored=np.zeros((height, width), np.float32),
        box=np.zeros((height, width, 4), np.float32),
        label=np.zeros((height, width), np.int64),
        weight=np.zeros((height, width), np.float32),
    )
    sides = boxes[:, 2:] - boxes[:, :2]
    small = sides.min(axis=1, initial=np.inf) < min_face
    for region in [*ignored, *boxes[small]]:
        left, top = np.maximum(region[:2] // STRIDE, 0).astype(int)
        right, bottom = np.ceil(region[2:] / STRIDE).astype(int)
        targets.ignored[top : max(bottom, top), left : max(right, left)] = 1
    order = np.argsort(-np.prod(sides, axis=1), kind="stable")
    for k in order[~small[order]]:
        _add_face(targets, boxes[k], int(labels[k]))
    return targets


def _add_face(targets: HeatMapTargets, box: NDArray[np.float32], label: int) -> None:
    height, width = targets.heat.shape
    face_width, face_height = (float(side) for side in box[2:] - box[:2])
    column = _cell((box[0] + box[2]) / 2, width)
    row = _cell((box[1] + box[3]) / 2, height)
    sigma_x = max(_SIGMA * face_width / STRIDE, _LEAST_SIGMA)
    sigma_y = max(_SIGMA * face_height / STRIDE, _LEAST_SIGMA)
    reach_x, reach_y = int(3 * sigma_x) + 1, int(3 * sigma_y) + 1
    rows = slice(max(row - reach_y, 0), row + reach_y + 1)
    columns = slice(max(column - reach_x, 0), column + reach_x + 1)
    y = np.arange(height)[rows, None] - row
    x = np.arange(width)[None, columns] - column
    heat = np.exp(-(x**2) / (2 * sigma_x**2) - y**2 / (2 * sigma_y**2)).astype(np.float32)
    targets.heat[rows, columns] = np.maximum(targets.heat[rows, columns], heat)
    core = heat > _CORE
    counts = math.log(max(face_width * face_height, math.e))
    targets.weight[rows, columns][core] = heat[core] / heat[core].sum() * counts
    targets.box[rows, columns][core] = box
    targets.label[rows, columns][core] = label


def _cell(position: float, count: int) -> int:
    """Return the cell, of `count` along an axis, that holds a position in pixels."""
    return min(max(int(position // STRIDE), 0), count - 1)
