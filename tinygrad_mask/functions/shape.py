"""Primitives that move elements without changing them.

Where the array module can, their result is a view of the input's memory (reshape, permute,
broadcast_to, getitem with integers and slices).
"""

import math
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinygrad_mask.autograd import (
    Function,
    GradientFunction,
    Node,
    Variable,
    array_of,
    number_for,
    sum_to_shape,
)
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.naming import accepts_dim

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

PadWidth: TypeAlias = Sequence[tuple[int, int]]


class Reshape(Function):
    """The same elements in reading order, in another shape."""

    name = "reshape"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, shape: tuple[int, ...]) -> Array:
        ctx.shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return grad_output.reshape(ctx.shape)

    differentiable_backward = backward


class Permute(Function):
    """The axes in another order."""

    name = "permute"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...]) -> Array:
        ctx.axes = axes
        return x.transpose(axes)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return grad_output.transpose(tuple(ctx.axes.index(k) for k in range(len(ctx.axes))))

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return permute(grad_output, tuple(ctx.axes.index(k) for k in range(len(ctx.axes))))


class BroadcastTo(Function):
    """New leading axes, and axes of length 1 repeated."""

    name = "broadcast_to"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, shape: tuple[int, ...]) -> Array:
        ctx.shape = x.shape
        return ctx.xp.broadcast_to(x, shape)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        gradient: Array = sum_to_shape(grad_output, ctx.shape, ctx.backend)
        return gradient

    differentiable_backward = backward


class Concatenate(Function):
    """Arrays joined along an axis that they have."""

    name = "concatenate"
    integers = True

    @staticmethod
    def forward(ctx: Node, *arrays: Array, axis: int) -> Array:
        ctx.axis, ctx.lengths = axis, [a.shape[axis] for a in arrays]
        return ctx.xp.concatenate(arrays, axis=axis)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, ...]:
        ends = np.cumsum(ctx.lengths)[:-1].tolist()
        return tuple(ctx.xp.split(grad_output, ends, axis=ctx.axis))

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, ...]":
        ends = np.cumsum(ctx.lengths).tolist()
        return tuple(
            grad_output[(slice(None),) * ctx.axis + (slice(end - length, end),)]
            for end, length in zip(ends, ctx.lengths, strict=True)
        )


class Stack(Function):
    """Arrays of one shape joined along a new axis."""

    name = "stack"
    integers = True

    @staticmethod
    def forward(ctx: Node, *arrays: Array, axis: int) -> Array:
        ctx.axis = axis
        return ctx.xp.stack(arrays, axis=axis)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, ...]:
        return tuple(ctx.xp.moveaxis(grad_output, ctx.axis, 0))

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, ...]":
        lead = (slice(None),) * ctx.axis
        return tuple(getitem(grad_output, (*lead, k)) for k in range(grad_output.shape[ctx.axis]))


class Pad(Function):
    """A constant put before and after, along each axis."""

    name = "pad"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, widths: PadWidth, value: float) -> Array:
        ctx.inside = tuple(
            slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True)
        )
        shape = tuple(
            before + n + after for (before, after), n in zip(widths, x.shape, strict=True)
        )
        padded = ctx.xp.full(shape, value, dtype=x.dtype)
        padded[ctx.inside] = x
        return padded

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return grad_output[ctx.inside]

    differentiable_backward = backward


class GetItem(Function):
    """The elements that an index selects: integers, slices, None, `...`, integer or bool arrays."""

    name = "getitem"
    integers = True

    @staticmethod
    def forward(ctx: Node, x: Array, index: Any) -> Array:
        ctx.index, ctx.shape = index, x.shape
        return x[index]

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return _scatter(ctx, grad_output, ctx.shape, ctx.index)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return GetItemGrad.apply(grad_output, shape=ctx.shape, index=ctx.index)


class GetItemGrad(GradientFunction):
    """Zeros, plus the elements at an index: what `GetItem` is the derivative of."""

    name = "getitem_grad"

    @staticmethod
    def forward(ctx: Node, x: Array, shape: tuple[int, ...], index: Any) -> Array:
        ctx.index = index
        return _scatter(ctx, x, shape, index)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return grad_output[ctx.index]

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        return GetItem.apply(grad_output, index=ctx.index)


def _scatter(ctx: Node, values: Array, shape: tuple[int, ...], index: Any) -> Array:
    """Zeros of `shape`, plus the values at an index; those of repeated ones add up."""
    if any(_is_array(i) for i in index):
        return ctx.backend.scatter_add(values, shape, index)
    result: Array = ctx.xp.zeros(shape, dtype=values.dtype)
    result[index] = values
    return result


def _is_array(index: Any) -> bool:
    return hasattr(index, "dtype") and getattr(index, "ndim", 0) > 0


