"""The detector's network: photographs (N, H, W, 3) in, one map of stride 4 out.

An encoder halves the image five times. A decoder brings the coarse maps back up and adds each to
the finer one (a feature pyramid, Lin et al. 2017), of which only the finest level, stride 4, is
used: most faces in photographs of crowds are a few pixels wide. Each cell of the map predicts eight
numbers (CenterNet, Zhou et al. 2019; the box parametrisation is that of TTFNet, Liu et al. 2020):

    0      logit of 'a face has its centre here'
    1..4   logarithms of the distances from the cell's centre to the face's left, top, right and
           bottom edges, in strides
    5..7   scores of the labels, in the order of `LABELS`
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_mask import Tensor, nn
from tinygrad_mask import functions as F
from tinygrad_mask.masks.labels import LABELS

STRIDE = 4
"""Pixels of the input per cell of the output, along each axis."""

LARGEST_STRIDE = 32
"""Heights and widths of the input are multiples of this, so that every halving is exact."""

FACE, BOX, LABEL = slice(0, 1), slice(1, 5), slice(5, 5 + len(LABELS))
"""The channels of the output map."""

_MOST = 8192  # channels or blocks
_OUTPUTS = LABEL.stop
_INITIAL_FACE_PROBABILITY = 0.02  # faces are rare: without this the first steps are all background
_INITIAL_DISTANCE = 2.0  # strides; a face of 16 pixels


@dataclass(frozen=True)
class DetectorArchitecture:
    """The numbers that a detector's network is built from; part of every saved model.

    `channels` are those of the five maps of strides 2, 4, 8, 16 and 32, `depths` the number of 3x3
    convolutions at strides 4, 8, 16 and 32, `head` the channels of the map of stride 4 from which
    the predictions are made. Raises `ValueError` for sizes that cannot be built.
    """

    channels: tuple[int, ...] = (16, 40, 80, 112, 128)
    depths: tuple[int, ...] = (2, 2, 2, 1)
    head: int = 48

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if len(self.channels) != 5 or len(self.depths) != 4:
            raise ValueError(
                "detector: expected 5 channels and 4 depths, got "
                f"{len(self.channels)} and {len(self.depths)}"
            )
        if max(*self.channels, *self.depths, self.head) > _MOST:
            raise ValueError(
                f"detector: expected channels, depths and head of at most {_MOST}, got "
                f"{self.channels}, {self.depths} and {self.head}"
            )
        if min(*self.channels, *self.depths, self.head) < 1:
            raise ValueError(
                "detector: expected channels, depths and head of at least 1, got "
                f"{self.channels}, {self.depths} and {self.head}"
            )

    def least_weights(self) -> int:
        """Return a number of weights that the network has at least, without building it."""
        return sum(
            9 * outputs * (inputs + outputs * (depth - 1))
            for inputs, outputs, depth in zip(
                self.channels, self.channels[1:], self.depths, strict=False
            )
        )


class FaceDetector(nn.Module):
    """Map photographs (N, H, W, 3) to predictions (N, H / 4, W / 4, 8); see the module's head.

    H and W are multiples of `LARGEST_STRIDE`.
    """

    def __init__(self, architecture: DetectorArchitecture, rng: np.random.Generator) -> None:
        super().__init__()
        c2, c4, c8, c16, c32 = architecture.channels
        d4, d8, d16, d32 = architecture.depths
        head = architecture.head
        self.stem = nn.Sequential(
            *_convolution(3, c2, rng, stride=2), *_convolution(c2, c4, rng, stride=2)
        )
        self.stage4 = _stage(c4, c4, d4, rng)
        self.stage8 = _stage(c4, c8, d8, rng, halve=True)
        self.stage16 = _stage(c8, c16, d16, rng, halve=True)
        self.stage32 = _stage(c16, c32, d32, rng, halve=True)
        self.lateral32 = nn.Sequential(*_convolution(c32, c16, rng, kernel_size=1))
        self.lateral16 = nn.Sequential(*_convolution(c16, c16, rng, kernel_size=1))
        self.merge16 = nn.Sequential(*_convolution(c16, c8, rng, kernel_size=1))
        self.lateral8 = nn.Sequential(*_convolution(c8, c8, rng, kernel_size=1))
        self.merge8 = nn.Sequential(*_convolution(c8, head, rng))
        self.lateral4 = nn.Sequential(*_convolution(c4, head, rng, kernel_size=1))
        self.head = nn.Sequential(*_convolution(head, head, rng), *_convolution(head, head, rng))
        self.predict = nn.Conv2d(head, _OUTPUTS, 1, rng=rng)
        bias = np.zeros(_OUTPUTS, np.float32)
        bias[FACE] = np.log(_INITIAL_FACE_PROBABILITY / (1 - _INITIAL_FACE_PROBABILITY))
        bias[BOX] = np.log(_INITIAL_DISTANCE)
        self.predict.load_state_dict(
            {"weight": self.predict.state_dict()["weight"] * np.float32(0.1), "bias": bias}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, 3) to predictions (N, H / 4, W / 4, 8)."""
        if x.ndim != 4 or x.shape[1] % LARGEST_STRIDE or x.shape[2] % LARGEST_STRIDE:
            raise ValueError(
                f"FaceDetector: expected an input (N, H, W, 3) with H and W multiples of "
                f"{LARGEST_STRIDE}, got shape {x.shape}"
            )
        map4 = self.stage4(self.stem(x))
        map8 = self.stage8(map4)
        map16 = self.stage16(map8)
        map32 = self.stage32(map16)
        up16 = self.merge16(self.lateral16(map16) + double(self.lateral32(map32)))
        up8 = self.merge8(self.lateral8(map8) + double(up16))
        return self.predict(self.head(self.lateral4(map4) + double(up8)))


def double(x: Tensor) -> Tensor:
    """Return x (N, H, W, C) with every pixel four times: (N, 2 H, 2 W, C)."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _stage(
    inputs: int, outputs: int, depth: int, rng: np.random.Generator, *, halve: bool = False
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if halve else []
    for k in range(depth):
        layers += _convolution(outputs if k else inputs, outputs, rng)
    return nn.Sequential(*layers)


def _convolution(
    inputs: int, outputs: int, rng: np.random.Generator, *, kernel_size: int = 3, stride: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(
            inputs,
            outputs,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=False,
            rng=rng,
        ),
        nn.BatchNorm(outputs),
        nn.ReLU(),
    ]
