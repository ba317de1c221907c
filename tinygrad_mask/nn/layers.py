"""Layers: linear, dropout, and those that change nothing but shape and size."""

import math

import numpy as np

import tinygrad_mask.functions as F
from tinygrad_mask.autograd import option_of
from tinygrad_mask.backends import FusedActivation
from tinygrad_mask.functions.convolution import Pair
from tinygrad_mask.functions.shape import check_size
from tinygrad_mask.nn.arguments import as_flag, as_size, as_tuple, options_that_differ, refuse_input
from tinygrad_mask.nn.init import Initialiser, he_normal
from tinygrad_mask.nn.module import Module, Parameter
from tinygrad_mask.random import as_generator
from tinygrad_mask.tensor import Tensor


class Linear(Module):
    """`x @ weight + bias`: x (..., in_features), the result (..., out_features)."""

    takes_activation = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
        init: Initialiser = he_normal,
    ) -> None:
        super().__init__()
        shape = (
            as_size("Linear", "in_features", in_features, least=0),
            as_size("Linear", "out_features", out_features, least=0),
        )
        check_size("Linear", *shape)
        has_bias = as_flag("Linear", "bias", bias)
        self.weight = Parameter(init(shape, as_generator("Linear", rng)))
        self.bias: Parameter | None
        self.register_parameter(
            "bias", Parameter(np.zeros(shape[1], np.float32)) if has_bias else None
        )

    def forward(self, x: Tensor, activation: FusedActivation = "none") -> Tensor:
        """Map x (..., in_features) to (..., out_features), and apply an activation."""
        if not isinstance(x, Tensor):
            refuse_input("Linear", x)
        if x.ndim == 0 or x.shape[-1] != self.weight.shape[0]:
            raise ValueError(
                f"Linear: expected an input (..., {self.weight.shape[0]}), got shape {x.shape}"
            )
        return F.linear(x, self.weight, self.bias, activation=activation)

    def describe(self) -> str:
        """Return inputs and outputs."""
        shape = self.weight.shape  # somebody may have assigned another weight
        inputs, outputs = shape if len(shape) == 2 else ("?", "?")
        return f"Linear({inputs} -> {outputs}{'' if self.bias is not None else ', no bias'})"


class Dropout(Module):
    """In training zeroes each element with probability `p`; see `functions.dropout`."""

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected 0 <= p <= 1, got {p}")
        self.p = option_of("Dropout", "p", p)
        self._rng = None if rng is None else as_generator("Dropout", rng)

    @property
    def rng(self) -> np.random.Generator:
        """The generator of the masks: the layer's own, or the default one."""
        return as_generator("Dropout", self._rng)

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training; return x as it is otherwise."""
        return F.dropout(x, self.p, self.rng) if self.training else x

    def describe(self) -> str:
        """Return the probability."""
        return f"Dropout({self.p})"


class Identity(Module):
    """Returns its input; stands where a layer was taken out. Arguments are ignored."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return x as it is."""
        return x


class Embedding(Module):
    """A table of vectors, looked up by integers; see `functions.embedding`.

    The vectors are drawn from a standard normal distribution.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        shape = (
            as_size("Embedding", "num_embeddings", num_embeddings),
            as_size("Embedding", "embedding_dim", embedding_dim),
        )
        check_size("Embedding", *shape)
        drawn = as_generator("Embedding", rng).standard_normal(shape)
        self.weight = Parameter(drawn.astype(np.float32))

    def forward(self, indices: Tensor) -> Tensor:
        """Map integers (...) to (..., embedding_dim)."""
        return F.embedding(indices, self.weight)

    def describe(self) -> str:
        """Return the number of vectors and their length."""
        return "Embedding({}, {})".format(*self.weight.shape)


class Upsample(Module):
    """Enlarges images; see `functions.interpolate`.

    Args:
        size: rows and columns of the result, or one number for both.
        scale_factor: instead of `size`, the ratio of the result's sides to the input's.
        mode: `nearest` or `bilinear`.
        align_corners: only with `bilinear`; whether the centers of the corner pixels coincide.
    """

    def __init__(
        self,
        size: Pair | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(
                f"Upsample: expected either size or scale_factor, got size={size!r} and "
                f"scale_factor={scale_factor!r}"
            )
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f"Upsample: expected mode 'nearest' or 'bilinear', got {mode!r}")
        self.size, self.scale_factor = as_tuple(size), as_tuple(scale_factor)
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, H, W, C) to (N, P, Q, C)."""
        if not isinstance(x, Tensor):
            refuse_input("Upsample", x)
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def describe(self) -> str:
        """Return size or factor, and of the rest what is not the default."""
        what = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        more = options_that_differ(self, mode="nearest", align_corners=None)
        return f"Upsample({what}{more})"


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` made one; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, ...) to (N, product of the rest)."""
        if not isinstance(x, Tensor):
            refuse_input("Flatten", x)
        if x.ndim == 0:
            raise ValueError("Flatten: expected an input (N, ...), got shape ()")
        if (self.start_dim, self.end_dim) == (1, -1):
            return x.reshape(x.shape[0], math.prod(x.shape[1:]))
        start, end = (d + x.ndim if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < x.ndim:
            raise ValueError(
                f"Flatten: expected axes {self.start_dim} to {self.end_dim} in the order of the "
                f"input's, got shape {x.shape}"
            )
        return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def describe(self) -> str:
        """Return the axes, unless they are all but the first."""
        return f"Flatten({options_that_differ(self, start_dim=1, end_dim=-1)[2:]})"
