"""PyTorch's argument names: `dim` for `axis`, `keepdim` for `keepdims`."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Result = TypeVar("Result")

_NAMES = {"dim": "axis", "keepdim": "keepdims"}


def accepts_dim(function: Callable[..., Result]) -> Callable[..., Result]:
    """Make a function accept `dim` for its `axis` and `keepdim` for its `keepdims`.

    The function raises `TypeError` if both names of an argument are given.
    """
    code = function.__code__
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    names = [
        (dim, axis, arguments.index(axis)) for dim, axis in _NAMES.items() if axis in arguments
    ]

    @wraps(function)
    def renaming(*args: Any, **options: Any) -> Result:
        if options:
            for dim, axis, position in names:
                if dim in options:
                    if axis in options or len(args) > position:
                        raise TypeError(
                            f"{function.__name__}: expected {axis} or {dim}, got both; "
                            "leave one out"
                        )
                    options[axis] = options.pop(dim)
        return function(*args, **options)

    return renaming
