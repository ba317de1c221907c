"""Where in a face the model looked, from the gradient of its answer by the pixels."""

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import Tensor
from tinygrad_mask import functions as F
from tinygrad_mask.masks.classifier.network.classifier import Classifier

_BATCH = 128


def saliency(
    classifier: Classifier,
    crops: NDArray[np.uint8],
    classes: NDArray[np.int64],
    *,
    samples: int = 24,
    noise: float = 0.1,
    rng: np.random.Generator,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Return how much each pixel matters for the log odds of a class, (n, size, size), from 0 on.

    SmoothGrad (Smilkov, Thorat, Kim, Viegas and Wattenberg 2017, 'SmoothGrad: removing noise by
    adding noise'): the mean gradient over `samples` copies of a crop, each with normal noise of
    standard deviation `noise` times the crop's own range of values; then the length of each pixel's
    gradient over its three colours. The log odds of class c are the score z_c less the
    log-sum-exp of the others', `log p_c / (1 - p_c)` at temperature 1: unlike the probability they
    have a slope however sure the answer is, and unlike the score alone they do not change with what
    is added to all three. They are those of the crop itself, also where the classifier asks about
    its mirror image too.

    Args:
        classifier: the model asked; its parameters' gradients are left as they are.
        crops: uint8, shape `(n, size, size, 3)`.
        classes: class indices, shape `(n,)`: the answer to explain, usually the most probable.
        samples: copies a crop, at least 1.
        noise: 0 for the plain gradient of the crop itself, of which one sample is enough.
        rng: draws the noise.
        device: where to compute.
    """
    if samples < 1 or noise < 0:
        raise ValueError(
            f"saliency: expected at least 1 sample and noise from 0 on, got {samples} and {noise:g}"
        )
    inputs = classifier.inputs(crops).numpy()
    spread = noise * (inputs.max(axis=(1, 2, 3)) - inputs.min(axis=(1, 2, 3)))
    total = np.zeros_like(inputs)
    classifier.model.eval()
    parameters = classifier.model.parameters()
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:  # the pixels' gradient is all that is wanted
            parameter.requires_grad_(False)
        for _ in range(samples):
            grain = rng.standard_normal(inputs.shape, np.float32) * spread[:, None, None, None]
            total += _gradient(classifier, inputs + grain, classes, device)
    finally:
        for parameter, was in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(was)
    # Each colour was divided by its deviation; this is by the pixels themselves.
    scale = 1 / np.asarray(classifier.normalisation.std, np.float32)
    length: NDArray[np.float32] = np.linalg.norm(total * scale / samples, axis=-1)
    return length


def _gradient(
    classifier: Classifier,
    inputs: NDArray[np.float32],
    classes: NDArray[np.int64],
    device: str,
) -> NDArray[np.float32]:
    """The gradient (n, size, size, 3) of each input's own log odds, a batch at a time."""
    parts = [np.zeros((0, *inputs.shape[1:]), np.float32)]
    for start in range(0, len(inputs), _BATCH):
        batch = slice(start, start + _BATCH)
        x = Tensor(inputs[batch], device=device).requires_grad_()
        scores = classifier.model(x)
        of_class = np.eye(scores.shape[1], dtype=np.float32)[classes[batch]]
        own = Tensor(of_class, device=device)
        # Masked out of the log-sum-exp by a score so low that it adds nothing.
        others = F.logsumexp(scores + own * -1e4, axis=-1)
        # Crops of a batch do not mix, so the gradient of the sum is that of each.
        ((scores * own).sum() - others.sum()).backward()
        assert x.grad is not None
        parts.append(x.grad.numpy())
    return np.concatenate(parts)
