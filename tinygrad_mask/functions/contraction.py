"""Einstein summation, by `matmul` of two operands at a time."""

import math
from typing import TYPE_CHECKING

from tinygrad_mask.autograd import Variable
from tinygrad_mask.functions.matmul import matmul
from tinygrad_mask.functions.reduction import sum
from tinygrad_mask.functions.shape import getitem, permute, reshape

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def einsum(equation: str, *operands: "Tensor") -> "Tensor":
    """Return the sum of products that `equation` describes, for instance "nhwc,cd->nhwd".

    A letter stands for an axis. What is not in the result is summed over; a letter that an operand
    has twice takes its diagonal; `...` stands for leading axes, the same in all operands that have
    it. Without "->" the result has the letters that occur once, in the order of the alphabet.
    The operands are multiplied from left to right. Raises `ValueError` for an equation that does
    not fit the operands.
    """
    if not operands or not all(isinstance(x, Variable) for x in operands):
        raise TypeError(f"einsum: expected tensors after the equation {equation!r}")
    terms, result = _parse(equation, operands)
    lengths: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            if lengths.setdefault(letter, n) != n:
                raise ValueError(
                    f"einsum: axis {letter!r} of {equation!r} has lengths {lengths[letter]} and {n}"
                )
    pairs = [_diagonal(term, x) for term, x in zip(terms, operands, strict=True)]
    letters, product = pairs[0]
    for k, (other, x) in enumerate(pairs[1:], start=1):
        needed = set(result).union(*(later for later, _ in pairs[k + 1 :]))
        letters, product = _contract(letters, product, other, x, needed)
    letters, product = _summed(letters, product, set(result))
    return permute(product, [letters.index(letter) for letter in result])


def _parse(equation: str, operands: "tuple[Tensor, ...]") -> tuple[list[str], str]:
    """The letters of each operand's axes and of the result's, with letters for the ellipsis."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum: expected {len(terms)} operands for {equation!r}, got {len(operands)}"
        )
    hidden = {
        x.ndim - len(term.replace("...", ""))
        for term, x in zip(terms, operands, strict=True)
        if "..." in term
    }
    count = max(hidden, default=0)
    free = [letter for letter in _LETTERS if letter not in equation]
    if len(hidden) > 1 or count < 0 or count > len(free):
        raise ValueError(
            f"einsum: expected '...' to stand for the same number of axes in every operand of "
            f"{equation!r}, got shapes {', '.join(str(x.shape) for x in operands)}"
        )
    leading = "".join(free[:count])
    terms = [term.replace("...", leading, 1) for term in terms]
    if arrow:
        result = result.replace("...", leading, 1)
    else:
        joined = "".join(terms)
        once = sorted(c for c in set(joined) if joined.count(c) == 1 and c not in leading)
        result = leading + "".join(once)
    for term, x in zip(terms, operands, strict=True):
        if len(term) != x.ndim or not set(term) <= set(_LETTERS):
            raise ValueError(
                f"einsum: expected one letter per axis in {equation!r}, got shape {x.shape}"
            )
    if len(set(result)) != len(result) or not set(result) <= set("".join(terms)):
        raise ValueError(
            f"einsum: expected distinct letters of the operands in the result of {equation!r}"
        )
    return terms, result


def _diagonal(letters: str, x: "Tensor") -> "tuple[str, Tensor]":
    """Take the diagonal of axes that have the same letter."""
    distinct = "".join(dict.fromkeys(letters))
    if distinct == letters:
        return letters, x
    places = []
    for letter in letters:
        k, n = distinct.index(letter), x.shape[letters.index(letter)]
        line = x.backend.xp.arange(n)
        places.append(line.reshape((1,) * k + (n,) + (1,) * (len(distinct) - k - 1)))
    return distinct, getitem(x, tuple(places))


def _summed(letters: str, x: "Tensor", needed: set[str]) -> "tuple[str, Tensor]":
    """Sum over the axes that nothing needs."""
    axes = tuple(k for k, letter in enumerate(letters) if letter not in needed)
    if not axes:
        return letters, x
    return "".join(letter for letter in letters if letter in needed), sum(x, axes)


def _contract(
    letters: str, x: "Tensor", other: str, y: "Tensor", needed: set[str]
) -> "tuple[str, Tensor]":
    """Multiply two operands, as matrices (shared, left, summed) @ (shared, summed, right)."""
    letters, x = _summed(letters, x, needed | set(other))
    other, y = _summed(other, y, needed | set(letters))
    shared = [c for c in letters if c in other and c in needed]
    summed = [c for c in letters if c in other and c not in needed]
    left = [c for c in letters if c not in other]
    right = [c for c in other if c not in letters]
    lengths = {**dict(zip(letters, x.shape, strict=True)), **dict(zip(other, y.shape, strict=True))}

    def matrices(of: str, z: "Tensor", *groups: list[str]) -> "Tensor":
        moved = permute(z, [of.index(c) for group in groups for c in group])
        return reshape(moved, [math.prod(lengths[c] for c in group) for group in groups])

    product = matmul(
        matrices(letters, x, shared, left, summed), matrices(other, y, shared, summed, right)
    )
    order = shared + left + right
    return "".join(order), reshape(product, [lengths[c] for c in order])
