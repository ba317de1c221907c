"""Pooling over windows of an image, NHWC."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Function, GradientFunction, Node
from tinygrad_mask.backends import Array, Window
from tinygrad_mask.functions.convolution import Padding, Pair, as_pair, make_window
from tinygrad_mask.functions.elementwise import where
from tinygrad_mask.functions.shape import getitem, stack

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class MaxPool2dFunction(Function):
    """The maximum of each window; the first maximum gets the whole gradient."""

    name = "max_pool2d"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, window: Window) -> Array:
        y, taps = ctx.backend.max_pool2d(x, window)
        ctx.window, ctx.input_shape = window, x.shape
        ctx.save_for_backward(taps)
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (taps,) = ctx.saved_arrays
        return ctx.backend.max_pool2d_grad(grad_output, taps, ctx.input_shape, ctx.window)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (taps,) = ctx.saved_arrays
        return MaxPool2dGrad.apply(
            grad_output, taps=taps, input_shape=ctx.input_shape, window=ctx.window
        )


class MaxPool2dGrad(GradientFunction):
    """Each window's element added to the pixel that held the window's maximum."""

    name = "max_pool2d_grad"

    @staticmethod
    def forward(
        ctx: Node, x: Array, taps: Array, input_shape: tuple[int, ...], window: Window
    ) -> Array:
        if ctx.needs_input_grad[0]:
            ctx.index, ctx.inside = _maxima(ctx, taps, input_shape, window)
        return ctx.backend.max_pool2d_grad(x, taps, input_shape, window)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return ctx.xp.where(ctx.inside, grad_output[ctx.index], 0)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return where(ctx.inside, getitem(grad_output, ctx.index), 0.0)


def _maxima(
    ctx: Node, taps: Array, input_shape: tuple[int, ...], window: Window
) -> tuple[tuple[Array, ...], Array]:
    """The index of each window's maximum in the image, and whether it lies inside the image."""
    xp = ctx.xp
    n, p, q, c = taps.shape
    (_, kw), (sh, sw), ((top, _), (left, _)), (dh, dw) = window
    tap = taps.astype(np.int64)
    rows = xp.arange(p)[:, None, None] * sh + tap // kw * dh - top
    columns = xp.arange(q)[:, None] * sw + tap % kw * dw - left
    _, height, width, _ = input_shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = (
        xp.arange(n)[:, None, None, None],
        xp.clip(rows, 0, height - 1),
        xp.clip(columns, 0, width - 1),
        xp.arange(c),
    )
    return index, inside


class AvgPool2dFunction(Function):
    """The mean of each window."""

    name = "avg_pool2d"

    @staticmethod
    def forward(ctx: Node, x: Array, window: Window, count_include_pad: bool) -> Array:
        ctx.window, ctx.input_shape, ctx.count_include_pad = window, x.shape, count_include_pad
        return ctx.backend.avg_pool2d(x, window, count_include_pad)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return ctx.backend.avg_pool2d_grad(
            grad_output, ctx.input_shape, ctx.window, ctx.count_include_pad
        )

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return AvgPool2dGrad.apply(
            grad_output,
            input_shape=ctx.input_shape,
            window=ctx.window,
            count_include_pad=ctx.count_include_pad,
        )


class AvgPool2dGrad(GradientFunction):
    """Each window's element shared among its pixels; the transposed map of `avg_pool2d`."""

    name = "avg_pool2d_grad"

    @staticmethod
    def forward(
        ctx: Node,
        x: Array,
        input_shape: tuple[int, ...],
        window: Window,
        count_include_pad: bool,
    ) -> Array:
        ctx.window, ctx.count_include_pad = window, count_include_pad
        return ctx.backend.avg_pool2d_grad(x, input_shape, window, count_include_pad)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return ctx.backend.avg_pool2d(grad_output, ctx.window, ctx.count_include_pad)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return AvgPool2dFunction.apply(
            grad_output, window=ctx.window, count_include_pad=ctx.count_include_pad
        )


def _pooling_window(
    name: str,
    x: "Tensor",
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    dilation: Pair = 1,
) -> Window:
    if x.ndim != 4:
        raise ValueError(f"{name}: expected an input of shape NHWC, got {x.shape}")
    size = as_pair(name, "kernel_size", kernel_size)
    strides = size if stride is None else stride
    window = make_window(name, x.shape[1:3], size, strides, padding, dilation)
    # More than half a window of padding would make windows that hold nothing but padding.
    for (before, after), k in zip(window.padding, size, strict=True):
        if max(before, after) > k // 2:
            raise ValueError(
                f"{name}: expected padding of at most half the window of {size[0]}x{size[1]}, "
                f"got {window.padding}"
            )
    if dilation != 1:
        _check_dilated(name, x.shape[1:3], window)
    return window


def _check_dilated(name: str, image: tuple[int, ...], window: Window) -> None:
    """Raise `ValueError` if a dilated window reaches from padding to padding over the image."""
    sides = zip(
        image,
        window.output_size(*image),
        window.size,
        window.stride,
        window.padding,
        window.dilation,
        strict=True,
    )
    for n, count, k, s, (before, _), d in sides:
        for position in range(count):
            taps = range(position * s - before, position * s - before + k * d, d)
            if not any(0 <= tap < n for tap in taps):
                raise ValueError(
                    f"{name}: expected a pixel of the {image[0]}x{image[1]} image in each window, "
                    f"got dilation {window.dilation} with padding {window.padding}; pad less"
                )


