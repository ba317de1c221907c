"""What the detector's training minimises: heat, boxes and labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import Tensor
from tinygrad_mask import functions as F
from tinygrad_mask.masks.detector.network.architecture import BOX, FACE, LABEL, STRIDE
from tinygrad_mask.masks.detector.network.decoding import LOG_DISTANCE, cell_centres
from tinygrad_mask.masks.detector.training.targets import HeatMapTargets


@dataclass(frozen=True)
class DetectorLoss:
    """The parts of the loss, each of shape (); their weighted `total` is what is minimised."""

    heat: Tensor
    box: Tensor
    label: Tensor

    def total(self, *, box: float, label: float) -> Tensor:
        """Return the sum of the parts, those of the box and of the label with these weights."""
        return self.heat + box * self.box + label * self.label


def detector_loss(
    output: Tensor, targets: HeatMapTargets, label_weights: NDArray[np.float32]
) -> DetectorLoss:
    """Return the loss of output maps (N, H, W, 8).

    `label_weights` (3,) say how much a face of each of `LABELS` counts. Box and label are averaged
    over the cells that belong to a face, weighted; without one they are 0.
    """
    n, height, width, channels = output.shape
    dtype = output.dtype
    cells = output.reshape(n * height * width, channels)
    heat = focal_loss(cells[:, FACE.start], targets.heat.ravel(), targets.ignored.ravel())
    weight = targets.weight.ravel()
    taught = np.flatnonzero(weight)
    if not len(taught):
        nothing = (cells[:0] * 0).sum()
        return DetectorLoss(heat, nothing, nothing)
    weight = (weight[taught] / weight.sum()).astype(dtype)
    chosen = cells[taught]
    centres = cell_centres(taught // width % height, taught % width)
    iou = generalised_iou(chosen[:, BOX], centres, targets.box.reshape(-1, 4)[taught])
    labels = targets.label.ravel()[taught]
    label_weight = np.zeros((len(taught), len(label_weights)), dtype)
    label_weight[np.arange(len(taught)), labels] = weight * label_weights[labels]
    label = -(F.log_softmax(chosen[:, LABEL]) * label_weight).sum()
    return DetectorLoss(heat, ((1 - iou) * weight).sum(), label)


def focal_loss(logits: Tensor, heat: NDArray[np.float32], ignored: NDArray[np.float32]) -> Tensor:
    """Return the penalty-reduced focal loss per face (CornerNet, Law and Deng 2018, equation 1).

    All three arguments have one entry per cell. With p the sigmoid of the logit it is the sum over
    centres (heat 1) of `-(1 - p)^2 log p` and over all other cells that are not ignored of
    `-(1 - heat)^4 p^2 log(1 - p)`, divided by the number of centres (at least 1).
    """
    centre = (heat == 1).astype(logits.dtype)
    background = ((1 - centre) * (1 - ignored) * (1 - heat) ** 4).astype(logits.dtype)
    p = F.sigmoid(logits)
    # log p = min(z, 0) - log(1 + exp(-|z|)), which no logit overflows
    tail = F.log(1 + F.exp(-F.abs(logits)))
    log_p = F.minimum(logits, 0.0) - tail
    log_not_p = log_p - logits
    loss = (1 - p) ** 2 * log_p * centre + p**2 * log_not_p * background
    return -loss.sum() / max(float(centre.sum()), 1.0)


def generalised_iou(
    logarithms: Tensor, centres: NDArray[np.float32], boxes: NDArray[np.float32]
) -> Tensor:
    """Return the generalised intersection over union (Rezatofighi et al. 2019) of n boxes, (n,).

    `logarithms` (n, 4) is what n cells predict, `centres` (n, 2) where they are, `boxes` (n, 4)
    the true ones, which must contain the centres; both in pixels.
    """
    distance = F.exp(F.clip(logarithms, *LOG_DISTANCE)) * float(STRIDE)
    wanted = np.concatenate([centres - boxes[:, :2], boxes[:, 2:] - centres], axis=1)
    wanted = wanted.astype(logarithms.dtype)
    inner, outer = F.minimum(distance, wanted), F.maximum(distance, wanted)
    # Along each axis both boxes contain the centre, so that their overlap is the sum of the
    # shorter distances to either side and their hull that of the longer ones. A centre a little
    # outside of a true box makes an overlap negative; it is then empty.
    overlap = F.maximum(inner[:, :2] + inner[:, 2:], 0.0)
    hull = outer[:, :2] + outer[:, 2:]
    intersection = overlap[:, 0] * overlap[:, 1]
    predicted = (distance[:, 0] + distance[:, 2]) * (distance[:, 1] + distance[:, 3])
    true = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).astype(logarithms.dtype)
    union = predicted + true - intersection
    area = hull[:, 0] * hull[:, 1]
    return intersection / union - (area - union) / area
