"""The networks that tell how a mask is worn: crops (N, size, size, 3) in, scores (N, 3) out."""

from dataclasses import dataclass

import numpy as np

from tinygrad_mask import nn
from tinygrad_mask.masks.classifier.network.blocks import BLOCKS, plain
from tinygrad_mask.masks.labels import LABELS

_MOST = 8192  # channels, pixels or blocks

KINDS = ("cnn", "mlp", *BLOCKS)


@dataclass(frozen=True)
class Architecture:
    """What has to be known to build a model again; part of every saved model.

    `kind` is one of `KINDS`, `image_size` the side of its input in pixels, `channels` those of the
    convolutions or, in `vgg`, `resnet` and `mobilenet`, of the stages (none for the perceptron),
    `hidden` the width of the hidden layer, `dropout` the share of the last layer's inputs dropped
    in training, `depths` the number of blocks of each stage, the first convolution not counted.
    Raises `ValueError` for what cannot be built.
    """

    kind: str
    image_size: int
    channels: tuple[int, ...] = ()
    hidden: int = 128
    dropout: float = 0.0
    depths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.kind not in KINDS:
            raise ValueError(f"model: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected at least 0, below 1, got {self.dropout}")
        staged = self.kind in BLOCKS
        if len(self.depths) != (len(self.channels) if staged else 0) or (
            staged and min(self.depths, default=0) < 1
        ):
            raise ValueError(
                f"model: expected a depth for each stage of {self.kind} and none for others, got "
                f"{self.depths} for channels {self.channels}"
            )
        poolings = len(self.channels) - staged
        least = 2**poolings
        if self.image_size < least:
            raise ValueError(
                f"model: expected an image size of at least {least} pixels for "
                f"{poolings} poolings, got {self.image_size}"
            )
        sizes = {"image_size": (self.image_size,), "hidden": (self.hidden,)}
        for name, values in (sizes | {"channels": self.channels, "depths": self.depths}).items():
            if not all(0 < value <= _MOST for value in values):
                raise ValueError(f"{name}: expected 1 to {_MOST}, got {values}")

    def least_weights(self) -> int:
        """Return a number of weights that the model has at least, without building it."""
        if self.kind == "mlp":
            return 3 * self.image_size**2 * self.hidden
        factor = {"mobilenet": 1, "resnet": 18}.get(self.kind, 9)
        pairs = zip(self.channels, self.channels[1:], strict=False)
        weights = sum(inputs * outputs for inputs, outputs in pairs) * min(factor, 9)
        for width, depth in zip(self.channels, self.depths, strict=False):
            weights += factor * width**2 * (depth - 1)
        if self.kind == "cnn":
            side = self.image_size >> len(self.channels)
            weights += side**2 * self.channels[-1] * self.hidden if self.channels else 0
        return weights


def architecture_of(kind: str, image_size: int) -> Architecture:
    """Return the architecture that one of `KINDS` stands for, at an image size in pixels."""
    if kind == "cnn":
        return Architecture("cnn", image_size, channels=(32, 64, 128), hidden=128, dropout=0.2)
    if kind == "mlp":
        return Architecture(kind, image_size, hidden=256)
    channels, depths = {
        "vgg": ((32, 64, 96), (1, 2, 3)),
        "resnet": ((32, 64, 96), (1, 1, 1)),
        "mobilenet": ((32, 64, 128, 256), (1, 2, 2, 2)),
    }.get(kind, ((), ()))
    return Architecture(kind, image_size, channels=channels, dropout=0.2, depths=depths)


def build_model(architecture: Architecture, rng: np.random.Generator) -> nn.Sequential:
    """Build a model with initial weights (and dropout) drawn from `rng`.

    `cnn` is three times convolution, relu and pooling, then two dense layers. The perceptron is
    that of the slides, `y_hat = W2 sigmoid(W1 x)`, without biases. The others are a convolution and
    stages of blocks (see `BLOCKS`) with pooling between them, then the mean over the image and one
    dense layer.
    """
    if architecture.kind == "mlp":
        return _perceptron(architecture, rng)
    if architecture.kind == "cnn":
        return _slides_network(architecture, rng)
    block = BLOCKS[architecture.kind]
    inputs = architecture.channels[0]
    layers = plain(3, inputs, rng)
    for stage, (outputs, depth) in enumerate(
        zip(architecture.channels, architecture.depths, strict=True)
    ):
        if stage > 0:
            layers.append(nn.MaxPool2d(2))
        for _ in range(depth):
            layers += block(inputs, outputs, rng)
            inputs = outputs
    return nn.Sequential(
        *layers,
        nn.GlobalAvgPool2d(),
        nn.Dropout(architecture.dropout, rng=rng),
        nn.Linear(inputs, len(LABELS), init=nn.init.glorot_uniform, rng=rng),
    )


def _perceptron(architecture: Architecture, rng: np.random.Generator) -> nn.Sequential:
    size, hidden = architecture.image_size, architecture.hidden
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(size * size * 3, hidden, bias=False, init=nn.init.glorot_uniform, rng=rng),
        nn.Sigmoid(),
        nn.Linear(hidden, len(LABELS), bias=False, init=nn.init.glorot_uniform, rng=rng),
    )


def _slides_network(architecture: Architecture, rng: np.random.Generator) -> nn.Sequential:
    size, hidden = architecture.image_size, architecture.hidden
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
