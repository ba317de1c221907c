"""Checks of what optimisers, schedules and clipping functions are given."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_mask.tensor import Tensor


def as_number(name: str, what: str, value: Any) -> float:
    """Return a number, of NumPy's for instance, as Python's; raises `TypeError` for the rest."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected {what} to be a number, got {value!r:.80}")
    return value


def as_count(name: str, what: str, value: Any, least: int = 1) -> int:
    """Return a number of steps; raises `TypeError` and `ValueError`."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {what} to be an integer, got {value!r:.80}") from None
    if count < least:
        raise ValueError(f"{name}: expected {what} >= {least}, got {value}")
    return count


def as_tensors(name: str, parameters: Any) -> list[Tensor]:
    """Return the tensors of an iterable as a list; raises `TypeError` for anything else."""
    if isinstance(parameters, Tensor):
        raise TypeError(f"{name}: expected an iterable of tensors, got a Tensor; write [tensor]")
    if callable(getattr(parameters, "parameters", None)):
        raise TypeError(
            f"{name}: expected an iterable of tensors, got a {type(parameters).__name__}; "
            "pass its parameters()"
        )
    if isinstance(parameters, str | np.ndarray) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"{name}: expected an iterable of tensors, got {type(parameters).__name__}; "
            "pass model.parameters()"
        )
    tensors = list(parameters)
    for k, tensor in enumerate(tensors):
        if isinstance(tensor, Tensor):
            continue
        hint = "pass model.parameters()"
        if isinstance(tensor, np.ndarray):
            hint = "make it a Tensor with requires_grad=True"
        elif isinstance(tensor, tuple):
            hint = "pass model.parameters() instead of pairs of name and tensor"
        raise TypeError(
            f"{name}: expected tensors, got {type(tensor).__name__} at position {k}; {hint}"
        )
    return tensors


def check_parameter(name: str, position: int, tensor: Tensor) -> None:
    """Raise unless an optimiser can move this tensor: a leaf of floating dtype."""
    if tensor.node is not None:
        raise ValueError(
            f"{name}: expected leaf tensors, got one made by {tensor.node.function.name} at "
            f"position {position}; pass the tensors it was computed from, or detach() it"
        )
    if tensor.dtype.kind != "f":
        raise TypeError(
            f"{name}: expected tensors of a floating dtype, got {tensor.dtype} at position "
            f"{position}"
        )