def as_integers(name: str, what: str, values: Any) -> tuple[int, ...]:
    """Return a sequence of integers as a tuple of Python's.

    Raises `TypeError` for what is not a sequence of integers (a float is never cut), `ValueError`
    for one of 2**63 or more.
    """
    try:
        integers = tuple(map(index, values))
    except TypeError:
        given = tuple(values) if isinstance(values, Sequence) else values
        raise TypeError(f"{name}: expected {what} to be integers, got {given!r}") from None
    if any(abs(n) >= 2**63 for n in integers):
        raise ValueError(f"{name}: expected {what} to be below 2**63, got {integers}")
    return integers


def check_size(name: str, *lengths: int) -> None:
    """Raise `ValueError` for a length of 2**63 or more, or more elements than memory could hold."""
    # Sizes are 64-bit integers in every kernel, and so are offsets in bytes.
    elements = math.prod(n or 1 for n in lengths)
    if abs(elements) >= 2**60 or any(abs(n) >= 2**63 for n in lengths):
        raise ValueError(
            f"{name}: expected lengths below 2**63 and fewer than 2**60 elements, got {lengths}"
        )


def _tensors(name: str, tensors: Any) -> Sequence[Any]:
    """Check what is to be joined: a list or tuple of tensors (or arrays), at least one."""
    if isinstance(tensors, Variable) or not isinstance(tensors, Sequence):
        raise TypeError(
            f"{name}: expected a list or tuple of tensors, got {type(tensors).__name__}; "
            f"write {name}([x, y])"
        )
    if not tensors:
        raise ValueError(f"{name}: expected at least one tensor, got none")
    for k, tensor in enumerate(tensors):
        if not isinstance(tensor, Variable) and not hasattr(tensor, "ndim"):
            raise TypeError(
                f"{name}: expected tensors, got {type(tensor).__name__} at position {k}"
            )
    return tensors


def _joining_axis(name: str, axis: Any, ndim: int) -> int:
    (number,) = as_integers(name, "axis", (axis,))
    if not -ndim <= number < ndim:
        raise ValueError(f"{name}: axis {number} does not exist in {ndim} dimensions")
    return number % ndim


def reshape(x: "Tensor", shape: Sequence[int]) -> "Tensor":
    """Return x in another shape of as many elements; one length may be -1 and is worked out."""
    wanted = as_integers("reshape", "the lengths", shape)
    known = math.prod(n for n in wanted if n != -1)
    size = math.prod(x.shape)
    unknown = wanted.count(-1)
    fits = known == size if not unknown else known > 0 and size % known == 0
    if unknown > 1 or not fits or any(n < -1 for n in wanted):
        raise ValueError(f"reshape: {size} elements of shape {x.shape} do not fit shape {wanted}")
    return Reshape.apply(x, shape=wanted)


def permute(x: "Tensor", axes: Sequence[int]) -> "Tensor":
    """Return x with its axes in another order: axis k of the result is axis `axes[k]` of x."""
    given = as_integers("permute", "the axes", axes)
    normalised = tuple(a % x.ndim if -x.ndim <= a < x.ndim else a for a in given)
    if sorted(normalised) != list(range(x.ndim)):
        raise ValueError(f"permute: expected an order of {x.ndim} axes, got {tuple(axes)}")
    return Permute.apply(x, axes=normalised)


def broadcast_to(x: "Tensor", shape: Sequence[int]) -> "Tensor":
    """Return x with new leading axes and axes of length 1 repeated, as a read-only view."""
    wanted = as_integers("broadcast_to", "the lengths", shape)
    try:
        possible = np.broadcast_shapes(x.shape, wanted) == wanted
    except ValueError:
        possible = False
    check_size("broadcast_to", *wanted)
    if not possible:
        raise ValueError(f"broadcast_to: shape {x.shape} does not broadcast to {wanted}")
    return BroadcastTo.apply(x, shape=wanted)


@accepts_dim
def concatenate(tensors: "Sequence[Tensor]", axis: int = 0) -> "Tensor":
    """Return the tensors joined along `axis`; all other axes must agree.

    Raises `TypeError` for what is no list or tuple of tensors.
    """
    tensors = _tensors("concatenate", tensors)
    ndim = tensors[0].ndim
    axis = _joining_axis("concatenate", axis, ndim)
    rest = {t.shape[:axis] + t.shape[axis + 1 :] for t in tensors}
    if len(rest) > 1 or any(t.ndim != ndim for t in tensors):
        said = ", ".join(str(t.shape) for t in tensors)
        raise ValueError(f"concatenate: shapes {said} differ beside axis {axis}")
    return Concatenate.apply(*tensors, axis=axis)


