"""Rearrangements that are made of `reshape`, `permute`, `broadcast_to` and `getitem`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.reduction import Axis, normalise_axes, single_axis
from tinygrad_mask.functions.shape import as_integers, broadcast_to, getitem, permute, reshape

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


def flatten(x: "Tensor", start_dim: int = 0, end_dim: int = -1) -> "Tensor":
    """Return x with the axes from `start_dim` to `end_dim`, both included, merged into one.

    A tensor of shape () becomes one of shape (1,). Raises `ValueError` if `start_dim` comes after
    `end_dim`.
    """
    if x.ndim == 0:
        return reshape(x, (1,))
    start = single_axis("flatten", start_dim, x.ndim)
    end = single_axis("flatten", end_dim, x.ndim)
    if start > end:
        raise ValueError(
            f"flatten: expected start_dim <= end_dim, got {start_dim} and {end_dim} "
            f"for shape {x.shape}"
        )
    merged = 1
    for length in x.shape[start : end + 1]:
        merged *= length
    return reshape(x, (*x.shape[:start], merged, *x.shape[end + 1 :]))


@accepts_dim
def squeeze(x: "Tensor", axis: Axis = None) -> "Tensor":
    """Return x without its axes of length 1, or without those of `axis` that have length 1.

    As in PyTorch, a named axis of another length stays.
    """
    axes = normalise_axes("squeeze", axis, x.ndim)
    return reshape(x, tuple(n for k, n in enumerate(x.shape) if n != 1 or k not in axes))


@accepts_dim
def unsqueeze(x: "Tensor", axis: int) -> "Tensor":
    """Return x with a new axis of length 1, which is axis number `axis` of the result."""
    position = single_axis("unsqueeze", axis, x.ndim + 1)
    return reshape(x, (*x.shape[:position], 1, *x.shape[position:]))


def transpose(x: "Tensor", a: int, b: int) -> "Tensor":
    """Return x with the axes `a` and `b` exchanged."""
    first, second = single_axis("transpose", a, x.ndim), single_axis("transpose", b, x.ndim)
    axes = list(range(x.ndim))
    axes[first], axes[second] = second, first
    return permute(x, axes)


def expand(x: "Tensor", shape: Sequence[int]) -> "Tensor":
    """Return x with axes of length 1 repeated, as `broadcast_to`; -1 keeps the length of an axis.

    Raises `ValueError` for -1 at an axis that x does not have.
    """
    wanted = as_integers("expand", "the lengths", shape)
    added = len(wanted) - x.ndim
    if added < 0 or -1 in wanted[:added]:
        raise ValueError(f"expand: shape {x.shape} does not expand to {wanted}")
    lengths = [x.shape[k - added] if n == -1 else n for k, n in enumerate(wanted)]
    return broadcast_to(x, lengths)


@accepts_dim
def flip(x: "Tensor", axis: Axis = None) -> "Tensor":
    """Return x with the order of its elements reversed along `axis`: one, several, or all."""
    axes = normalise_axes("flip", axis, x.ndim)
    return getitem(x, tuple(slice(None, None, -1 if k in axes else 1) for k in range(x.ndim)))


@accepts_dim
def split(x: "Tensor", size: int | Sequence[int], axis: int = 0) -> "tuple[Tensor, ...]":
    """Return the parts of x along `axis`: each of `size` elements, or of the lengths in `size`.

    As in PyTorch (NumPy's integer is the number of parts). The last part is shorter if `size` does
    not divide the length. Raises `ValueError` for a size < 1, or lengths that do not add up.
    """
    along = single_axis("split", axis, x.ndim)
    length = x.shape[along]
    if isinstance(size, Sequence):
        lengths = as_integers("split", "the lengths", size)
        if sum(lengths) != length or any(n < 0 for n in lengths):
            raise ValueError(
                f"split: expected lengths >= 0 that add up to {length}, got {list(lengths)}"
            )
    else:
        (step,) = as_integers("split", "the size", (size,))
        if step < 1:
            raise ValueError(f"split: expected a size >= 1, got {step}")
        lengths = tuple(min(step, length - at) for at in range(0, max(length, 1), step))
    parts, start = [], 0
    for n in lengths:
        parts.append(getitem(x, (slice(None),) * along + (slice(start, start + n),)))
        start += n
    return tuple(parts)


@accepts_dim
def chunk(x: "Tensor", chunks: int, axis: int = 0) -> "tuple[Tensor, ...]":
    """Return x along `axis` in at most `chunks` parts of one length; the last may be shorter.

    As in PyTorch, there are fewer parts if the length does not suffice.
    """
    (count,) = as_integers("chunk", "the number of parts", (chunks,))
    if count < 1:
        raise ValueError(f"chunk: expected at least 1 part, got {count}")
    length = x.shape[single_axis("chunk", axis, x.ndim)]
    if length == 0:
        return split(x, [0] * count, axis)
    return split(x, -(-length // count), axis)