def _up_to_the_end(image: tuple[int, ...], window: Window) -> Window:
    """The window with so much padding at the end that a last, incomplete one fits (ceil_mode).

    None that would start behind the image and its padding in front is added.
    """
    padding = []
    for n, k, s, (before, after), d in zip(
        image, window.size, window.stride, window.padding, window.dilation, strict=True
    ):
        reach = d * (k - 1) + 1
        count = -(-(n + before + after - reach) // s) + 1
        if (count - 1) * s >= n + before:
            count -= 1
        padding.append((before, max(after, (count - 1) * s + reach - n - before)))
    return window._replace(padding=(padding[0], padding[1]))


def max_pool2d(
    x: "Tensor",
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> "Tensor":
    """Return the maximum of each window of `x` (N, H, W, C), of shape (N, P, Q, C).

    The stride is the window's size unless given; windows may overlap. Padding counts as minus
    infinity and is at most half the window. With `ceil_mode` a last window that only partly fits
    counts too. NaN propagates; a tie gives the first maximum in reading order the whole gradient.
    Raises `ValueError` where the arguments do not fit.
    """
    window = _pooling_window("max_pool2d", x, kernel_size, stride, padding, dilation)
    if ceil_mode:
        window = _up_to_the_end(x.shape[1:3], window)
    return MaxPool2dFunction.apply(x, window=window)


def avg_pool2d(
    x: "Tensor",
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> "Tensor":
    """Return the mean of each window of `x` (N, H, W, C), of shape (N, P, Q, C).

    The stride is the window's size unless given; windows may overlap. Padding is at most half the
    window; it counts as zeros, or, without `count_include_pad`, not at all. With `ceil_mode` a last
    window that only partly fits counts too; what of it lies behind the padding does not count.
    `divisor_override` takes the place of the number of pixels that sums are divided by. Raises
    `ValueError` where the arguments do not fit.
    """
    window = _pooling_window("avg_pool2d", x, kernel_size, stride, padding)
    if divisor_override is not None and not divisor_override >= 1:
        raise ValueError(f"avg_pool2d: expected divisor_override >= 1, got {divisor_override}")
    image, inner = x.shape[1:3], window
    if ceil_mode:
        window = _up_to_the_end(image, window)
    if divisor_override is None and (window == inner or not count_include_pad):
        return AvgPool2dFunction.apply(x, window=window, count_include_pad=count_include_pad)
    # The mean over whole windows, times what it was divided by too often.
    means: Tensor = AvgPool2dFunction.apply(x, window=window, count_include_pad=True)
    whole = window.size[0] * window.size[1]
    if divisor_override is not None:
        return means * (whole / divisor_override)
    rows, columns = (
        [min(k, n + before + after - p * s) for p in range(count)]
        for n, count, k, s, (before, after) in zip(
            image,
            window.output_size(*image),
            window.size,
            window.stride,
            inner.padding,
            strict=True,
        )
    )
    factors = whole / np.outer(rows, columns)[:, :, None]
    return means * x.wrap(x.backend.asarray(factors.astype(x.dtype)))


def global_avg_pool2d(x: "Tensor") -> "Tensor":
    """Return the mean over all pixels of `x` (N, H, W, C), of shape (N, C)."""
    if x.ndim != 4:
        raise ValueError(f"global_avg_pool2d: expected an input of shape NHWC, got {x.shape}")
    return x.mean(axis=(1, 2))


_MOST_CELLS = 1 << 24  # along an axis


def adaptive_avg_pool2d(
    x: "Tensor", output_size: int | tuple[int | None, int | None] | None
) -> "Tensor":
    """Return means of `x` (N, H, W, C) over a grid of P x Q cells, of shape (N, P, Q, C).

    Cell i of an axis of length n goes from floor(i n / P) to ceil((i + 1) n / P), as in PyTorch, so
    that cells overlap by a pixel where P does not divide n. `output_size` is (P, Q) or one number
    for both; None keeps an axis as long as it is. Raises `ValueError` for an input that is not NHWC
    or has no pixels, or a size below 1.
    """
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"adaptive_avg_pool2d: expected an input of shape NHWC, got {x.shape}")
    pair: Any = output_size
    if not isinstance(output_size, tuple | list):
        pair = (output_size, output_size)
    sides = x.shape[1:3]
    if len(pair) == 2:
        pair = tuple(n if size is None else size for size, n in zip(pair, sides, strict=True))
    p, q = as_pair("adaptive_avg_pool2d", "output_size", pair)
    if max(p, q) > _MOST_CELLS:
        raise ValueError(
            f"adaptive_avg_pool2d: expected an output size of at most {_MOST_CELLS}, "
            f"got {max(p, q)}"
        )
    if (p, q) == (1, 1):
        return x.mean(axis=(1, 2), keepdims=True)
    if sides[0] % p == 0 and sides[1] % q == 0:
        return avg_pool2d(x, (sides[0] // p, sides[1] // q))
    # A mean over a rectangle is the mean over its columns of the means over its rows.
    for axis, cells in ((1, p), (2, q)):
        n = x.shape[axis]
        bounds = [(i * n // cells, -(-(i + 1) * n // cells)) for i in range(cells)]
        lead: tuple[Any, ...] = (slice(None),) * axis
        parts = [x[lead + (slice(a, b),)] for a, b in bounds]  # noqa: RUF005 (for Python 3.10)
        x = stack([part.mean(axis=axis) for part in parts], axis=axis)
    return x