@accepts_dim
def stack(tensors: "Sequence[Tensor]", axis: int = 0) -> "Tensor":
    """Return tensors of one shape joined along a new axis.

    Raises `TypeError` for what is no list or tuple of tensors.
    """
    tensors = _tensors("stack", tensors)
    axis = _joining_axis("stack", axis, tensors[0].ndim + 1)
    if any(t.shape != tensors[0].shape for t in tensors):
        said = ", ".join(str(t.shape) for t in tensors)
        raise ValueError(f"stack: expected tensors of one shape, got {said}")
    return Stack.apply(*tensors, axis=axis)


def pad(x: "Tensor", widths: PadWidth, value: float = 0.0, *, mode: str = "constant") -> "Tensor":
    """Return x with `widths[k] = (before, after)` elements added along axis k.

    With `mode` "constant" they are `value`; "reflect" mirrors x without its edge, "replicate"
    repeats the edge, "circular" continues with the other end. Raises `ValueError` for widths that
    a mode cannot fill from the axis.
    """
    if mode not in _PADDED_POSITIONS and mode != "constant":
        known = ", ".join(("constant", *_PADDED_POSITIONS))
        raise ValueError(f"pad: expected mode to be one of {known}, got {mode!r}")
    try:
        checked = tuple((index(before), index(after)) for before, after in widths)
        fits = len(checked) == x.ndim and all(w >= 0 for pair in checked for w in pair)
    except (TypeError, ValueError):  # not pairs, or not of integers
        fits = False
    if not fits:
        came = tuple(widths) if isinstance(widths, Sequence) else widths
        raise ValueError(
            f"pad: expected {x.ndim} pairs of widths >= 0 for shape {x.shape}, got {came}"
        )
    check_size("pad", *(sum(pair) + n for pair, n in zip(checked, x.shape, strict=True)))
    if mode != "constant":
        return _pad_from_inside(x, checked, mode)
    return Pad.apply(x, widths=checked, value=number_for("pad", value, x.dtype))


_PADDED_POSITIONS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""The modes that fill with elements of x, and the names that NumPy has for them."""


def _pad_from_inside(x: "Tensor", widths: PadWidth, mode: str) -> "Tensor":
    for axis, (pair, length) in enumerate(zip(widths, x.shape, strict=True)):
        if pair == (0, 0):
            continue
        most = {"reflect": length - 1, "circular": length}.get(mode, max(pair) if length else 0)
        if max(pair) > most:
            raise ValueError(
                f"pad: expected widths <= {max(most, 0)} for mode {mode!r} and axis {axis} of "
                f"length {length}, got {pair}"
            )
        positions: Any = np.pad(np.arange(length), pair, mode=_PADDED_POSITIONS[mode])  # type: ignore[call-overload]
        x = getitem(x, (slice(None),) * axis + (positions,))
    return x


def getitem(x: "Tensor", index: Any) -> "Tensor":
    """Return `x[index]`, as NumPy does; an index outside raises `IndexError`.

    Integers and slices give a view, integer and boolean arrays (or tensors) a copy.
    """
    return GetItem.apply(x, index=index_arrays(x, index))


def index_arrays(x: "Tensor", index: Any) -> tuple[Any, ...]:
    """Return an index as a tuple, what it has of lists, arrays and tensors as arrays of x's device.

    They are copies: a backward pass needs the index as it is now. Raises `TypeError` for one of
    another kind than integers and booleans, `IndexError` where one lies outside.
    """
    parts = tuple(_index_part(x, p) for p in (index if isinstance(index, tuple) else (index,)))
    if x.backend.xp is not np:  # which looks for itself; others wrap what lies outside
        _check_bounds(parts, x.shape)
    return parts


def _index_part(x: "Tensor", part: Any) -> Any:
    if isinstance(part, Variable):
        part = part.data.copy()
    elif isinstance(part, list) or _is_array(part):
        empty = isinstance(part, list) and not part  # of integers, where NumPy would have floats
        part = array_of(np.zeros(0, np.int64) if empty else part, x.backend)
    elif isinstance(part, int) and abs(part) >= 2**63:
        raise IndexError(f"getitem: index {part} is out of bounds for shape {x.shape}")
    if hasattr(part, "dtype") and part.dtype.kind not in "iub":
        raise TypeError(f"getitem: expected an integer or boolean index, got dtype {part.dtype}")
    return part


def _check_bounds(parts: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    """Raise `IndexError` where an array of integers has one that lies outside its axis."""
    # How many axes each part stands for; an ellipsis for what is left.
    taken = [
        0 if part is None else part.ndim if _is_array(part) and part.dtype == bool else 1
        for part in parts
    ]
    axis = 0
    for part, count in zip(parts, taken, strict=True):
        if part is Ellipsis:
            count = len(shape) - (sum(taken) - 1)
        elif _is_array(part) and part.dtype != bool and part.size:
            low, high, length = int(part.min()), int(part.max()), shape[axis]
            if low < -length or high >= length:
                raise IndexError(
                    f"getitem: index {low if low < -length else high} is out of bounds for axis "
                    f"{axis} of length {length}"
                )
        axis += count
