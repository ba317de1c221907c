"""What is computed: the networks of the training step, and the shapes of the single kernels.

Here are only descriptions and data, the same for every side; `side_ours.py` and `side_torch.py`
compute them. Arrays are NHWC and HWIO. Multiplications and additions are counted as those of the
definition, done directly, also where an algorithm needs fewer.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

# --- networks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network and how it is trained, with momentum and weight decay where they are not 0.

    `cnn`: three times convolution 3x3, activation and 2x2 max-pooling, then two dense layers, an
    activation between them; cross-entropy. `mlp`: two dense layers without biases, an activation
    between them; 1/N sum 1/2 ||y_hat - y||^2.
    """

    kind: str
    activation: str
    batch: int
    hidden: int
    channels: tuple[int, ...] = ()
    size: int = 64
    classes: int = 3
    lr: float = 1e-4
    momentum: float = 0.0
    weight_decay: float = 0.0

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images, or rows of as many numbers, and what the network is to say of them."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, self.size, self.size, 3), dtype=np.float32)
        labels = rng.integers(0, self.classes, self.batch)
        if self.kind == "cnn":
            return x, labels
        return x.reshape(self.batch, -1), np.eye(self.classes, dtype=np.float32)[labels]

    def convolutions(self) -> list["Conv"]:
        """Return the convolutions."""
        sizes = [self.size >> k for k in range(len(self.channels))]
        inputs = (3, *self.channels)
        return [
            Conv(self.batch, side, side, c, o)
            for side, c, o in zip(sizes, inputs, self.channels, strict=False)
        ]

    def flattened(self) -> tuple[int, int, int]:
        """Return height, width and channels of what the first dense layer sees."""
        side = self.size >> len(self.channels)
        return side, side, self.channels[-1] if self.channels else 3

    def forward_flops(self, batch: int) -> int:
        """Return the operations of convolutions and dense layers in a forward pass."""
        dense = 2 * self.hidden * (math.prod(self.flattened()) + self.classes)
        return (
            batch * dense + sum(conv.flops() for conv in self.convolutions()) // self.batch * batch
        )

    def step_flops(self) -> int:
        """Return those of a step: forward, each weight's gradient, and each layer's input's, but
        for the first layer, whose input is the data.
        """
        convolutions = self.convolutions()
        inputs = math.prod(self.flattened())
        first = convolutions[0].flops() if convolutions else 2 * self.batch * inputs * self.hidden
        return 3 * self.forward_flops(self.batch) - first


def network(kind: str, activation: str) -> Network:
    """Return the network that is measured."""
    if kind == "cnn":
        return Network(
            "cnn", activation, 32, 128, channels=(32, 64, 128), momentum=0.9, weight_decay=1e-4
        )
    return Network("mlp", activation, 64, 256)


