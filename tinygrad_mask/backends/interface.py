"""What a device has to offer: an array module and the kernels, all arrays NHWC and HWIO.

A backend works on plain arrays of its own array module; it has never heard of tensors or gradients
being recorded. Kernels may be handed any strided view and must not write into their inputs; every
result is a new array of the inputs' dtype. Names in the shapes: N images, H and W height and
width, C channels of the input, O of the output, P and Q height and width of the output.
"""

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""An array of the backend's own array module (NumPy or CuPy)."""


FusedActivation: TypeAlias = Literal["none", "relu", "sigmoid", "tanh"]
"""An activation that a convolution or a linear map can end with."""


class DeviceError(ValueError):
    """A device, or what it would need, is not to be had here; the message says what."""


class Window(NamedTuple):
    """How a window slides over an image: the geometry shared by convolution and pooling.

    `padding` is `((top, bottom), (left, right))` in pixels; the two sides may differ, as 'same'
    needs with an even window.
    """

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """`floor((size + padding - dilation * (window - 1) - 1) / stride) + 1` for each axis."""
        (kh, kw), (sh, sw), ((top, bottom), (left, right)), (dh, dw) = self
        return (
            (height + top + bottom - dh * (kh - 1) - 1) // sh + 1,
            (width + left + right - dw * (kw - 1) - 1) // sw + 1,
        )


class Resize(NamedTuple):
    """How the pixels of a resized image are taken: the geometry of `interpolate`.

    Along each axis the output pixel `r` lies at the place `r * step` of the input, or, if `linear`
    without `align_corners`, at `max(0, (r + 0.5) * step - 0.5)`. All in double precision.
    """

    size: tuple[int, int]
    """Rows and columns of the output."""
    steps: tuple[float, float]
    """Input pixels per output pixel, along each axis."""
    linear: bool
    """Linear between the pixels at the place's floor and after it; otherwise the one at the floor.

    Places beyond the last pixel are that pixel."""
    align_corners: bool = False
    """Whether the centers of the corner pixels, rather than their outer corners, coincide."""


class Implementation(Enum):
    """What computes an operation on a device."""

    HAND_WRITTEN = "hand-written"  # a kernel of kernels/cpu or kernels/cuda
    ARRAY_LIBRARY = "array library"  # NumPy or CuPy
    REFERENCE = "reference"  # the formula of reference.py, in NumPy or CuPy


