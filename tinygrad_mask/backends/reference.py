"""The plain NumPy meaning of every kernel: the specification of the compiled ones, and what runs
where nothing is compiled.

A window that slides over an image is a strided view of it: `_windows` shows all at once, `_tap` the
part that the tap in row i and column j of the window meets.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinygrad_mask.backends.interface import (
    OPERATIONS,
    Array,
    Backend,
    FusedActivation,
    Implementation,
    Resize,
    Window,
)

_LONG_PRODUCT = 128
"""The terms of a matrix product that are added in the operands' precision."""


class ReferenceBackend(Backend):
    """NumPy arrays and NumPy kernels; or those of another array module with NumPy's interface."""

    name = "cpu"
    implementations = dict.fromkeys(OPERATIONS, Implementation.REFERENCE)

    def __init__(self, xp: Any = np) -> None:
        self.xp = xp

    # --- computing --------------------------------------------------------------------------

    def computing(self) -> AbstractContextManager[None]:
        # log(0) is -inf and 0/0 is NaN, as IEEE 754 says; a warning for each, from deep within a
        # training step, would only repeat what the loss shows.
        return np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")

    # --- moving data ------------------------------------------------------------------------

    def asarray(self, host: Array) -> Array:
        return np.asarray(host)

    def to_host(self, array: Array) -> Array:
        return array

    # --- sums -------------------------------------------------------------------------------

    def sum(self, x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
        if x.dtype.kind != "f":
            return x.sum(axis=axes, keepdims=keepdims, dtype=np.int64)
        total = x.sum(axis=axes, keepdims=keepdims, dtype=np.float64)
        return self.xp.asarray(total, dtype=x.dtype)

    # --- matrix products --------------------------------------------------------------------

    def matmul(self, x: Array, y: Array) -> Array:
        terms = x.shape[-1]
        if terms <= _LONG_PRODUCT or x.dtype.kind != "f":
            return self.xp.matmul(x, y)
        # BLAS adds products one after the other; the sums of blocks of them lose less.
        total = self.xp.zeros((*x.shape[:-1], y.shape[-1]), np.float64)
        for first in range(0, terms, _LONG_PRODUCT):
            some = slice(first, first + _LONG_PRODUCT)
            total += self.xp.matmul(x[..., some], y[..., some, :])
        return total.astype(x.dtype)

    def linear(
        self, x: Array, weight: Array, bias: Array | None, activation: FusedActivation
    ) -> Array:
        y = self.matmul(x, weight)
        if bias is not None:
            y += bias
        return self._activate(y, activation)

    def linear_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        activation: FusedActivation,
        y: Array | None,
        needed: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        grad_output = self._before_activation(grad_output, activation, y)
        return (
            self.matmul(grad_output, weight.T) if needed[0] else None,
            self.matmul(x.T, grad_output) if needed[1] else None,
            self.sum(grad_output, (0,)) if needed[2] else None,
        )

    def _activate(self, x: Array, activation: FusedActivation) -> Array:
        return x if activation == "none" else getattr(self, activation)(x)

    def _before_activation(
        self, grad_output: Array, activation: FusedActivation, y: Array | None
    ) -> Array:
        """The gradient of what the activation was applied to."""
        if activation == "none":
            return grad_output
        return getattr(self, f"{activation}_grad")(grad_output, y)

    # --- convolution ------------------------------------------------------------------------

    # One row a window, one column a tap and channel: a convolution is a matrix product with that.

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
        p, q = window.output_size(h, w)
        outputs = [
            rows @ kernel.reshape(rows.shape[1], kernel.shape[-1])
            for rows, kernel in zip(
                self._rows(x, window, groups),
                self.xp.split(weight, groups, axis=-1),
                strict=True,
            )
        ]
        y = self.xp.concatenate(outputs, axis=-1) if groups > 1 else outputs[0]
        if bias is not None:
            y += bias
        return self._activate(y.reshape(n, p, q, weight.shape[-1]), activation)

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
        grad_output = self._before_activation(grad_output, activation, y)
        # What each tap sends back goes to the pixels that it met.
        padded = self.xp.zeros(_padded_shape(input_shape, window), dtype=grad_output.dtype)
        for grad, kernel, grad_input in zip(
            self.xp.split(grad_output, groups, axis=-1),
            self.xp.split(weight, groups, axis=-1),
            self.xp.split(padded, groups, axis=-1),  # views, written through
            strict=True,
        ):
            for i, j in _taps(window):
                _tap(grad_input, i, j, window)[...] += self.xp.tensordot(
                    grad, kernel[i, j], axes=(3, 1)
                )
        return _unpad(padded, input_shape, window)

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
        grad_output = self._before_activation(grad_output, activation, y)
        gradients = [
            rows.T @ grad.reshape(rows.shape[0], grad.shape[-1])
            for rows, grad in zip(
                self._rows(x, window, groups),
                self.xp.split(grad_output, groups, axis=-1),
                strict=True,
            )
        ]
        grad_weight = self.xp.concatenate(gradients, axis=-1).reshape(weight_shape)
        return grad_weight, self.sum(grad_output, (0, 1, 2))

    def _rows(self, x: Array, window: Window, groups: int) -> list[Array]:
        """The pixels under each window, copied, a group each: (N * P * Q, KH * KW * C / groups)."""
        windows = self._windows(x, window)
        n, p, q, kh, kw, c = windows.shape
        return [
            part.reshape(n * p * q, kh * kw * c // groups)
            for part in self.xp.split(windows, groups, axis=-1)
        ]

    def _windows(self, x: Array, window: Window) -> Array:
        """The pixels under each tap of each window, as a view: (N, P, Q, KH, KW, C)."""
        padded = self._pad(x, window, 0)
        n, _, _, c = padded.shape
        p, q = window.output_size(*x.shape[1:3])
        image, row, column, channel = padded.strides
        (sh, sw), (dh, dw) = window.stride, window.dilation
        return self.xp.lib.stride_tricks.as_strided(
            padded,
            (n, p, q, *window.size, c),
            (image, sh * row, sw * column, dh * row, dw * column, channel),
        )

    def _pad(self, x: Array, window: Window, value: float) -> Array:
        if window.padding == ((0, 0), (0, 0)):
            return x
        padded = self.xp.full(_padded_shape(x.shape, window), value, dtype=x.dtype)
        _unpad(padded, x.shape, window)[...] = x
        return padded

    # --- pooling ----------------------------------------------------------------------------

    def max_pool2d(self, x: Array, window: Window) -> tuple[Array, Array]:
        padded = self._pad(x, window, -np.inf)
        views = [_tap(padded, i, j, window) for i, j in _taps(window)]
        # Where a tap meets the image: padding holds no maximum, even if all the pixels are -inf.
        image = self._pad(self.xp.ones((1, *x.shape[1:3], 1), dtype=bool), window, False)
        inside = [_tap(image, i, j, window) for i, j in _taps(window)]
        any_inside = functools.reduce(self.xp.logical_or, inside)
        best = views[0].copy()
        for values in views[1:]:
            self.xp.maximum(best, values, out=best)  # a NaN stays
        # The place of the first tap that holds the maximum is the number of taps before it.
        taps = self.xp.zeros(best.shape, dtype=np.uint8 if len(views) <= 256 else np.int32)
        searching = self.xp.ones(best.shape, dtype=bool)
        is_nan = best != best
        any_nan = is_nan.any()
        for values, met in zip(views[:-1], inside, strict=False):
            searching &= (values != best) | ~met
            if any_nan:
                searching &= ~(is_nan & (values != values))
            taps += searching
        if not any_inside.all():
            taps *= any_inside  # the first tap of a window without a pixel
        return best, taps

    def max_pool2d_grad(
        self, grad_output: Array, taps: Array, input_shape: tuple[int, ...], window: Window
    ) -> Array:
        padded = self.xp.zeros(_padded_shape(input_shape, window), dtype=grad_output.dtype)
        for tap, (i, j) in enumerate(_taps(window)):
            _tap(padded, i, j, window)[...] += grad_output * (taps == tap)
        return _unpad(padded, input_shape, window)

    def avg_pool2d(self, x: Array, window: Window, count_include_pad: bool) -> Array:
        padded = self._pad(x, window, 0)
        total = self.xp.zeros(_tap(padded, 0, 0, window).shape, np.float64)
        for i, j in _taps(window):
            total += _tap(padded, i, j, window)
        total /= self._pixel_counts(x.shape, window, count_include_pad, x.dtype)
        return total.astype(x.dtype)

    def avg_pool2d_grad(
        self,
        grad_output: Array,
        input_shape: tuple[int, ...],
        window: Window,
        count_include_pad: bool,
    ) -> Array:
        share = grad_output / self._pixel_counts(
            input_shape, window, count_include_pad, grad_output.dtype
        )
        padded = self.xp.zeros(_padded_shape(input_shape, window), dtype=grad_output.dtype)
        for i, j in _taps(window):
            _tap(padded, i, j, window)[...] += share
        return _unpad(padded, input_shape, window)

    def _pixel_counts(
        self, input_shape: tuple[int, ...], window: Window, count_include_pad: bool, dtype: Any
    ) -> Array:
        """How many pixels each window's mean is over, (P, Q, 1)."""
        _, h, w, _ = input_shape
        ones = self.xp.ones((1, h, w, 1), dtype=dtype)
        padded = self._pad(ones, window, 1 if count_include_pad else 0)
        count = sum(_tap(padded, i, j, window) for i, j in _taps(window))
        return count[0]  # type: ignore[index]

    # --- resizing ---------------------------------------------------------------------------

    # One matrix per axis, in which a row per output pixel holds the shares of the input pixels.

    def interpolate(self, x: Array, resize: Resize) -> Array:
        down, across = self._shares(x.shape, resize, x.dtype)
        rows = self.xp.einsum("ph,nhwc->npwc", down, x)
        return self.xp.ascontiguousarray(self.xp.einsum("qw,npwc->npqc", across, rows))

    def interpolate_grad(
        self, grad_output: Array, input_shape: tuple[int, ...], resize: Resize
    ) -> Array:
        down, across = self._shares(input_shape, resize, grad_output.dtype)
        rows = self.xp.einsum("ph,npqc->nhqc", down, grad_output)
        return self.xp.ascontiguousarray(self.xp.einsum("qw,nhqc->nhwc", across, rows))

    def _shares(self, input_shape: tuple[int, ...], resize: Resize, dtype: Any) -> list[Array]:
        """The matrices (P, H) and (Q, W)."""
        matrices = []
        for size, out, step in zip(input_shape[1:3], resize.size, resize.steps, strict=True):
            place = np.arange(out) * step
            if resize.linear and not resize.align_corners:
                place = np.maximum(0, (np.arange(out) + 0.5) * step - 0.5)
            place = np.minimum(place, size - 1)
            lower = place.astype(np.int64)
            upper = np.minimum(lower + 1, size - 1)
            weight = place - lower if resize.linear else np.zeros(out)
            shares = np.zeros((out, size))
            np.add.at(shares, (np.arange(out), lower), 1 - weight)
            np.add.at(shares, (np.arange(out), upper), weight)
            matrices.append(self.asarray(shares.astype(dtype)))
        return matrices

    # --- activations ------------------------------------------------------------------------

    def sigmoid(self, x: Array) -> Array:
        # exp of a negative number never overflows; 1 - e/(1+e) = 1/(1+e) covers the other side.
        e = self.xp.exp(-self.xp.abs(x))
        return self.xp.where(x >= 0, 1 / (1 + e), e / (1 + e))

    def sigmoid_grad(self, grad_output: Array, y: Array) -> Array:
        return grad_output * y * (1 - y)

    def tanh(self, x: Array) -> Array:
        return self.xp.tanh(x)

    def tanh_grad(self, grad_output: Array, y: Array) -> Array:
        return grad_output * (1 - y * y)

    def relu(self, x: Array) -> Array:
        return self.xp.maximum(x, 0)

    def relu_grad(self, grad_output: Array, y: Array) -> Array:
        return grad_output * (y > 0)

    def leaky_relu(self, x: Array, negative_slope: float) -> Array:
        return self.xp.where(x > 0, x, negative_slope * x)

    def leaky_relu_grad(self, grad_output: Array, x: Array, negative_slope: float) -> Array:
        return self.xp.where(x > 0, grad_output, negative_slope * grad_output)

    def silu(self, x: Array) -> Array:
        return x * self.sigmoid(x)

    def silu_grad(self, grad_output: Array, x: Array) -> Array:
        s = self.sigmoid(x)
        return grad_output * s * (1 + x * (1 - s))

    # --- normalisation and loss ---------------------------------------------------------------

    def batch_norm(
        self, x: Array, weight: Array, bias: Array, mean: Array, inverse_std: Array
    ) -> Array:
        return (x - mean) * (inverse_std * weight) + bias

    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        mean = self.sum(x, axes) / count
        centred = x - mean
        return mean, self.sum(centred * centred, axes) / count

    def batch_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array,
        mean: Array,
        inverse_std: Array,
        training: bool,
    ) -> tuple[Array, Array, Array]:
        axes = tuple(range(x.ndim - 1))
        normalised = (x - mean) * inverse_std
        grad_weight = self.sum(grad_output * normalised, axes)
        grad_bias = self.sum(grad_output, axes)
        grad_input = grad_output
        if training:
            # The batch's own mean and variance depend on x: Ioffe and Szegedy 2015, section 3.
            count = x.size // x.shape[-1]
            grad_input = grad_output - (grad_bias + normalised * grad_weight) / count
        return grad_input * (inverse_std * weight), grad_weight, grad_bias

    def group_norm(
        self, x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        n, pixels, channels = x.shape
        parts = x.reshape(n, pixels, groups, channels // groups)
        count = pixels * (channels // groups)
        mean = self.sum(parts, (1, 3)) / count
        centred = parts - mean[:, None, :, None]
        variance = self.sum(centred * centred, (1, 3)) / count
        inverse_std = 1 / self.xp.sqrt(variance + eps)
        y = _normalised(x, mean, inverse_std)
        if weight is not None:
            y = y * weight
        if bias is not None:
            y = y + bias
        return y, mean, inverse_std

    def group_norm_grad(
        self,
        grad_output: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        inverse_std: Array,
    ) -> tuple[Array, Array, Array]:
        n, pixels, channels = x.shape
        groups = mean.shape[1]
        parts = (n, pixels, groups, channels // groups)
        normalised = _normalised(x, mean, inverse_std)
        grad_weight = self.sum(grad_output * normalised, (0, 1))
        grad_bias = self.sum(grad_output, (0, 1))
        # As in batch_norm_grad, with the mean over an image and group instead of the batch.
        grad = (grad_output if weight is None else grad_output * weight).reshape(parts)
        normalised = normalised.reshape(parts)
        count = pixels * (channels // groups)
        common = self.sum(grad, (1, 3), True) / count
        along = self.sum(grad * normalised, (1, 3), True) / count
        grad_input = (grad - common - normalised * along) * inverse_std[:, None, :, None]
        return grad_input.reshape(x.shape), grad_weight, grad_bias

    def cross_entropy(
        self, logits: Array, target: Array, weight: Array | None, label_smoothing: float
    ) -> tuple[Array, Array]:
        n, classes = logits.shape
        xp, dtype = self.xp, logits.dtype
        shifted = logits - logits.max(axis=1, keepdims=True)
        exponentials = xp.exp(shifted)
        total = exponentials.sum(axis=1, keepdims=True)
        log_probabilities = shifted - xp.log(total)
        # The wanted distribution of each row, times the weights of its classes.
        wanted = xp.full((n, classes), label_smoothing / classes, dtype=dtype)
        wanted[xp.arange(n), target] += 1 - label_smoothing
        normaliser: Any = n
        if weight is not None:
            wanted *= weight
            normaliser = weight[target].sum()
        # A class that is not wanted does not count, even if its probability is 0.
        losses = xp.where(wanted == 0, 0, wanted * log_probabilities)
        loss = -self.sum(losses, (0, 1)) / normaliser
        gradient = exponentials / total * wanted.sum(axis=1, keepdims=True) - wanted
        return xp.asarray(loss, dtype=dtype), gradient / normaliser

    # --- scattering and updates ---------------------------------------------------------------

    def scatter_add(self, grad_output: Array, shape: tuple[int, ...], index: Any) -> Array:
        dtype = grad_output.dtype
        # Where many values meet, in double precision: each would be rounded to the sum's.
        many = grad_output.size > math.prod(shape)
        wide = self.xp.float64 if many and dtype == self.xp.float32 else dtype
        grad_input = self.xp.zeros(shape, dtype=wide)
        self.xp.add.at(grad_input, index, grad_output.astype(wide, copy=False))
        return grad_input.astype(dtype, copy=False)

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
        for k, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            update = gradient + weight_decay * parameter if weight_decay else gradient
            if velocities is not None:
                velocity = velocities[k]
                velocity *= momentum
                velocity += update
                update = update + momentum * velocity if nesterov else velocity
            parameter -= lr * update

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
        beta1, beta2 = betas
        for parameter, gradient, m, v, step in zip(
            parameters, gradients, first_moments, second_moments, steps, strict=True
        ):
            if decoupled:
                parameter *= 1 - lr * weight_decay
            elif weight_decay:
                gradient = gradient + weight_decay * parameter
            m *= beta1
            m += (1 - beta1) * gradient
            v *= beta2
            v += (1 - beta2) * gradient * gradient
            scale = self.xp.sqrt(v / (1 - beta2**step))
            scale += eps
            parameter -= lr / (1 - beta1**step) * m / scale


def _normalised(x: Array, mean: Array, inverse_std: Array) -> Array:
    """x (N, P, C) less the mean of its image and group, times the inverse standard deviation."""
    n, pixels, channels = x.shape
    parts = x.reshape(n, pixels, mean.shape[1], channels // mean.shape[1])
    return ((parts - mean[:, None, :, None]) * inverse_std[:, None, :, None]).reshape(x.shape)


def _taps(window: Window) -> Iterator[tuple[int, int]]:
    """The rows and columns of a window, in reading order."""
    return ((i, j) for i in range(window.size[0]) for j in range(window.size[1]))


def _tap(padded: Array, i: int, j: int, window: Window) -> Array:
    """The view of `padded` (N, H, W, C) that tap (i, j) of every window meets, (N, P, Q, C)."""
    _, h, w, _ = padded.shape
    p, q = Window(window.size, window.stride, dilation=window.dilation).output_size(h, w)
    (sh, sw), (dh, dw) = window.stride, window.dilation
    rows = slice(i * dh, i * dh + (p - 1) * sh + 1, sh)
    columns = slice(j * dw, j * dw + (q - 1) * sw + 1, sw)
    return padded[:, rows, columns]


def _padded_shape(shape: tuple[int, ...], window: Window) -> tuple[int, ...]:
    n, h, w, c = shape
    (top, bottom), (left, right) = window.padding
    return n, h + top + bottom, w + left + right, c


def _unpad(padded: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The view of `padded` without its padding."""
    _, h, w, _ = shape
    (top, _), (left, _) = window.padding
    return padded[:, top : top + h, left : left + w]
