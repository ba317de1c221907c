"""Reductions: sum, mean, max, min, var, std, logsumexp, over one axis, several or all.

`axis` is None (all axes), an integer or a tuple; with `keepdims` the reduced axes stay with length
1. An axis that does not exist, or is named twice, raises `ValueError`.
"""

import math
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias

from tinygrad_mask.autograd import Function, Node
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.elementwise import exp, sqrt, where
from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.shape import broadcast_to

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

Axis: TypeAlias = int | tuple[int, ...] | None


def normalise_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the axes as distinct numbers in [0, ndim), in increasing order."""
    if axis is None:
        return tuple(range(ndim))
    try:
        axes = tuple(map(index, axis if isinstance(axis, Sequence) else (axis,)))
    except TypeError:
        raise TypeError(
            f"{name}: expected axis to be None, an integer or a tuple of them, got {axis!r}"
        ) from None
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"{name}: axis {a} does not exist in a tensor of {ndim} dimensions")
    normalised = tuple(sorted(a % ndim for a in axes))
    if len(set(normalised)) != len(normalised):
        raise ValueError(f"{name}: axis {axis} names an axis twice")
    return normalised


def single_axis(name: str, axis: int, ndim: int) -> int:
    """Return one axis as a number in [0, ndim)."""
    if axis is None or isinstance(axis, Sequence):
        raise TypeError(f"{name}: expected one axis, an integer, got {axis!r}")
    return normalise_axes(name, axis, ndim)[0]


def _check_not_empty(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    for a in axes:
        if shape[a] == 0:
            raise ValueError(f"{name}: cannot reduce axis {a} of length 0 (shape {shape})")


def _expand(array: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Put the reduced axes back with length 1, so that the result broadcasts to `shape`."""
    return array.reshape(tuple(1 if k in axes else n for k, n in enumerate(shape)))


class Sum(Function):
    """The sum over some axes."""

    name = "sum"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        ctx.axes, ctx.shape = axes, x.shape
        return ctx.backend.sum(x, axes, keepdims)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        expanded = _expand(grad_output, ctx.axes, ctx.shape)
        return ctx.xp.broadcast_to(expanded, ctx.shape)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return broadcast_to(_expand(grad_output, ctx.axes, ctx.shape), ctx.shape)


class Mean(Function):
    """The mean over some axes."""

    name = "mean"

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        ctx.axes, ctx.shape = axes, x.shape
        return ctx.backend.sum(x, axes, keepdims) / math.prod(x.shape[a] for a in axes)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        count = math.prod(ctx.shape[a] for a in ctx.axes)
        expanded = _expand(grad_output / count, ctx.axes, ctx.shape)
        return ctx.xp.broadcast_to(expanded, ctx.shape)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        count = math.prod(ctx.shape[a] for a in ctx.axes)
        return broadcast_to(_expand(grad_output / count, ctx.axes, ctx.shape), ctx.shape)


class Extremum(Function):
    """The largest or smallest element over some axes; the first gets the whole gradient."""

    integers = True

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """As `Function.apply`; `name` is that of the array's method too."""
        return super().apply(*inputs, method=cls.name, **options)

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdims: bool, method: str) -> Array:
        ctx.axes, ctx.shape = axes, x.shape
        y = getattr(x, method)(axis=axes, keepdims=keepdims)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(getattr(_reduced_last(x, axes), f"arg{method}")(axis=-1))
        return y

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (position,) = ctx.saved_arrays
        xp, axes, shape = ctx.xp, ctx.axes, ctx.shape
        kept = tuple(k for k in range(len(shape)) if k not in axes)
        length = math.prod(shape[a] for a in axes)
        # One row per kept element, one column per reduced one; then the axes go back.
        one_hot = xp.arange(length) == position[..., None]
        grad = one_hot * grad_output.reshape(position.shape)[..., None]
        grad = grad.reshape(tuple(shape[k] for k in kept + axes))
        return grad.transpose(tuple((kept + axes).index(k) for k in range(len(shape))))

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        first = Extremum.backward(ctx, ctx.xp.ones(grad_output.shape, dtype=grad_output.dtype))
        return _expand(grad_output, ctx.axes, ctx.shape) * first


class Max(Extremum):
    """The maximum over some axes."""

    name = "max"


class Min(Extremum):
    """The minimum over some axes."""

    name = "min"


def _reduced_last(x: Array, axes: tuple[int, ...]) -> Array:
    """Move the reduced axes to the end and flatten them into one."""
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    moved = x.transpose(kept + axes)
    # The product is spelt out: -1 cannot be inferred where another axis is empty.
    return moved.reshape((*moved.shape[: len(kept)], math.prod(x.shape[a] for a in axes)))