class Backend(ABC):
    """One device: its array module `xp` and its kernels."""

    name: str
    """The device's name as the user writes it: `cpu`, `cuda`."""

    xp: Any
    """The array module: `numpy` or one with its interface."""

    asynchronous: bool = False
    """Whether a kernel's results may still be on their way when it returns; reading them waits."""

    implementations: ClassVar[Mapping[str, Implementation]]
    """What computes each of `OPERATIONS`. No device inherits the kernels of another: a backend
    defines every operation itself, and a reference formula is called where it is used."""

    exceptions: ClassVar[Mapping[str, str]] = {}
    """The operations that are computed otherwise for some arguments: which, and by what."""

    # --- copying and pickling ---------------------------------------------------------------

    # There is one backend per device and process: a copy is the backend itself, and a pickle holds
    # the device's name.

    def __copy__(self) -> "Backend":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Backend":
        return self

    def __reduce__(self) -> tuple[Callable[[str], "Backend"], tuple[str]]:
        package = importlib.import_module("tinygrad_mask.backends")  # it imports this module
        return package.get_backend, (self.name,)

    # --- computing --------------------------------------------------------------------------

    @abstractmethod
    def computing(self) -> AbstractContextManager[None]:
        """A context to compute in: where the memory of new arrays comes from, what NaN raises."""

    # --- moving data ------------------------------------------------------------------------

    @abstractmethod
    def asarray(self, host: Array) -> Array:
        """Return a NumPy array's contents as an array of this device; may share memory."""

    def send(self, host: Array) -> Callable[[], Array]:
        """Begin to bring a NumPy array to this device; the function returned gives the array.

        A device may copy beside what it computes, until somebody asks for the array, which may
        share memory as that of `asarray` may.
        """
        return functools.partial(self.asarray, host)

    @abstractmethod
    def to_host(self, array: Array) -> Array:
        """Return an array of this device as a NumPy array; may share memory."""

    def bernoulli(
        self, rng: np.random.Generator, p: float, shape: tuple[int, ...], dtype: Any
    ) -> Array:
        """Draw an array of zeros and ones that is 1 with probability `p`.

        Drawn on the host, so that a generator gives the same on every device.
        """
        return self.asarray((rng.random(shape, dtype=np.float32) < p).astype(dtype))

    def capture(self, step: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
        """Return a function that does what `step` does, which a device may record and replay.

        `step` takes arrays of this device and returns arrays; it must do the same each time for
        arrays of the same shapes and dtypes, and neither copy from the host (as an optimiser's
        update does, of rates and addresses) nor look at a value. It may draw with `bernoulli` and
        write into arrays that are there already. Python in it runs only while it is recorded. What
        the function returns holds until it is called again.
        """
        return step

    # --- sums -------------------------------------------------------------------------------

    @abstractmethod
    def sum(self, x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
        """The sum over some axes, given as distinct numbers in [0, ndim).

        The relative error of a float32 sum, against the sum of the absolute values, is at most
        1e-6, however long the axes are and however they lie in memory. NumPy's own sum errs by
        1e-2 over the first axis of (10**6, 8), because it adds row after row. Integers are summed
        in int64.
        """

    # --- matrix products --------------------------------------------------------------------

    @abstractmethod
    def matmul(self, x: Array, y: Array) -> Array:
        """The matrix product of x (..., M, K) and y (..., K, N), the same leading axes in both."""

    @abstractmethod
    def linear(
        self, x: Array, weight: Array, bias: Array | None, activation: FusedActivation
    ) -> Array:
        """The activation of `x @ weight + bias`; x (M, K), weight (K, N), bias (N,); (M, N)."""

    @abstractmethod
    def linear_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        activation: FusedActivation,
        y: Array | None,
        needed: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        """From `grad_output` (M, N) the gradients of x, weight and bias, those that are needed."""

    # --- convolution and pooling ------------------------------------------------------------

    # An activation here is one whose derivative is known from its output (`FusedActivation`). The
    # gradients get that output as `y`, (N, P, Q, O); without an activation it is None.

    @abstractmethod
    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        window: Window,
        groups: int,
        activation: FusedActivation = "none",
    ) -> Array:
        """Cross-correlate `x` (N, H, W, C) with `weight` (KH, KW, C / groups, O), add `bias` (O,)
        and apply the activation; (N, P, Q, O).
        """

    @abstractmethod
    def conv2d_grad_input(
        self,
        grad_output: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        window: Window,
        groups: int,
        activation: FusedActivation = "none",
        y: Array | None = None,
    ) -> Array:
        """From `grad_output` (N, P, Q, O) the gradient of the input, (N, H, W, C)."""

    @abstractmethod
    def conv2d_grad_weight(
        self,
        grad_output: Array,
        x: Array,
        weight_shape: tuple[int, ...],
        window: Window,
        groups: int,
        activation: FusedActivation = "none",
        y: Array | None = None,
    ) -> tuple[Array, Array]:
        """From `grad_output` (N, P, Q, O) the gradients of the weight, (KH, KW, C / groups, O),
        and of the bias, (O,).
        """

    @abstractmethod
    def max_pool2d(self, x: Array, window: Window) -> tuple[Array, Array]:
        """The maximum of each window, (N, P, Q, C), and which tap of the window held it.

        The tap is an integer array of the same shape: `row * KW + column` of the first maximum in
        reading order, or of the first NaN. Padding counts as minus infinity.
        """

    @abstractmethod
    def max_pool2d_grad(
        self, grad_output: Array, taps: Array, input_shape: tuple[int, ...], window: Window
    ) -> Array:
        """From `grad_output` (N, P, Q, C) and the taps the gradient of the input, (N, H, W, C)."""

    @abstractmethod
    def avg_pool2d(self, x: Array, window: Window, count_include_pad: bool) -> Array:
        """The mean of each window, (N, P, Q, C); padding counts as zeros, or not at all."""

    @abstractmethod
    def avg_pool2d_grad(
        self,
        grad_output: Array,
        input_shape: tuple[int, ...],
        window: Window,
        count_include_pad: bool,
    ) -> Array:
        """From `grad_output` (N, P, Q, C) the gradient of the input, (N, H, W, C)."""

    @abstractmethod
    def interpolate(self, x: Array, resize: Resize) -> Array:
        """Resize `x` (N, H, W, C) to (N, P, Q, C), by the nearest pixel or bilinearly."""

    @abstractmethod
    def interpolate_grad(
        self, grad_output: Array, input_shape: tuple[int, ...], resize: Resize
    ) -> Array:
        """From `grad_output` (N, P, Q, C) the gradient of the input, (N, H, W, C)."""

    # --- activations: forward from x, gradient from what is cheapest to keep ------------------

    @abstractmethod
    def sigmoid(self, x: Array) -> Array:
        """`1 / (1 + exp(-x))`, without overflow at either end."""

    @abstractmethod
    def sigmoid_grad(self, grad_output: Array, y: Array) -> Array:
        """`grad_output * y * (1 - y)`, from the output y."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """The hyperbolic tangent."""

    @abstractmethod
    def tanh_grad(self, grad_output: Array, y: Array) -> Array:
        """`grad_output * (1 - y ** 2)`, from the output y."""

    @abstractmethod
    def relu(self, x: Array) -> Array:
        """`max(x, 0)`; NaN stays NaN."""

    @abstractmethod
    def relu_grad(self, grad_output: Array, y: Array) -> Array:
        """`grad_output` where the output y is positive, else 0."""

    @abstractmethod
    def leaky_relu(self, x: Array, negative_slope: float) -> Array:
        """`x` where x is positive, else `negative_slope * x`."""

    @abstractmethod
    def leaky_relu_grad(self, grad_output: Array, x: Array, negative_slope: float) -> Array:
        """`grad_output` where x is positive, else `negative_slope * grad_output`."""

    @abstractmethod
    def silu(self, x: Array) -> Array:
        """`x * sigmoid(x)`."""

    @abstractmethod
    def silu_grad(self, grad_output: Array, x: Array) -> Array:
        """`grad_output * s * (1 + x * (1 - s))` with `s = sigmoid(x)`."""

    # --- normalisation and loss ---------------------------------------------------------------

    @abstractmethod
    def batch_norm(
        self, x: Array, weight: Array, bias: Array, mean: Array, inverse_std: Array
    ) -> Array:
        """`(x - mean) * inverse_std * weight + bias`; x (..., C), the others (C,)."""

    @abstractmethod
    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        """Mean and (biased) variance of `x` (..., C) over all axes but the last, each (C,)."""

    @abstractmethod
    def batch_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        mean: Array,
        inverse_std: Array,
        training: bool,
    ) -> tuple[Array, Array, Array]:
        """The gradients of x (..., C), weight (C,) and bias (C,).

        In training mean and variance were those of the batch, and the gradient flows through
        them; otherwise they are constants.
        """

    @abstractmethod
    def group_norm(
        self, x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """`(x - mean) * inverse_std * weight + bias`; x (N, P, C), weight and bias (C,) or None.

        Mean and variance are those of each image n and group of C / groups neighbouring channels,
        over all P pixels. Returns the result, the mean, and `inverse_std`, which is
        `1 / sqrt(variance + eps)`; the last two are (N, groups). With P = 1 and one group this is
        layer normalisation.
        """

    @abstractmethod
    def group_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        inverse_std: Array,
    ) -> tuple[Array, Array, Array]:
        """The gradients of x (N, P, C), weight (C,) and bias (C,), mean and variance being x's."""

    @abstractmethod
    def cross_entropy(
        self, logits: Array, target: Array, weight: Array | None, label_smoothing: float
    ) -> tuple[Array, Array]:
        """Loss, of shape (), and its gradient with respect to the logits, (N, K).

        `logits` (N, K), `target` (N,) integers in [0, K), `weight` (K,) or None. Both come from one
        pass: the gradient is the softmax that the loss needs anyway, less the target.
        """

    # --- scattering and updates ---------------------------------------------------------------

    @abstractmethod
    def scatter_add(self, grad_output: Array, shape: tuple[int, ...], index: Any) -> Array:
        """Zeros of `shape`, plus `grad_output` at `[index]`; repeated indices add up in order."""

    @abstractmethod
    def sgd_update(
        self,
        parameters: Sequence[Array],
        gradients: Sequence[Array],
        velocities: Sequence[Array] | None,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """One step of stochastic gradient descent, in place on parameters and velocities."""

    @abstractmethod
    def adam_update(
        self,
        parameters: Sequence[Array],
        gradients: Sequence[Array],
        first_moments: Sequence[Array],
        second_moments: Sequence[Array],
        *,
        steps: Sequence[int],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        """One step of Adam (or AdamW, where `decoupled`), in place.

        `steps` says of each parameter which step this is, from 1.
        """


OPERATIONS = tuple(
    name
    for name, method in vars(Backend).items()
    if getattr(method, "__isabstractmethod__", False)
    and name not in ("computing", "asarray", "to_host")
)
"""The operations that every device computes, by a kernel or otherwise."""
