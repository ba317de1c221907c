"""NumPy arrays and the compiled kernels of `kernels/cpu`.

`CpuBackend.implementations` lists which operations have a compiled kernel, and `exceptions` for
which arguments they do not use it. Of the kernels of `cpu_kernels.py`, compiled once per
instruction set, `cpu_backend` chooses the best that the processor can run, or those that
`TINYGRAD_MASK_KERNELS` names.
"""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from tinygrad_mask.backends.cpu_kernels import (
    INSTRUCTION_SETS,
    KERNELS_VARIABLE,
    load_configured,
    unavailable_instruction_sets,
)
from tinygrad_mask.backends.interface import (
    Array,
    Backend,
    DeviceError,
    FusedActivation,
    Implementation,
    Resize,
    Window,
)
from tinygrad_mask.backends.reference import ReferenceBackend


class _Computing(np.errstate):
    """Within it NumPy takes new arrays from the pool, and computes with NaN in silence."""

    __slots__ = ("_allocator", "_kernels")

    def __init__(self, kernels: Any) -> None:
        super().__init__(all="ignore")
        self._kernels = kernels

    def __enter__(self) -> None:
        super().__enter__()
        self._allocator = self._kernels.set_allocator(self._kernels.pool)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kernels.set_allocator(self._allocator)
        super().__exit__(kind, error, trace)


