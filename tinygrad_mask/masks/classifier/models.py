"""The networks that tell how a mask is worn: crops (N, size, size, 3) in, scores (N, 3) out."""

from dataclasses import dataclass

import numpy as np

from tinygrad_mask import nn
from tinygrad_mask.masks.labels import LABELS

KINDS = ("cnn", "mlp")


@dataclass(frozen=True)
class Architecture:
    """What has to be known to build a model again; part of every saved model.

    `kind` is one of `KINDS`, `image_size` the side of its input in pixels, `channels` those of the
    convolutions (none for the perceptron), `hidden` the width of the hidden layer, `dropout` the
    share of the hidden layer dropped in training. Raises `ValueError` for what cannot be built.
    """

    kind: str
    image_size: int
    channels: tuple[int, ...] = ()
    hidden: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.kind not in KINDS:
            raise ValueError(f"model: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        least = 2 ** len(self.channels)
        if self.image_size < least:
            raise ValueError(
                f"model: expected an image size of at least {least} pixels for "
                f"{len(self.channels)} poolings, got {self.image_size}"
            )


def architecture_of(kind: str, image_size: int) -> Architecture:
    """Return the architecture that `cnn` or `mlp` stands for, at an image size in pixels."""
    if kind == "cnn":
        return Architecture("cnn", image_size, channels=(32, 64, 128), hidden=128, dropout=0.2)
    return Architecture(kind, image_size, hidden=256)


def build_model(architecture: Architecture, rng: np.random.Generator) -> nn.Sequential:
    """Build a model with initial weights (and dropout) drawn from `rng`.

    The convolutional network is three times convolution, relu and pooling, then two dense layers.
    The perceptron is that of the slides, `y_hat = W2 sigmoid(W1 x)`, without biases.
    """
    size, hidden = architecture.image_size, architecture.hidden
    if architecture.kind == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(size * size * 3, hidden, bias=False, init=nn.init.glorot_uniform, rng=rng),
            nn.Sigmoid(),
            nn.Linear(hidden, len(LABELS), bias=False, init=nn.init.glorot_uniform, rng=rng),
        )
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in architecture.channels:
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding="same", rng=rng),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        inputs, size = outputs, size // 2
    layers += [
        nn.Flatten(),
        nn.Linear(size * size * inputs, hidden, rng=rng),
        nn.ReLU(),
        nn.Dropout(architecture.dropout, rng=rng),
        nn.Linear(hidden, len(LABELS), init=nn.init.glorot_uniform, rng=rng),
    ]
    return nn.Sequential(*layers)
