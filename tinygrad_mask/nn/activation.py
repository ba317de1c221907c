"""Activations as layers: each element by itself, and softmax over an axis."""

import tinygrad_mask.functions as F
from tinygrad_mask.autograd import option_of
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
        self.negative_slope = option_of("LeakyReLU", "negative_slope", negative_slope)

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


class ELU(Module):
    """See `functions.elu`."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = option_of("ELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the exponential linear unit to each element."""
        return F.elu(x, self.alpha)

    def describe(self) -> str:
        """Return alpha, unless it is 1."""
        return f"ELU({options_that_differ(self, alpha=1.0)[2:]})"


class GELU(Module):
    """See `functions.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: expected approximate 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each element by the probability that a normal variable is smaller."""
        return F.gelu(x, self.approximate)

    def describe(self) -> str:
        """Return the formula, unless it is the exact one."""
        return f"GELU({options_that_differ(self, approximate='none')[2:]})"


class Softplus(Module):
    """See `functions.softplus`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        if not beta > 0:
            raise ValueError(f"Softplus: expected beta > 0, got {beta}")
        self.beta = option_of("Softplus", "beta", beta)
        self.threshold = option_of("Softplus", "threshold", threshold)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the smooth maximum with 0 to each element."""
        return F.softplus(x, self.beta, self.threshold)

    def describe(self) -> str:
        """Return what is not the default."""
        return f"Softplus({options_that_differ(self, beta=1.0, threshold=20.0)[2:]})"


class Hardtanh(Module):
    """See `functions.hardtanh`."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__()
        if not min_val < max_val:
            raise ValueError(f"Hardtanh: expected min_val < max_val, got {min_val} and {max_val}")
        self.min_val = option_of("Hardtanh", "min_val", min_val)
        self.max_val = option_of("Hardtanh", "max_val", max_val)

    def forward(self, x: Tensor) -> Tensor:
        """Limit each element to [min_val, max_val]."""
        return F.hardtanh(x, self.min_val, self.max_val)

    def describe(self) -> str:
        """Return the limits."""
        return f"Hardtanh({self.min_val}, {self.max_val})"


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