# --- kernels --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv:
    """A convolution of N images H x W from C to O channels; padding so that stride 1 keeps them.

    The window is square, unless `kernel_height` says that it is not.
    """

    n: int
    h: int
    w: int
    c: int
    o: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    kernel_height: int | None = None

    directions: ClassVar = ("forward", "grad_input", "grad_weight")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the window."""
        return self.kernel_height or self.kernel, self.kernel

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels above and below, and on either side."""
        height, width = self.size
        return self.dilation * (height // 2), self.dilation * (width // 2)

    def output_size(self) -> tuple[int, int]:
        """Return height and width of the result."""
        p, q = (
            (pixels + 2 * padding - self.dilation * (taps - 1) - 1) // self.stride + 1
            for pixels, taps, padding in zip((self.h, self.w), self.size, self.padding, strict=True)
        )
        return p, q

    def flops(self) -> int:
        """Return the operations of each of the three directions; padding counts too."""
        p, q = self.output_size()
        return 2 * self.n * p * q * math.prod(self.size) * self.c // self.groups * self.o

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return image, weight, bias and the result's gradient."""
        return standard_normal(
            (self.n, self.h, self.w, self.c),
            (*self.size, self.c // self.groups, self.o),
            (self.o,),
            (self.n, *self.output_size(), self.o),
        )

    def __str__(self) -> str:
        text = f"conv {self.size[0]}x{self.size[1]} {self.c}->{self.o}"
        if self.groups > 1:
            text += " depthwise" if self.groups == self.c else f" groups {self.groups}"
        if self.stride > 1:
            text += f" stride {self.stride}"
        if self.dilation > 1:
            text += f" dilation {self.dilation}"
        return f"{text}, {self.h}x{self.w}, batch {self.n}"


@dataclass(frozen=True)
class Pool:
    """Max- or average-pooling of N images H x W with C channels."""

    kind: str
    n: int
    h: int
    w: int
    c: int
    kernel: int = 2
    stride: int = 2
    padding: int = 0

    directions: ClassVar = ("forward", "grad_input")

    def output_size(self) -> tuple[int, int]:
        """Return height and width of the result."""
        reach = 2 * self.padding - self.kernel
        return (self.h + reach) // self.stride + 1, (self.w + reach) // self.stride + 1

    def bytes(self, direction: str) -> int:
        """Return the bytes of image and result; where the maxima were is not counted."""
        p, q = self.output_size()
        return 4 * self.n * self.c * (self.h * self.w + p * q)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return image and the result's gradient."""
        shape = (self.n, self.h, self.w, self.c)
        return standard_normal(shape, (self.n, *self.output_size(), self.c))

    def __str__(self) -> str:
        text = f"{self.kind} pool {self.kernel}x{self.kernel} stride {self.stride}"
        return f"{text}, {self.h}x{self.w}x{self.c}, batch {self.n}"


@dataclass(frozen=True)
class GroupNorm:
    """Group normalisation of N images H x W with C channels; of one pixel, layer normalisation."""

    n: int
    h: int
    w: int
    c: int
    groups: int = 1

    directions: ClassVar = ("forward", "gradients")

    def bytes(self, direction: str) -> int:
        """Return the bytes read and written: x and y, or dy, x and dx."""
        return 4 * self.n * self.h * self.w * self.c * (2 if direction == "forward" else 3)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return images, weight, bias and the result's gradient."""
        shape = (self.n, self.h, self.w, self.c)
        return standard_normal(shape, (self.c,), (self.c,), shape)

    def __str__(self) -> str:
        if self.h * self.w == self.groups == 1:
            return f"layer norm, {self.n} rows of {self.c}"
        return f"group norm {self.groups}, {self.h}x{self.w}x{self.c}, batch {self.n}"


@dataclass(frozen=True)
class Resized:
    """N images H x W with C channels, at twice their size."""

    mode: str
    n: int
    h: int
    w: int
    c: int

    directions: ClassVar = ("forward", "grad_input")

    def bytes(self, direction: str) -> int:
        """Return the bytes of image and result."""
        return 4 * self.n * self.c * self.h * self.w * 5

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images and the result's gradient."""
        return standard_normal(
            (self.n, self.h, self.w, self.c), (self.n, 2 * self.h, 2 * self.w, self.c)
        )

    def __str__(self) -> str:
        return f"{self.mode} x2, {self.h}x{self.w}x{self.c}, batch {self.n}"


@dataclass(frozen=True)
class Elementwise:
    """An activation of so many elements."""

    name: str
    count: int

    directions: ClassVar = ("forward", "grad_input")

    def bytes(self, direction: str) -> int:
        """Return the bytes read and written: x and y, or dy, y and dx."""
        return 4 * self.count * (2 if direction == "forward" else 3)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what the activation is applied to and the result's gradient."""
        return standard_normal((self.count,), (self.count,))

    def __str__(self) -> str:
        exponent = math.floor(math.log10(self.count))
        return f"{self.name}, {self.count / 10**exponent:.4g}e{exponent} elements"


def standard_normal(*shapes: tuple[int, ...]) -> Any:
    """Return an array of each shape, always the same; long ones repeat themselves."""
    rng = np.random.default_rng(0)
    arrays = []
    for shape in shapes:
        size = math.prod(shape)
        values = rng.standard_normal(min(size, 1 << 22), dtype=np.float32)
        arrays.append(np.resize(values, shape) if len(values) < size else values.reshape(shape))
    return tuple(arrays)
