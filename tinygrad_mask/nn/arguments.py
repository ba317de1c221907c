"""What the layers have in common: checks of their arguments, and how they describe themselves."""

import operator
from typing import Any, NoReturn

import numpy as np

from tinygrad_mask.functions.shape import check_size
from tinygrad_mask.nn.module import Module


def as_size(name: str, what: str, value: Any, least: int = 1) -> int:
    """Return a number of features, channels or groups as an integer.

    Raises `TypeError` for what is not an integer and `ValueError` for one below `least`, or of more
    than memory can hold.
    """
    try:
        size = operator.index(value)
    except TypeError:
        size = None
    if size is None or isinstance(value, bool):
        raise TypeError(f"{name}: expected {what} to be an integer, got {value!r}")
    if size < least:
        raise ValueError(f"{name}: expected {what} >= {least}, got {value!r}")
    check_size(name, size)
    return size


def as_flag(name: str, what: str, value: Any) -> bool:
    """Return True or False; raises `TypeError` for anything else.

    Arguments are in PyTorch's order, so that something else may well land here.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected {what} to be True or False, got {value!r}")
    return bool(value)


def as_tuple(value: Any) -> Any:
    """Return a size with its lists, at any depth, replaced by tuples."""
    return tuple(map(as_tuple, value)) if isinstance(value, list | tuple) else value


def refuse_input(name: str, x: Any) -> None:
    """Raise `TypeError` for an input that is no tensor; an array is one that needs no gradient."""
    if not hasattr(x, "ndim"):
        _raise_input(name, x)


def _raise_input(name: str, x: Any) -> NoReturn:
    kind = type(x).__name__
    hint = "; wrap it: Tensor(...)" if isinstance(x, list | tuple | int | float) else ""
    raise TypeError(f"{name}: expected a Tensor, got {kind}{hint}")


def options_that_differ(layer: Module, **defaults: object) -> str:
    """Return, for a layer's description, those of these attributes that are not the default."""
    values = {name: getattr(layer, name) for name in defaults}
    return "".join(f", {k}={v}" for k, v in values.items() if v != defaults[k])
