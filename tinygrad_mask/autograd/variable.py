"""What the graph knows of a tensor, and the arrays and numbers that a function is handed."""

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd.modes import recording
from tinygrad_mask.backends import Array, Backend

if TYPE_CHECKING:
    from tinygrad_mask.autograd.graph import Node


class Version:
    """How often a piece of memory was written in place; shared by all variables that view it.

    `shared` says whether more than one variable may view it.
    """

    __slots__ = ("count", "shared")

    def __init__(self) -> None:
        self.count = 0
        self.shared = False


class Variable:
    """What the graph knows of a tensor: its array, and where its gradient goes.

    `data` is the array, `grad` the collected gradient (a variable, or None), `node` the node that
    made it (None for a leaf).
    """

    __slots__ = ("__weakref__", "_grad", "backend", "data", "node", "requires_grad", "version")

    data: Array
    requires_grad: bool
    backend: Backend
    node: "Node | None"
    version: Version
    _grad: Any

    def wrap(self, array: Array, backend: Backend | None = None) -> Any:
        """Return a new variable of the same kind that holds `array`, on this device or another."""
        raise NotImplementedError

    def _set_grad(self, gradient: Any) -> None:
        if gradient is not None:
            _check_gradient(self, gradient)
        self._grad = gradient

    grad = property(
        operator.attrgetter("_grad"),  # faster than a function; an optimiser reads many
        _set_grad,
        doc="""The gradient that `backward()` has collected, or None: a tensor of the same shape,
        dtype and device.

        Another one may be assigned: `TypeError` if it is not a tensor or has another dtype,
        `ValueError` for another shape or device.
        """,
    )


def _check_gradient(variable: Variable, gradient: Any) -> None:
    if not isinstance(gradient, Variable):
        raise TypeError(
            f"grad: expected a Tensor or None, got {type(gradient).__name__}; wrap it in a Tensor"
        )
    ours, given = variable.data, gradient.data
    if given.shape != ours.shape:
        raise ValueError(f"grad: expected the tensor's shape {ours.shape}, got {given.shape}")
    if given.dtype != ours.dtype:
        raise TypeError(
            f"grad: expected the tensor's dtype {ours.dtype}, got {given.dtype}; "
            "convert it with .astype()"
        )
    if gradient.backend is not variable.backend:
        raise ValueError(
            f"grad: expected the tensor's device {variable.backend.name!r}, "
            f"got {gradient.backend.name!r}; move it with .to()"
        )


# --- operands ---------------------------------------------------------------------------------


def number_for(name: str, value: Any, dtype: Any) -> bool | int | float:
    """The Python number that a number means for a tensor of `dtype`, which it adopts.

    Raises `TypeError`, in the name of a function, for a float and a dtype of integers, and for what
    is not a number; `OverflowError` for an integer outside the range of the dtype.
    """
    if isinstance(value, np.longdouble):
        value = float(value)  # whose item() is no number of Python's
    elif isinstance(value, np.generic):
        value = value.item()  # a number of NumPy's would not adopt the tensor's dtype
    if not isinstance(value, (bool, int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if isinstance(value, float) and dtype.kind != "f":
        raise TypeError(f"{name}: a float does not fit a tensor of dtype {dtype}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise OverflowError(
                f"{name}: expected a number from {limits.min} to {limits.max} for a tensor of "
                f"dtype {dtype}, got {value}"
            )
    return value


def array_of(value: Any, backend: Backend, name: str = "tensor", dtype: Any = None) -> Array:
    """The array of a variable, or a copy of anything else on the device.

    A copy, because what the caller writes into an array of his own later would go unnoticed. With
    `dtype` a list of Python numbers adopts it, as a single number does in `number_for`. Raises
    `ValueError`, in the name of a function, for a variable of another device, `TypeError` for a
    masked array, and `RuntimeError` for a list of recorded results.
    """
    if isinstance(value, Variable):
        if value.backend is not backend:
            raise ValueError(
                f"{name}: expected all tensors on one device, "
                f"got {backend.name!r} and {value.backend.name!r}"
            )
        return value.data
    if isinstance(value, backend.xp.ndarray):
        return plain_array(value, name).copy()
    check_ends_no_graph(value, name)
    array = np.array(plain_array(value, name))
    if dtype is not None and array.dtype != dtype:
        array = _adopt_dtype(name, value, array, dtype)
    return backend.asarray(array)


def constant_of(value: Any, backend: Backend, name: str, argument: str, dtype: Any = None) -> Array:
    """The array of an argument that has no gradient, as `array_of`.

    Raises `TypeError`, in the name of a function, for a tensor whose gradient would be lost.
    """
    if recording.enabled and isinstance(value, Variable) and value.requires_grad:
        raise TypeError(
            f"{name}: {argument} is not differentiable, got a tensor that requires a gradient; "
            "detach() it first"
        )
    return array_of(value, backend, name, dtype)


def _adopt_dtype(name: str, value: Any, array: Array, dtype: Any) -> Array:
    """Return `array`, made of `value`, in the dtype of a tensor if `value` is a list of numbers.

    They adopt the dtype as a single number does, see `number_for`, with the same errors.
    """
    if not isinstance(value, (list, tuple)) or not _is_of_numbers(value):
        return array
    if array.dtype.kind == "f" and dtype.kind != "f":
        raise TypeError(f"{name}: floats do not fit a tensor of dtype {dtype}")
    if dtype.kind in "iu" and array.size:
        for number in (array.min().item(), array.max().item()):
            number_for(name, number, dtype)
    return array.astype(dtype)


def _is_of_numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_of_numbers, value))
    return isinstance(value, (bool, int, float, np.generic))


def option_of(name: str, argument: str, value: Any) -> float:
    """The float that an option means, which may be a number of NumPy's or a tensor of one element.

    Raises `TypeError`, in the name of a function, for a tensor whose gradient would be lost.
    """
    if isinstance(value, Variable) and value.requires_grad and recording.enabled:
        raise TypeError(
            f"{name}: {argument} is not differentiable, got a tensor that requires a gradient; "
            "detach() it first"
        )
    return float(value)


def check_ends_no_graph(data: Any, name: str = "Tensor") -> None:
    """Raise `RuntimeError` for recorded results, or a list of them, that a copy would cut off, and
    `TypeError` for a list with a masked array.
    """
    for value in data if isinstance(data, (list, tuple)) else (data,):
        if isinstance(value, np.ndarray):
            plain_array(value, name)
        elif isinstance(value, Variable) and value.node is not None and recording.enabled:
            raise RuntimeError(
                f"{name}: expected data, got a result made by {value.node.function.name}, whose "
                "graph would end here; use it as it is, or detach() it, or stack() several"
            )


def plain_array(value: Any, name: str = "tensor") -> Any:
    """The same memory as an array of no subclass; what is no array is returned as it is.

    `np.matrix` gives another meaning to `*`, and the mask of a masked array would be lost, for
    which this raises `TypeError`.
    """
    if type(value) is np.ndarray or not isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array without a mask, got a masked array; call its filled()"
        )
    return np.asarray(value)


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a variable, an array of any device, a number or a nested sequence."""
    array = value.data if isinstance(value, Variable) else value
    return array.shape if hasattr(array, "shape") else np.shape(array)


def mixed_dtypes(name: str, first: Any, second: Any) -> str:
    """Say that tensors of two dtypes came where they must be of one."""
    return (
        f"{name}: expected tensors of one dtype, got {first} and {second}; "
        "convert one with .astype()"
    )