class Var(Function):
    """The variance over some axes: the mean squared deviation, less `correction` in the count."""

    name = "var"

    @staticmethod
    def forward(
        ctx: Node, x: Array, axes: tuple[int, ...], keepdims: bool, correction: int
    ) -> Array:
        ctx.axes, ctx.count = axes, math.prod(x.shape[a] for a in axes) - correction
        elements = math.prod(x.shape[a] for a in axes)
        centred = x - ctx.backend.sum(x, axes, True) / elements
        ctx.save_for_backward(centred, x)  # x for a second derivative
        return ctx.backend.sum(centred * centred, axes, keepdims) / ctx.count

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        # The mean's own dependence on x cancels, because the deviations sum to zero.
        centred, _ = ctx.saved_arrays
        scale = _expand(grad_output, ctx.axes, centred.shape) * (2 / ctx.count)
        return centred * scale

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        _, x = ctx.saved_tensors
        scale = _expand(grad_output, ctx.axes, x.shape) * (2 / ctx.count)
        return (x - mean(x, ctx.axes, keepdims=True)) * scale


class LogSumExp(Function):
    """log(sum(exp(x))) over some axes, computed from the maximum so that nothing overflows."""

    name = "logsumexp"

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        xp = ctx.xp
        highest = x.max(axis=axes, keepdims=True)
        # An infinite maximum would turn the shift into NaN; unshifted it gives the right infinity.
        highest = xp.where(xp.isinf(highest), xp.zeros_like(highest), highest)
        y = xp.log(ctx.backend.sum(xp.exp(x - highest), axes, True)) + highest
        ctx.axes = axes
        ctx.save_for_backward(x, y)
        if keepdims:
            return y
        return y.reshape(tuple(n for k, n in enumerate(x.shape) if k not in axes))

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        x, y = ctx.saved_arrays
        return _expand(grad_output, ctx.axes, x.shape) * ctx.xp.exp(x - y)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        x, _ = ctx.saved_tensors
        y = logsumexp(x, ctx.axes, keepdims=True)
        return _expand(grad_output, ctx.axes, x.shape) * exp(x - y)


def _reduce(function: type[Function], x: "Tensor", axis: Axis, keepdims: bool, **more: Any) -> Any:
    axes = normalise_axes(function.name, axis, x.ndim)
    if function is not Sum:
        _check_not_empty(function.name, x.shape, axes)
    return function.apply(x, axes=axes, keepdims=keepdims, **more)


@accepts_dim
def sum(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return the sum over `axis`; that of no elements is 0, that of integers or booleans int64."""
    return _reduce(Sum, x, axis, keepdims)


@accepts_dim
def mean(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return the mean over `axis`; raises `ValueError` if that has length 0."""
    return _reduce(Mean, x, axis, keepdims)


@accepts_dim
def max(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return the maximum over `axis`, NaN if one is there; a tie gives the first all the gradient.

    Raises `ValueError` if the axis has length 0.
    """
    return _reduce(Max, x, axis, keepdims)


@accepts_dim
def min(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return the minimum over `axis`, NaN if one is there; a tie gives the first all the gradient.

    Raises `ValueError` if the axis has length 0.
    """
    return _reduce(Min, x, axis, keepdims)


@accepts_dim
def var(x: "Tensor", axis: Axis = None, keepdims: bool = False, correction: int = 0) -> "Tensor":
    """Return the variance over `axis`: the squared deviations' sum over `count - correction`.

    `correction` is 0 as in NumPy; 1 gives the unbiased estimate. Raises `ValueError` if no more
    than `correction` elements are reduced.
    """
    axes = normalise_axes("var", axis, x.ndim)
    count = math.prod(x.shape[a] for a in axes)
    if count <= correction:
        raise ValueError(f"var: expected more than {correction} elements to reduce, got {count}")
    return _reduce(Var, x, axis, keepdims, correction=correction)


@accepts_dim
def std(x: "Tensor", axis: Axis = None, keepdims: bool = False, correction: int = 0) -> "Tensor":
    """Return the standard deviation over `axis`, the square root of `var`.

    `correction` is 0 as in NumPy (PyTorch's is 1). The gradient is 0 where all elements are equal.
    """
    variance = var(x, axis, keepdims, correction)
    equal = variance.data == 0
    return where(equal, 0.0, sqrt(where(equal, 1.0, variance)))


@accepts_dim
def logsumexp(x: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Return log(sum(exp(x))) over `axis`; raises `ValueError` if that has length 0."""
    return _reduce(LogSumExp, x, axis, keepdims)
