"""What the first layer of a network makes of a face."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import nn, no_grad
from tinygrad_mask.masks.classifier.network.classifier import Classifier


def first_layer_maps(
    classifier: Classifier, crops: NDArray[np.uint8]
) -> NDArray[np.float32] | None:
    """Return what the first convolution gives for crops (n, s, s, 3), (n, h, w, channels).

    None where the first layer that has weights is no convolution, as in the perceptron.
    """
    layers = classifier.model.modules()
    first = next((layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)), None)
    if not isinstance(first, nn.Conv2d):
        return None
    with no_grad():
        device = first.weight.device
        maps: NDArray[np.float32] = first(classifier.inputs(crops).to(device)).numpy()
    return maps


def surest_of_each(labels: NDArray[np.int64], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Return, for each class that occurs, the position of the face surest to be of it.

    Labels (n,) are the true classes, probabilities (n, 3) what the model said.
    """
    of_truth = probabilities[np.arange(len(labels)), labels]
    return np.array(
        [np.where(labels == c, of_truth, -1.0).argmax() for c in np.unique(labels)], np.int64
    )