def _dense(array: Array) -> Array:
    """The array in C order, as the kernels want it; a copy only if it is not so already."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    return np.array(array, order="C")


def _is_transposed(matrix: Array) -> bool:
    """Whether a matrix lies in memory as its transpose would; a kernel takes it as it lies."""
    flags = matrix.flags
    return bool(flags.f_contiguous and flags.aligned and not flags.c_contiguous)


_SHORT_PRODUCT = 128
"""The terms up to which NumPy takes stacks of matrix products, one term after the other."""

_SHORT_SUM = 16
"""Sums of no more elements than this are as accurate one element after the other."""

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def _is_float(array: Array) -> bool:
    return array.dtype in _FLOATS


class CpuBackend(Backend):
    """NumPy arrays, and kernels compiled for an instruction set (see `INSTRUCTION_SETS`)."""

    name = "cpu"
    xp = np
    implementations: ClassVar[Mapping[str, Implementation]] = {
        "sum": Implementation.HAND_WRITTEN,
        "matmul": Implementation.HAND_WRITTEN,
        "linear": Implementation.HAND_WRITTEN,
        "linear_grad": Implementation.HAND_WRITTEN,
        "conv2d": Implementation.HAND_WRITTEN,
        "conv2d_grad_input": Implementation.HAND_WRITTEN,
        "conv2d_grad_weight": Implementation.HAND_WRITTEN,
        "max_pool2d": Implementation.HAND_WRITTEN,
        "max_pool2d_grad": Implementation.HAND_WRITTEN,
        "avg_pool2d": Implementation.HAND_WRITTEN,
        "avg_pool2d_grad": Implementation.HAND_WRITTEN,
        "interpolate": Implementation.HAND_WRITTEN,
        "interpolate_grad": Implementation.HAND_WRITTEN,
        "sigmoid": Implementation.HAND_WRITTEN,
        "sigmoid_grad": Implementation.HAND_WRITTEN,
        "tanh": Implementation.HAND_WRITTEN,
        "tanh_grad": Implementation.HAND_WRITTEN,
        "relu": Implementation.HAND_WRITTEN,
        "relu_grad": Implementation.HAND_WRITTEN,
        "leaky_relu": Implementation.HAND_WRITTEN,
        "leaky_relu_grad": Implementation.HAND_WRITTEN,
        "silu": Implementation.HAND_WRITTEN,
        "silu_grad": Implementation.HAND_WRITTEN,
        "batch_norm": Implementation.HAND_WRITTEN,
        "batch_norm_statistics": Implementation.HAND_WRITTEN,
        "batch_norm_grad": Implementation.HAND_WRITTEN,
        "group_norm": Implementation.HAND_WRITTEN,
        "group_norm_grad": Implementation.HAND_WRITTEN,
        "cross_entropy": Implementation.HAND_WRITTEN,
        "scatter_add": Implementation.REFERENCE,
        "sgd_update": Implementation.HAND_WRITTEN,
        "adam_update": Implementation.HAND_WRITTEN,
    }
    exceptions: ClassVar[Mapping[str, str]] = {
        "matmul": "integers, and stacks of short products: reference",
        "sum": "integers, few terms, and contiguous terms: array library",
        "max_pool2d": "integers: reference",
        "relu": "integers: reference",
    }

    def __init__(self, instruction_set: str) -> None:
        self.reference = ReferenceBackend()
        self.instruction_set = instruction_set
        self.kernels = load_configured(instruction_set)

    def computing(self) -> AbstractContextManager[None]:
        return _Computing(self.kernels)

    # --- moving data ------------------------------------------------------------------------

    def asarray(self, host: Array) -> Array:
        return np.asarray(host)

    def to_host(self, array: Array) -> Array:
        return array

    # --- sums -------------------------------------------------------------------------------

    def sum(self, x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
        reduced = math.prod([x.shape[a] for a in axes])
        if not _is_float(x) or x.size == 0:
            return self.reference.sum(x, axes, keepdims)
        if reduced <= _SHORT_SUM:
            return x.sum(axis=axes, keepdims=keepdims)
        shape = x.shape
        order = list(range(x.ndim))
        repeats = 1
        if not x.flags.c_contiguous:
            # An axis along which all is the same, in a view that was broadcast, is a factor.
            for a in axes:
                if x.strides[a] == 0:
                    repeats *= x.shape[a]
                    x = x[(slice(None),) * a + (slice(1),)]
            # Maybe the axes only lie in another order.
            order.sort(key=lambda a: -abs(x.strides[a]))
            x = x.transpose(order)
        lengths = x.shape
        y = _dense(x)
        # Axes side by side are summed at once, the last ones first.
        end = len(order)
        while end > 0:
            start = end - 1
            if order[start] in axes:
                while start > 0 and order[start - 1] in axes:
                    start -= 1
                y = self._sum_middle(y, math.prod(lengths[:start]), math.prod(lengths[start:end]))
            end = start
        if repeats > 1:
            y = y * y.dtype.type(repeats)
        kept = [a for a in order if a not in axes]
        y = y.reshape([shape[a] for a in kept])
        if kept != sorted(kept):
            y = y.transpose([kept.index(a) for a in sorted(kept)])
        if keepdims:
            return y.reshape([1 if a in axes else n for a, n in enumerate(shape)])
        return y

    def _sum_middle(self, x: Array, outer: int, reduced: int) -> Array:
        """The sums (outer, inner) of a dense array, seen as (outer, reduced, inner)."""
        if reduced == 1:
            return x
        inner = x.size // (outer * reduced)
        if inner == 1:  # NumPy adds contiguous elements in pairs
            return x.reshape(outer, reduced).sum(axis=1)
        y = np.empty((outer, inner), x.dtype)
        self.kernels.sum_axis(x.reshape(outer, reduced, inner), y)
        return y

    # --- matrix products --------------------------------------------------------------------

    def linear(
        self, x: Array, weight: Array, bias: Array | None, activation: FusedActivation
    ) -> Array:
        y = np.empty((x.shape[0], weight.shape[1]), x.dtype)
        bias = None if bias is None else _dense(bias)
        self.kernels.matmul(_dense(x), _dense(weight), False, bias, activation, y)
        return y

    def matmul(self, x: Array, y: Array) -> Array:
        if not _is_float(x):
            return self.reference.matmul(x, y)
        if x.ndim != 2 or y.ndim != 2:
            if x.shape[-1] <= _SHORT_PRODUCT or x.shape[:-2] != y.shape[:-2]:
                return self.reference.matmul(x, y)
            z = np.empty((*x.shape[:-1], y.shape[-1]), x.dtype)
            for k in np.ndindex(x.shape[:-2]):
                z[k] = self.matmul(x[k], y[k])
            return z
        z = np.empty((x.shape[0], y.shape[1]), x.dtype)
        if _is_transposed(x):
            self.kernels.matmul_transposed(x.T, _dense(y), z)
        elif _is_transposed(y):
            self.kernels.matmul(_dense(x), y.T, True, None, "none", z)
        else:
            self.kernels.matmul(_dense(x), _dense(y), False, None, "none", z)
        return z

    def linear_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        activation: FusedActivation,
        y: Array | None,
        needed: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        if activation != "none":
            assert y is not None
            grad_output = self._apply_grad(activation, grad_output, y)
        return (
            self.matmul(grad_output, weight.T) if needed[0] else None,
            self.matmul(x.T, grad_output) if needed[1] else None,
            self.sum(grad_output, (0,)) if needed[2] else None,
        )

    # --- convolution ------------------------------------------------------------------------

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        window: Window,
        groups: int,
        activation: FusedActivation = "none",
    ) -> Array:
        n, h, w, _ = x.shape
        y = np.empty((n, *window.output_size(h, w), weight.shape[3]), x.dtype)
        bias = None if bias is None else _dense(bias)
        self.kernels.conv2d(_dense(x), _dense(weight), bias, y, *window[1:], groups, activation)
        return y

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
        grad_input = np.empty(input_shape, grad_output.dtype)
        y = None if y is None else _dense(y)
        self.kernels.conv2d_grad_input(
            _dense(grad_output), y, _dense(weight), grad_input, *window[1:], groups, activation
        )
        return grad_input

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
        grad_weight = np.empty(weight_shape, grad_output.dtype)
        grad_bias = np.empty(weight_shape[-1:], grad_output.dtype)
        self.kernels.conv2d_grad_weight(
            _dense(grad_output),
            None if y is None else _dense(y),
            _dense(x),
            grad_weight,
            grad_bias,
            *window[1:],
            groups,
            activation,
        )
        return grad_weight, grad_bias

    # --- pooling ----------------------------------------------------------------------------

    def max_pool2d(self, x: Array, window: Window) -> tuple[Array, Array]:
        if not _is_float(x):
            return self.reference.max_pool2d(x, window)
        n, h, w, c = x.shape
        shape = (n, *window.output_size(h, w), c)
        y = np.empty(shape, x.dtype)
        taps = np.empty(shape, np.uint8 if window.size[0] * window.size[1] <= 256 else np.int32)
        self.kernels.max_pool2d(_dense(x), y, taps, *window)
        return y, taps

    def max_pool2d_grad(
        self, grad_output: Array, taps: Array, input_shape: tuple[int, ...], window: Window
    ) -> Array:
        grad_input = np.empty(input_shape, grad_output.dtype)
        self.kernels.max_pool2d_grad(_dense(grad_output), _dense(taps), grad_input, *window)
        return grad_input

    def avg_pool2d(self, x: Array, window: Window, count_include_pad: bool) -> Array:
        n, h, w, c = x.shape
        y = np.empty((n, *window.output_size(h, w), c), x.dtype)
        self.kernels.avg_pool2d(_dense(x), y, *window, count_include_pad)
        return y

    def avg_pool2d_grad(
        self,
        grad_output: Array,
        input_shape: tuple[int, ...],
        window: Window,
        count_include_pad: bool,
    ) -> Array:
        grad_input = np.empty(input_shape, grad_output.dtype)
        self.kernels.avg_pool2d_grad(_dense(grad_output), grad_input, *window, count_include_pad)
        return grad_input

    # --- resizing ---------------------------------------------------------------------------

    def interpolate(self, x: Array, resize: Resize) -> Array:
        y = np.empty((x.shape[0], *resize.size, x.shape[3]), x.dtype)
        self.kernels.interpolate(_dense(x), y, resize.steps, resize.linear, resize.align_corners)
        return y

    def interpolate_grad(
        self, grad_output: Array, input_shape: tuple[int, ...], resize: Resize
    ) -> Array:
        grad_input = np.empty(input_shape, grad_output.dtype)
        self.kernels.interpolate_grad(
            _dense(grad_output), grad_input, resize.steps, resize.linear, resize.align_corners
        )
        return grad_input

    # --- activations ------------------------------------------------------------------------

    def _apply(self, name: str, x: Array, slope: float = 0.0) -> Array:
        x = _dense(x)
        y = np.empty(x.shape, x.dtype)
        self.kernels.activation(name, x, y, slope)
        return y

    def _apply_grad(self, name: str, grad_output: Array, kept: Array, slope: float = 0.0) -> Array:
        grad_input = np.empty(grad_output.shape, grad_output.dtype)
        self.kernels.activation_grad(name, _dense(grad_output), _dense(kept), grad_input, slope)
        return grad_input

    def sigmoid(self, x: Array) -> Array:
        return self._apply("sigmoid", x)

    def sigmoid_grad(self, grad_output: Array, y: Array) -> Array:
        return self._apply_grad("sigmoid", grad_output, y)

    def tanh(self, x: Array) -> Array:
        return self._apply("tanh", x)

    def tanh_grad(self, grad_output: Array, y: Array) -> Array:
        return self._apply_grad("tanh", grad_output, y)

    def relu(self, x: Array) -> Array:
        return self._apply("relu", x) if _is_float(x) else self.reference.relu(x)

    def relu_grad(self, grad_output: Array, y: Array) -> Array:
        return self._apply_grad("relu", grad_output, y)

    def leaky_relu(self, x: Array, negative_slope: float) -> Array:
        return self._apply("leaky_relu", x, negative_slope)

    def leaky_relu_grad(self, grad_output: Array, x: Array, negative_slope: float) -> Array:
        return self._apply_grad("leaky_relu", grad_output, x, negative_slope)

    def silu(self, x: Array) -> Array:
        return self._apply("silu", x)

    def silu_grad(self, grad_output: Array, x: Array) -> Array:
        return self._apply_grad("silu", grad_output, x)

    # --- normalisation and loss ---------------------------------------------------------------

    def batch_norm(
        self, x: Array, weight: Array, bias: Array, mean: Array, inverse_std: Array
    ) -> Array:
        y = np.empty(x.shape, x.dtype)
        self.kernels.batch_norm(*map(_dense, (x, weight, bias, mean, inverse_std)), y)
        return y

    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        mean, variance = np.empty(x.shape[-1:], x.dtype), np.empty(x.shape[-1:], x.dtype)
        self.kernels.batch_norm_statistics(_dense(x), mean, variance)
        return mean, variance

    def batch_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        mean: Array,
        inverse_std: Array,
        training: bool,
    ) -> tuple[Array, Array, Array]:
        grad_input = np.empty(x.shape, x.dtype)
        grad_weight, grad_bias = np.empty(x.shape[-1:], x.dtype), np.empty(x.shape[-1:], x.dtype)
        self.kernels.batch_norm_grad(
            *map(_dense, (grad_output, x, weight, mean, inverse_std)),
            training,
            grad_input,
            grad_weight,
            grad_bias,
        )
        return grad_input, grad_weight, grad_bias

    def group_norm(
        self, x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        y = np.empty(x.shape, x.dtype)
        mean, inverse_std = (np.empty((x.shape[0], groups), x.dtype) for _ in range(2))
        weight = None if weight is None else _dense(weight)
        bias = None if bias is None else _dense(bias)
        self.kernels.group_norm(_dense(x), weight, bias, eps, y, mean, inverse_std)
        return y, mean, inverse_std

    def group_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        inverse_std: Array,
    ) -> tuple[Array, Array, Array]:
        grad_input = np.empty(x.shape, x.dtype)
        grad_weight, grad_bias = (np.empty(x.shape[-1:], x.dtype) for _ in range(2))
        self.kernels.group_norm_grad(
            _dense(grad_output),
            _dense(x),
            None if weight is None else _dense(weight),
            _dense(mean),
            _dense(inverse_std),
            grad_input,
            grad_weight,
            grad_bias,
        )
        return grad_input, grad_weight, grad_bias

    def cross_entropy(
        self, logits: Array, target: Array, weight: Array | None, label_smoothing: float
    ) -> tuple[Array, Array]:
        gradient = np.empty(logits.shape, logits.dtype)
        weight = None if weight is None else _dense(weight)
        target = _dense(target.astype(np.int64, copy=False))
        loss = self.kernels.cross_entropy(_dense(logits), target, weight, label_smoothing, gradient)
        return np.asarray(loss, logits.dtype), gradient

    # --- scattering and updates ---------------------------------------------------------------

    def scatter_add(self, grad_output: Array, shape: tuple[int, ...], index: Any) -> Array:
        return self.reference.scatter_add(grad_output, shape, index)

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
        gradients = [_dense(g) for g in gradients]
        with _written([*parameters, *(velocities or ())]) as dense:
            count = len(gradients)
            self.kernels.sgd_update(
                dense[:count],
                gradients,
                None if velocities is None else dense[count:],
                lr,
                momentum,
                nesterov,
                weight_decay,
            )

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
        gradients = [_dense(g) for g in gradients]
        with _written([*parameters, *first_moments, *second_moments]) as dense:
            count = len(gradients)
            self.kernels.adam_update(
                dense[:count],
                gradients,
                dense[count : 2 * count],
                dense[2 * count :],
                list(steps),
                lr,
                betas,
                eps,
                weight_decay,
                decoupled,
            )


class _written:  # noqa: N801 (a function in all but its form)
    """Arrays in C order to write into; those that are copies are copied back at the end."""

    def __init__(self, arrays: list[Array]) -> None:
        self.arrays = arrays

    def __enter__(self) -> list[Array]:
        self.dense = [_dense(array) for array in self.arrays]
        return self.dense

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            for array, dense in zip(self.arrays, self.dense, strict=True):
                if dense is not array:
                    array[...] = dense


@cache
def cpu_backend() -> Backend:
    """Return the backend of device `cpu`: the best kernels, or those of `TINYGRAD_MASK_KERNELS`.

    Raises `DeviceError` for a name that is none or kernels that are not to be had; warns, and takes
    the reference, where nothing was compiled.
    """
    wanted = os.environ.get(KERNELS_VARIABLE, "auto")
    if wanted == "reference":
        return ReferenceBackend()
    if wanted not in ("auto", *INSTRUCTION_SETS):
        names = ", ".join(("auto", *INSTRUCTION_SETS, "reference"))
        raise DeviceError(f"{KERNELS_VARIABLE}: expected one of {names}, got {wanted!r}")
    if wanted != "auto":
        return CpuBackend(wanted)
    unavailable = unavailable_instruction_sets()
    for name in INSTRUCTION_SETS:
        if name not in unavailable:
            return CpuBackend(name)
    warnings.warn(
        "tinygrad_mask: no compiled kernels for the CPU here, running on the much slower NumPy "
        f"kernels; {unavailable['baseline']}",
        RuntimeWarning,
        stacklevel=2,
    )
    return ReferenceBackend()
