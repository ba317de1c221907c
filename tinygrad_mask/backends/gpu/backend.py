"""`GpuBackend`: every kernel of the interface, by the launch code beside this file.

It sees to what the launch code counts on: arrays in C order of the device's own module. A strided
view is copied, once; what a kernel takes as it lies (a matrix's transpose) is not.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import numpy as np

from tinygrad_mask.backends.gpu import (
    activation,
    convolution,
    group_normalisation,
    loss,
    matmul,
    normalisation,
    optimizer,
    pooling,
    resizing,
    scatter,
)
from tinygrad_mask.backends.interface import (
    Array,
    Backend,
    FusedActivation,
    Implementation,
    Resize,
    Window,
)
from tinygrad_mask.backends.launcher import Launcher
from tinygrad_mask.backends.reference import ReferenceBackend


class GpuBackend(Backend):
    """Arrays of the launcher's module, and the kernels of `kernels/cuda`.

    Integers and booleans, which a few primitives accept and training never meets, are left to the
    array module's own functions.
    """

    implementations: ClassVar[Mapping[str, Implementation]] = {
        "sum": Implementation.ARRAY_LIBRARY,
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
        "scatter_add": Implementation.HAND_WRITTEN,
        "sgd_update": Implementation.HAND_WRITTEN,
        "adam_update": Implementation.HAND_WRITTEN,
    }
    exceptions: ClassVar[Mapping[str, str]] = {
        "matmul": "integers: array library",
        "max_pool2d": "integers: reference",
        "relu": "integers: reference",
    }

    def __init__(self, name: str, launcher: Launcher) -> None:
        self.name = name
        self.launcher = launcher
        self.xp = launcher.xp
        self.reference = ReferenceBackend(launcher.xp)

    # --- computing --------------------------------------------------------------------------

    def computing(self) -> AbstractContextManager[None]:
        return self.reference.computing()

    # --- moving data ------------------------------------------------------------------------

    def asarray(self, host: Array) -> Array:
        return self.launcher.asarray(host)

    def to_host(self, array: Array) -> Array:
        return array

    def _dense(self, array: Array) -> Array:
        """The array in C order, at an address that fits; a copy only if it is not so already."""
        if not array.flags.c_contiguous:
            return self.xp.ascontiguousarray(array)
        fits = array.size == 0 or self.launcher.aligned(array, to=array.dtype.alignment)
        return array if fits else array.copy()

    def _dense_or_none(self, array: Array | None) -> Array | None:
        return None if array is None else self._dense(array)

    # --- sums -------------------------------------------------------------------------------

    def sum(self, x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
        return self.reference.sum(x, axes, keepdims)

    # --- matrix products --------------------------------------------------------------------

    def matmul(self, x: Array, y: Array) -> Array:
        if x.dtype.kind != "f":
            return self.xp.matmul(x, y)
        left_transposed = _is_transposed(x)
        right_transposed = not left_transposed and _is_transposed(y)
        return matmul.multiply(
            self.launcher,
            self._dense(x.swapaxes(-1, -2) if left_transposed else x),
            self._dense(y.swapaxes(-1, -2) if right_transposed else y),
            left_transposed=left_transposed,
            right_transposed=right_transposed,
        )[0]

    def linear(
        self, x: Array, weight: Array, bias: Array | None, activation: FusedActivation
    ) -> Array:
        x, weight, bias = self._dense(x), self._dense(weight), self._dense_or_none(bias)
        return matmul.linear(self.launcher, x, weight, bias, activation)

    def linear_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        activation: FusedActivation,
        y: Array | None,
        needed: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        # What is not needed for the gradients that are wanted may be missing.
        dense: Any = map(self._dense_or_none, (grad_output, x, weight, y))
        grad_output, x, weight, y = dense
        return matmul.linear_grad(self.launcher, grad_output, x, weight, activation, y, needed)

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
        x, weight, bias = self._dense(x), self._dense(weight), self._dense_or_none(bias)
        return convolution.conv2d(self.launcher, x, weight, bias, window, groups, activation)

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
        grad_output, weight = self._dense(grad_output), self._dense(weight)
        y = self._dense_or_none(y)
        return convolution.conv2d_grad_input(
            self.launcher, grad_output, weight, input_shape, window, groups, activation, y
        )

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
        grad_output, x, y = self._dense(grad_output), self._dense(x), self._dense_or_none(y)
        return convolution.conv2d_grad_weight(
            self.launcher, grad_output, x, weight_shape, window, groups, activation, y
        )

    # --- pooling ----------------------------------------------------------------------------

    def max_pool2d(self, x: Array, window: Window) -> tuple[Array, Array]:
        if x.dtype.kind != "f":
            return self.reference.max_pool2d(x, window)
        return pooling.max_pool2d(self.launcher, self._dense(x), window)

    def max_pool2d_grad(
        self, grad_output: Array, taps: Array, input_shape: tuple[int, ...], window: Window
    ) -> Array:
        grad_output, taps = self._dense(grad_output), self._dense(taps)
        return pooling.max_pool2d_grad(self.launcher, grad_output, taps, input_shape, window)

    def avg_pool2d(self, x: Array, window: Window, count_include_pad: bool) -> Array:
        return pooling.avg_pool2d(self.launcher, self._dense(x), window, count_include_pad)

    def avg_pool2d_grad(
        self,
        grad_output: Array,
        input_shape: tuple[int, ...],
        window: Window,
        count_include_pad: bool,
    ) -> Array:
        return pooling.avg_pool2d_grad(
            self.launcher, self._dense(grad_output), input_shape, window, count_include_pad
        )

    # --- resizing ---------------------------------------------------------------------------

    def interpolate(self, x: Array, resize: Resize) -> Array:
        return resizing.interpolate(self.launcher, self._dense(x), resize)

    def interpolate_grad(
        self, grad_output: Array, input_shape: tuple[int, ...], resize: Resize
    ) -> Array:
        grad_output = self._dense(grad_output)
        return resizing.interpolate_grad(self.launcher, grad_output, input_shape, resize)

    # --- activations ------------------------------------------------------------------------

    def _apply(self, name: str, x: Array, slope: float = 0.0) -> Array:
        return activation.activation(self.launcher, name, self._dense(x), slope)

    def _apply_grad(self, name: str, grad_output: Array, kept: Array, slope: float = 0.0) -> Array:
        grad_output, kept = self._dense(grad_output), self._dense(kept)
        return activation.activation_grad(self.launcher, name, grad_output, kept, slope)

    def sigmoid(self, x: Array) -> Array:
        return self._apply("sigmoid", x)

    def sigmoid_grad(self, grad_output: Array, y: Array) -> Array:
        return self._apply_grad("sigmoid", grad_output, y)

    def tanh(self, x: Array) -> Array:
        return self._apply("tanh", x)

    def tanh_grad(self, grad_output: Array, y: Array) -> Array:
        return self._apply_grad("tanh", grad_output, y)

    def relu(self, x: Array) -> Array:
        return self._apply("relu", x) if x.dtype.kind == "f" else self.reference.relu(x)

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
        arrays = map(self._dense, (x, weight, bias, mean, inverse_std))
        return normalisation.batch_norm(self.launcher, *arrays)

    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        return normalisation.batch_norm_statistics(self.launcher, self._dense(x))

    def batch_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        mean: Array,
        inverse_std: Array,
        training: bool,
    ) -> tuple[Array, Array, Array]:
        grad_output, x, weight = map(self._dense, (grad_output, x, weight))
        mean, inverse_std = self._dense(mean), self._dense(inverse_std)
        return normalisation.batch_norm_grad(
            self.launcher, grad_output, x, weight, mean, inverse_std, training
        )

    def group_norm(
        self, x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        x, weight, bias = self._dense(x), self._dense_or_none(weight), self._dense_or_none(bias)
        return group_normalisation.group_norm(self.launcher, x, weight, bias, groups, eps)

    def group_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        inverse_std: Array,
    ) -> tuple[Array, Array, Array]:
        grad_output, x, weight = (
            self._dense(grad_output),
            self._dense(x),
            self._dense_or_none(weight),
        )
        return group_normalisation.group_norm_grad(
            self.launcher, grad_output, x, weight, self._dense(mean), self._dense(inverse_std)
        )

    def cross_entropy(
        self, logits: Array, target: Array, weight: Array | None, label_smoothing: float
    ) -> tuple[Array, Array]:
        target = self._dense(target.astype(np.int64, copy=False))
        logits, weight = self._dense(logits), self._dense_or_none(weight)
        return loss.cross_entropy(self.launcher, logits, target, weight, label_smoothing)

    # --- scattering and updates ---------------------------------------------------------------

    def scatter_add(self, grad_output: Array, shape: tuple[int, ...], index: Any) -> Array:
        return scatter.scatter_add(self.launcher, self._dense(grad_output), shape, index)

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
        gradients = [self._dense(g) for g in gradients]
        with self._written(parameters, velocities or ()) as (values, kept):
            optimizer.sgd_update(
                self.launcher,
                values,
                gradients,
                None if velocities is None else kept,
                lr=lr,
                momentum=momentum,
                nesterov=nesterov,
                weight_decay=weight_decay,
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
        gradients = [self._dense(g) for g in gradients]
        with self._written(parameters, first_moments, second_moments) as (values, first, second):
            optimizer.adam_update(
                self.launcher,
                values,
                gradients,
                first,
                second,
                steps=steps,
                lr=lr,
                betas=betas,
                eps=eps,
                weight_decay=weight_decay,
                decoupled=decoupled,
            )

    @contextmanager
    def _written(self, *lists: Sequence[Array]) -> Iterator[list[list[Array]]]:
        """Arrays in C order to write into; those that are copies are copied back at the end."""
        dense = [[self._dense(array) for array in arrays] for arrays in lists]
        yield dense
        for arrays, copies in zip(lists, dense, strict=True):
            for array, copy in zip(arrays, copies, strict=True):
                if copy is not array:
                    array[...] = copy


def _is_transposed(matrices: Array) -> bool:
    """Whether each matrix lies in memory as its transpose would."""
    flags = matrices.swapaxes(-1, -2).flags
    return bool(flags.c_contiguous and not matrices.flags.c_contiguous)
