"""What the deeper networks are made of: convolutions with batch normalisation, in three ways."""

from collections.abc import Callable

import numpy as np

from tinygrad_mask import Tensor, nn
from tinygrad_mask import functions as F

Block = Callable[[int, int, np.random.Generator], list[nn.Module]]
"""From the channels that come in, those that go out and `rng` to the layers of a block; it keeps
the size of the image."""


def plain(inputs: int, outputs: int, rng: np.random.Generator) -> list[nn.Module]:
    """Return 3x3 convolution, batch norm and relu (as in VGG, Simonyan and Zisserman 2015)."""
    return [*_convolution(inputs, outputs, rng), nn.ReLU()]


def separable(inputs: int, outputs: int, rng: np.random.Generator) -> list[nn.Module]:
    """Return a depthwise separable convolution (MobileNet, Howard et al. 2017): 3x3, then 1x1."""
    return [
        nn.Conv2d(inputs, inputs, 3, padding="same", groups=inputs, bias=False, rng=rng),
        nn.BatchNorm(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False, rng=rng),
        nn.BatchNorm(outputs),
        nn.ReLU(),
    ]


def residual(inputs: int, outputs: int, rng: np.random.Generator) -> list[nn.Module]:
    """Return a residual block (ResNet, He et al. 2016)."""
    return [Residual(inputs, outputs, rng)]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a short cut, `relu(f(x) + s(x))`.

    The short cut s is x itself where the channels stay as many, else a 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_convolution(inputs, outputs, rng),
            nn.ReLU(),
            *_convolution(outputs, outputs, rng),
        )
        self.short_cut = (
            None
            if inputs == outputs
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False, rng=rng), nn.BatchNorm(outputs)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, inputs) to (N, H, W, outputs)."""
        beside = x if self.short_cut is None else self.short_cut(x)
        return F.relu(self.main(x) + beside)


def _convolution(inputs: int, outputs: int, rng: np.random.Generator) -> list[nn.Module]:
    # Without a bias: batch norm subtracts the mean, and has one of its own.
    return [
        nn.Conv2d(inputs, outputs, 3, padding="same", bias=False, rng=rng),
        nn.BatchNorm(outputs),
    ]


BLOCKS: dict[str, Block] = {"vgg": plain, "resnet": residual, "mobilenet": separable}
"""The block of each kind of network that is built of stages."""
