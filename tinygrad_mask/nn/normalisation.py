"""Normalisation layers: over the batch, over the last axes, over groups of channels."""

from collections.abc import Sequence

import numpy as np

import tinygrad_mask.functions as F
from tinygrad_mask.autograd import option_of
from tinygrad_mask.functions.shape import check_size
from tinygrad_mask.nn.arguments import as_flag, as_size, options_that_differ, refuse_input
from tinygrad_mask.nn.module import Module, Parameter
from tinygrad_mask.tensor import Tensor


class _Affine(Module):
    """What the normalisations have in common: a weight of ones and a bias of zeros, or neither."""

    weight: Parameter | None
    bias: Parameter | None

    def _make_affine(self, shape: tuple[int, ...], weight: bool, bias: bool) -> None:
        ones = Parameter(np.ones(shape, np.float32)) if weight else None
        self.register_parameter("weight", ones)
        self.register_parameter("bias", Parameter(np.zeros(shape, np.float32)) if bias else None)


class BatchNorm(_Affine):
    """Normalises each channel (the last axis) of inputs of any rank; see `functions.batch_norm`.

    Args:
        num_features: the number of channels.
        eps: added to the variance.
        momentum: how far the running statistics move towards those of each batch. With None they
            are the mean over all batches so far, whose number is a buffer, `num_batches_tracked`.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics, which evaluation uses. Without
            them each batch is normalised by its own, in evaluation too.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = as_size("BatchNorm", "num_features", num_features)
        if not eps >= 0:
            raise ValueError(f"BatchNorm: expected eps >= 0, got {eps}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"BatchNorm: expected 0 <= momentum <= 1 or None, got {momentum}")
        self.eps = option_of("BatchNorm", "eps", eps)
        self.momentum = momentum
        if momentum is not None:
            self.momentum = option_of("BatchNorm", "momentum", momentum)
        self.affine = as_flag("BatchNorm", "affine", affine)
        self.track_running_stats = as_flag("BatchNorm", "track_running_stats", track_running_stats)
        shape = (self.num_features,)
        self._make_affine(shape, self.affine, self.affine)
        tracked = self.track_running_stats
        mean, variance = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        self.register_buffer("running_mean", Tensor(mean) if tracked else None)
        self.register_buffer("running_var", Tensor(variance) if tracked else None)
        if tracked and momentum is None:
            self.register_buffer("num_batches_tracked", Tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., num_features) to the same shape."""
        if not isinstance(x, Tensor):
            refuse_input("BatchNorm", x)
        momentum = self.momentum
        if momentum is None:
            momentum = self._count_batch() if self.training and self.track_running_stats else 0.0
        return F.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training or self.running_mean is None,
            momentum=momentum,
            eps=self.eps,
        )

    def _count_batch(self) -> float:
        """Count a batch, and return its share in the mean over all of them."""
        count = int(self.num_batches_tracked) + 1
        self.num_batches_tracked[...] = count
        return 1 / count

    def describe(self) -> str:
        """Return the number of channels, and of the rest what is not the default."""
        more = options_that_differ(
            self, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True
        )
        return f"BatchNorm({self.num_features}{more})"


class LayerNorm(_Affine):
    """Normalises each example over its last axes; see `functions.layer_norm`.

    Args:
        normalized_shape: the lengths of the axes to normalise over, or that of the last one. For
            NHWC images the number of channels normalises each pixel by itself.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias, of `normalized_shape`.
        bias: whether there is a bias next to the weight.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        lengths = normalized_shape if isinstance(normalized_shape, Sequence) else [normalized_shape]
        shape = tuple(as_size("LayerNorm", "normalized_shape", n) for n in lengths)
        check_size("LayerNorm", *shape)
        self.normalized_shape, self.eps = shape, option_of("LayerNorm", "eps", eps)
        self.elementwise_affine = as_flag("LayerNorm", "elementwise_affine", elementwise_affine)
        has_bias = as_flag("LayerNorm", "bias", bias)
        self._make_affine(shape, self.elementwise_affine, self.elementwise_affine and has_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., *normalized_shape) to the same shape."""
        if not isinstance(x, Tensor):
            refuse_input("LayerNorm", x)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        """Return the shape, and of the rest what is not the default."""
        shape = ", ".join(map(str, self.normalized_shape))
        shape = shape if len(self.normalized_shape) == 1 else f"({shape})"
        more = options_that_differ(self, eps=1e-5, elementwise_affine=True)
        return f"LayerNorm({shape}{more})"


class GroupNorm(_Affine):
    """Normalises groups of channels of each example; see `functions.group_norm`.

    One group is the layer normalisation of whole images; as many groups as channels are instance
    normalisation.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        self.num_groups = as_size("GroupNorm", "num_groups", num_groups)
        self.num_channels = as_size("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: expected num_groups to divide {num_channels} channels, "
                f"got {num_groups}"
            )
        self.eps = option_of("GroupNorm", "eps", eps)
        self.affine = as_flag("GroupNorm", "affine", affine)
        self._make_affine((self.num_channels,), self.affine, self.affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, ..., num_channels) to the same shape."""
        if not isinstance(x, Tensor):
            refuse_input("GroupNorm", x)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        """Return groups and channels, and of the rest what is not the default."""
        more = options_that_differ(self, eps=1e-5, affine=True)
        return f"GroupNorm({self.num_groups}, {self.num_channels}{more})"
