"""`Tensor`: an array on a device, its dtype, its gradient, and what is written into it.

Operators and functions as methods are in `operators.py`.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import tinygrad_mask.functions as F
from tinygrad_mask import autograd
from tinygrad_mask.autograd import Variable, Version, is_grad_enabled
from tinygrad_mask.backends import Array, Backend, get_backend
from tinygrad_mask.equivalents import TENSOR, mark_absent, without_absent
from tinygrad_mask.functions import conversion
from tinygrad_mask.functions.discrete import bitwise_and, bitwise_or, bitwise_xor
from tinygrad_mask.functions.shape import index_arrays
from tinygrad_mask.operators import Operators

if TYPE_CHECKING:
    Operand: TypeAlias = "Tensor | Array | float"

_DTYPES = {np.dtype(t) for t in ("float32", "float64", "int32", "int64", "uint8", "bool")}


class ElementCount(int):
    """A number of elements that, called as PyTorch's method `size`, returns the shape."""

    shape: tuple[int, ...]

    def __call__(self, dim: int | None = None) -> Any:
        """Return the shape, or the length of one axis."""
        return self.shape if dim is None else self.shape[dim]


class Tensor(Operators):
    """An array on a device that records what is computed from it.

    `data` is a NumPy array, a nested sequence or a number, and is copied; arrays keep their dtype,
    Python floats become float32, Python integers int64, unless `dtype` says otherwise. `device` is
    'cpu', 'cuda', 'emulator' or 'auto' (see `get_backend`). Only floating tensors can require
    gradients; after `backward()` the gradient is in `grad`, a tensor of the same shape.

    Arithmetic broadcasts as in NumPy and never converts: tensors of two dtypes, or on two devices,
    do not mix; Python numbers adopt the tensor's dtype.
    """

    __slots__ = ()

    def __init__(
        self,
        data: Any,
        *,
        requires_grad: bool = False,
        dtype: Any = None,
        device: str | Backend = "cpu",
    ) -> None:
        backend = get_backend(device)
        autograd.check_ends_no_graph(data)
        if isinstance(data, Tensor):
            data = data.numpy()
        host = np.array(autograd.plain_array(data, "Tensor"))
        if dtype is not None:
            host = _exactly(host, np.dtype(dtype))
        elif host.dtype == np.float64 and not hasattr(data, "dtype"):
            host = host.astype(np.float32)
        _check_dtype(host.dtype)
        self._set(backend, backend.asarray(host))
        if requires_grad:
            self.requires_grad_()

    def _set(self, backend: Backend, array: Array) -> None:
        self.backend = backend
        self.data = array
        self._grad = None
        self.node = None
        self.requires_grad = False
        self.version = Version()

    @classmethod
    def from_array(cls, array: Array, device: str | Backend = "cpu") -> "Tensor":
        """Return a tensor that shares the memory of an array of that device, without a copy."""
        backend = get_backend(device)
        autograd.check_ends_no_graph(array, "from_array")
        array = autograd.plain_array(array, "from_array")
        if not isinstance(array, backend.xp.ndarray):
            array = backend.asarray(np.asarray(array))
        _check_dtype(array.dtype)
        tensor = cls.__new__(cls)
        tensor._set(backend, array)
        tensor.version.shared = True
        return tensor

    def wrap(self, array: Array, backend: Backend | None = None) -> "Tensor":
        """Return a new leaf that shares the memory of `array`, on this tensor's device or another
        one.
        """
        backend = backend or self.backend
        xp = backend.xp
        if not isinstance(array, xp.ndarray):  # a number of NumPy's, as from a sum
            array = xp.asarray(array)
        tensor = Tensor.__new__(Tensor)
        tensor._set(backend, array)
        return tensor

    # --- what it is -------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> "ElementCount":
        """The number of elements; PyTorch's `x.size()` and `x.size(axis)` are the shape."""
        count = ElementCount(self.data.size)
        count.shape = self.data.shape
        return count

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self.data.dtype

    @property
    def device(self) -> str:
        """The name of the device that holds the elements."""
        return self.backend.name

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self.node is None

    def __dir__(self) -> list[str]:
        return without_absent(type(self), super().__dir__())

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a tensor of shape () has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        if self.ndim == 0:
            raise TypeError("a tensor of shape () cannot be iterated over; see item()")
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=100)
        extra = f", dtype={self.dtype}"
        if self.device != "cpu":
            extra += f", device={self.device!r}"
        if self.node is not None:
            extra += f", made by {self.node.function.name}"
        elif self.requires_grad:
            extra += ", requires_grad=True"
        return f"Tensor({values}{extra})"

    # --- taking values out ------------------------------------------------------------------

    def numpy(self) -> Array:
        """Return the elements as a NumPy array; on the CPU a read-only view, elsewhere a copy.

        Read-only, because a write past the version count would go unnoticed by a backward pass
        that needs the old values; copy it, or write through the tensor.
        """
        view = self.backend.to_host(self.data).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        """Export the elements to another library, which shares their memory; see `from_dlpack`.

        What the other library writes is not counted: a backward pass that needs the old values
        would use the new ones. Raises `BufferError` for a tensor that requires a gradient.
        """
        if self.requires_grad:
            raise BufferError(
                "dlpack: expected a tensor that requires no gradient, which another library could "
                "not record; export detach() of it"
            )
        self.version.shared = True
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's number of the kind of device, and the number of the device."""
        return self.data.__dlpack_device__()

    def item(self) -> Any:
        """Return the only element as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: expected a tensor of one element, got shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers, or as one for shape ()."""
        return self.numpy().tolist()

    def dim(self) -> int:
        """Return the number of axes, as `ndim`."""
        return self.ndim

    def numel(self) -> int:
        """Return the number of elements, as `size`."""
        return self.size

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def detach(self) -> "Tensor":
        """Return a tensor that shares this one's memory and is not part of the graph."""
        tensor = self.wrap(self.data)
        tensor.version = self.version
        tensor.version.shared = True
        return tensor

    def astype(self, dtype: Any) -> "Tensor":
        """Return a copy in another dtype, through which gradients flow, converted back.

        Floats are rounded, or for a dtype of integers cut; those have no gradient.
        """
        wanted = np.dtype(dtype)
        _check_dtype(wanted)
        return conversion.astype(self, wanted)

    def to(self, device: Any = None, dtype: Any = None) -> "Tensor":
        """Return a copy on another device or in another dtype, through which gradients flow.

        The dtype may also come first, as in `x.to(numpy.float64)`. The tensor itself is returned if
        nothing is to change.
        """
        if dtype is None and isinstance(device, np.dtype | type):
            device, dtype = None, device
        result = self
        if device is not None:
            backend = get_backend(device)
            if backend is not self.backend:
                result = conversion.to_device(self, backend)
        if dtype is not None and np.dtype(dtype) != self.dtype:
            result = result.astype(dtype)
        return result

    def cpu(self) -> "Tensor":
        """Return `to("cpu")`."""
        return self.to("cpu")

    def cuda(self) -> "Tensor":
        """Return `to("cuda")`."""
        return self.to("cuda")

    # --- copying and pickling ---------------------------------------------------------------

    def _check_copyable(self, what: str) -> None:
        if self.node is not None:
            raise RuntimeError(
                f"{what}: expected a leaf tensor, got one made by {self.node.function.name}; a "
                "graph cannot be copied, copy detach() of this tensor"
            )

    def __copy__(self) -> "Tensor":
        self._check_copyable("copy")
        tensor = self._rebuild(self.backend, self.data, self.requires_grad, self.grad)
        tensor.version = self.version
        _attributes(tensor).update(_attributes(self))
        return tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        self._check_copyable("deepcopy")
        tensor = self._rebuild(self.backend, self.data.copy(), self.requires_grad, None)
        memo[id(self)] = tensor
        tensor._grad = copy.deepcopy(self._grad, memo)
        _attributes(tensor).update(copy.deepcopy(_attributes(self), memo))
        return tensor

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_copyable("pickle")
        host = self.backend.to_host(self.data)
        arguments = type(self), self.backend, host, self.requires_grad, self.grad
        return _unpickle, arguments, _attributes(self) or None

    @classmethod
    def _rebuild(cls, backend: Backend, array: Array, requires_grad: bool, grad: Any) -> "Tensor":
        """Return a leaf of this class that shares the memory of `array`."""
        tensor = cls.__new__(cls)
        tensor._set(backend, array)
        tensor.requires_grad, tensor._grad = requires_grad, grad
        return tensor

    # --- gradients --------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        """Say whether gradients are wanted for this leaf, and return it."""
        if requires_grad and self.dtype.kind != "f":
            raise TypeError(f"requires_grad: expected a floating dtype, got {self.dtype}")
        if self.node is not None:
            raise RuntimeError("requires_grad: only a leaf can be told so; see detach()")
        self.requires_grad = requires_grad
        return self

    def backward(
        self,
        gradient: "Tensor | Array | None" = None,
        *,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add to `grad` of every leaf that this tensor was computed from the derivative to it.

        A tensor of one element needs no `gradient`; for any other it is the derivative of the final
        value with respect to this tensor, of the same shape and dtype. What the graph had saved is
        freed unless `retain_graph`; raises `RuntimeError` for a graph that was freed already.

        With `create_graph` the gradients are recorded themselves, so that they can be
        differentiated again; the graph is then kept unless `retain_graph` is False. A leaf and its
        recorded gradient refer to each other: set `grad` to None when it is no longer needed, or
        use `autograd.grad`, which stores nothing.
        """
        start = autograd.output_gradient("backward", self, gradient, create_graph)
        retain = create_graph if retain_graph is None else retain_graph
        autograd.backward(self, start, retain_graph=retain, create_graph=create_graph)

    def retain_grad(self) -> "Tensor":
        """Have `backward()` fill in `grad` of this tensor too, though it is no leaf; return it."""
        if self.node is not None:
            self.node.retain(self)
        return self

    # --- writing in place -------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self.requires_grad and (self.node is not None or is_grad_enabled()):
            what = (
                "a recorded result" if self.node is not None else "a leaf that requires a gradient"
            )
            raise RuntimeError(
                f"cannot write in place into {what}; write into detach(), or within no_grad()"
            )

    def _write(self, index: Any, value: Any) -> None:
        """Overwrite elements, and count that."""
        if not getattr(self.data.flags, "writeable", True):
            raise ValueError(
                "cannot write in place into a read-only view, as broadcast_to() makes; write into "
                "a copy"
            )
        self.data[index] = value
        self.version.count += 1

    def __setitem__(self, index: Any, value: Any) -> None:
        self._check_writable()
        values = value if isinstance(value, list | tuple) else (value,)
        if is_grad_enabled() and any(isinstance(v, Variable) and v.requires_grad for v in values):
            raise RuntimeError("cannot record a write in place; see where() and concatenate()")
        if isinstance(value, bool | int | float | np.generic):
            value = autograd.number_for("setitem", value, self.dtype)
        else:
            value = autograd.array_of(value, self.backend, "setitem", self.dtype)
            if value.dtype != self.dtype:
                raise TypeError(autograd.mixed_dtypes("setitem", self.dtype, value.dtype))
        self._write(index_arrays(self, index), value)

    def copy_(self, value: "Tensor | Array") -> "Tensor":
        """Overwrite the elements with those of a tensor or array of the same shape and dtype."""
        self._check_writable()
        array = autograd.constant_of(value, self.backend, "copy_", "the value")
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"copy_: expected shape {self.shape} and dtype {self.dtype}, "
                f"got {array.shape} and {array.dtype}"
            )
        self._write(..., array)
        return self

    def _in_place(self, symbol: str, function: Callable[..., "Tensor"], other: Any) -> "Tensor":
        """Assign `function(self, other)` to this tensor, as the operator `symbol` and "=" do.

        Where nothing is recorded, the elements are overwritten. A result that is recorded becomes
        this tensor's: what was saved of its elements before is still there, so nothing is
        overwritten, and a tensor that shares the memory, which could not follow, is refused.
        """
        operands = (self, other) if isinstance(other, Variable) else (self,)
        record = is_grad_enabled() and any(v.requires_grad for v in operands)
        instead = f"write x = x {symbol} y instead"
        if record and self.node is None and (self.requires_grad or type(self) is not Tensor):
            raise RuntimeError(
                f"{symbol}=: cannot write in place into a leaf that requires a gradient; write "
                f"within no_grad(), or {instead}"
            )
        if record and self.version.shared:
            raise RuntimeError(
                f"{symbol}=: this tensor shares its memory with others (a view, detach() or "
                f"from_array()), which a recorded result would leave behind; {instead}"
            )
        if not record:
            self._check_writable()
        with nullcontext() if record else autograd.no_grad():
            result = function(self, other)
        if result.shape != self.shape or result.dtype != self.dtype:
            raise ValueError(
                f"{symbol}=: expected a result of shape {self.shape} and dtype {self.dtype}, "
                f"got {result.shape} and {result.dtype}; {instead}"
            )
        if not record:
            self._write(..., result.data)
            return self
        before, after = self.node, result.node
        if before is not None and after is not None and before.retained is self:
            before.retain(None)
            after.retain(self)
        self.data, self.version = result.data, result.version
        self.node, self.requires_grad = after, True
        return self

    def __iadd__(self, other: "Operand") -> "Tensor":
        return self._in_place("+", F.add, other)

    def __isub__(self, other: "Operand") -> "Tensor":
        return self._in_place("-", F.subtract, other)

    def __imul__(self, other: "Operand") -> "Tensor":
        return self._in_place("*", F.multiply, other)

    def __itruediv__(self, other: "Operand") -> "Tensor":
        return self._in_place("/", F.divide, other)

    def __ifloordiv__(self, other: "Operand") -> "Tensor":
        return self._in_place("//", F.floor_divide, other)

    def __imod__(self, other: "Operand") -> "Tensor":
        return self._in_place("%", F.remainder, other)

    def __iand__(self, other: Any) -> "Tensor":
        return self._in_place("&", bitwise_and, other)

    def __ior__(self, other: Any) -> "Tensor":
        return self._in_place("|", bitwise_or, other)

    def __ixor__(self, other: Any) -> "Tensor":
        return self._in_place("^", bitwise_xor, other)

    def __ipow__(self, other: "Operand") -> "Tensor":
        return self._in_place("**", F.power, other)

    def __imatmul__(self, other: "Tensor | Array") -> "Tensor":
        return self._in_place("@", F.matmul, other)


mark_absent(Tensor, TENSOR)


def _unpickle(
    cls: type[Tensor], backend: Backend, host: Array, requires_grad: bool, grad: Tensor | None
) -> Tensor:
    """Return the tensor that `Tensor.__reduce__` took apart."""
    # Memory that a pickle lends may be read-only.
    array = backend.asarray(host if host.flags.writeable else host.copy())
    return cls._rebuild(backend, array, requires_grad, grad)


def _attributes(tensor: Tensor) -> dict[str, Any]:
    """The attributes that a subclass without `__slots__` gives its tensors."""
    attributes: dict[str, Any] = getattr(tensor, "__dict__", {})
    return attributes


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype not in _DTYPES:
        names = ", ".join(sorted(str(d) for d in _DTYPES))
        raise TypeError(f"Tensor: expected a dtype of {names}, got {dtype}")


def _exactly(host: Array, dtype: np.dtype[Any]) -> Array:
    """Convert numbers to `dtype`, which may round floats, but raises `ValueError` for a number that
    no element of an integer dtype can be.
    """
    if host.dtype.kind not in "biuf":
        raise TypeError(f"Tensor: expected numbers, got {host.dtype}")
    _check_dtype(dtype)
    if dtype.kind not in "iu" or host.size == 0:
        return host.astype(dtype)
    limits = np.iinfo(dtype)
    fits = (host >= limits.min) & (host <= limits.max)
    if host.dtype.kind == "f":
        fits &= np.floor(host) == host
        fits &= host < float(limits.max) + 1  # which the limit itself may be rounded to
    if not fits.all():
        wrong = host[~fits].flat[0] if host.ndim else host[()]
        raise ValueError(
            f"Tensor: expected integers from {limits.min} to {limits.max} for dtype {dtype}, "
            f"got {wrong}; convert with astype() to cut or wrap"
        )
    return host.astype(dtype)
