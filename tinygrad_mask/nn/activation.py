"""Activations as layers: each element by itself, and softmax over an axis."""

import tinygrad_mask.functions as F
from tinygrad_mask.nn.arguments import options_that_differ
from tinygrad_mask.nn.module import Module
from tinygrad_mask.tensor import Tensor


class Sigmoid(Module):
    """See `functions.sigmoid`."""

    fused_name = "sigmoid"

    def forward(self, x: Tensor) -> Tensor:
        """Apply the sigmoid to each element."""
        return F.sigmoid(x)


class Tanh(Module):
    """See `functions.tanh`."""

    fused_name = "tanh"

    def forward(self, x: Tensor) -> Tensor:
        """Apply the hyperbolic tangent to each element."""
        return F.tanh(x)


class ReLU(Module):
    """See `functions.relu`."""

    fused_name = "relu"

    def forward(self, x: Tensor) -> Tensor:
        """Replace each negative element by 0."""
        return F.relu(x)


class LeakyReLU(Module):
    """See `functions.leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each negative element by the slope."""
        return F.leaky_relu(x, self.negative_slope)

    def describe(self) -> str:
        """Return the slope."""
        return f"LeakyReLU({self.negative_slope})"


class SiLU(Module):
    """See `functions.silu`."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each element by its sigmoid."""
        return F.silu(x)


class _OverAxis(Module):
    """What softmax and its logarithm have in common: an axis, by NumPy's name or PyTorch's."""

    def __init__(self, axis: int = -1, *, dim: int | None = None) -> None:
        super().__init__()
        self.axis = axis if dim is None else dim

    def describe(self) -> str:
        """Return the axis, unless it is the last."""
        return f"{type(self).__name__}({options_that_differ(self, axis=-1)[2:]})"


class Softmax(_OverAxis):
    """See `functions.softmax`; over the last axis unless `axis` (or `dim`) names another."""

    def forward(self, x: Tensor) -> Tensor:
        """Map scores to probabilities of the same shape."""
        return F.softmax(x, self.axis)


class LogSoftmax(_OverAxis):
    """See `functions.log_softmax`; over the last axis unless `axis` (or `dim`) names another."""

    def forward(self, x: Tensor) -> Tensor:
        """Map scores to log-probabilities of the same shape."""
        return F.log_softmax(x, self.axis)
