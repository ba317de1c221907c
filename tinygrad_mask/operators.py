"""The operators of tensors, and the functions that are their methods too.

Every method hands its tensor to the function of that name; what a tensor is, is in `tensor.py`.
"""

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import tinygrad_mask.functions as F
from tinygrad_mask import autograd
from tinygrad_mask.autograd import Variable
from tinygrad_mask.backends import Array
from tinygrad_mask.functions import conversion
from tinygrad_mask.functions.discrete import bitwise_and, bitwise_or, bitwise_xor, invert
from tinygrad_mask.functions.naming import accepts_dim
from tinygrad_mask.functions.reduction import Axis

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

    Operand: TypeAlias = Tensor | Array | float


class Operators(Variable):
    """Base of `Tensor`: what can be written with tensors, `x + y`, `x[0]`, `x.sum(axis=1)`.

    `self` is a `Tensor` throughout, because nothing else derives from this class.
    """

    __slots__ = ()

    # --- operators --------------------------------------------------------------------------

    # NumPy must leave `array + tensor` to the tensor.
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __add__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.add(self, other)

    def __radd__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.add(other, self)

    def __sub__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.subtract(self, other)

    def __rsub__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.subtract(other, self)

    def __mul__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.multiply(self, other)

    def __rmul__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.multiply(other, self)

    def __truediv__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.divide(self, other)

    def __rtruediv__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.divide(other, self)

    def __pow__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.power(self, other)

    def __rpow__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.power(other, self)

    def __floordiv__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.floor_divide(self, other)

    def __rfloordiv__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.floor_divide(other, self)

    def __mod__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.remainder(self, other)

    def __rmod__(self: "Tensor", other: "Operand") -> "Tensor":
        return F.remainder(other, self)

    def __and__(self: "Tensor", other: Any) -> "Tensor":
        return bitwise_and(self, other)

    def __or__(self: "Tensor", other: Any) -> "Tensor":
        return bitwise_or(self, other)

    def __xor__(self: "Tensor", other: Any) -> "Tensor":
        return bitwise_xor(self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self: "Tensor") -> "Tensor":
        return invert(self)

    def __matmul__(self: "Tensor", other: "Tensor | Array") -> "Tensor":
        return F.matmul(self, other)

    def __rmatmul__(self: "Tensor", other: Array) -> "Tensor":
        return F.matmul(other, self)

    def __neg__(self: "Tensor") -> "Tensor":
        return F.negative(self)

    def __abs__(self: "Tensor") -> "Tensor":
        return F.abs(self)

    def __getitem__(self: "Tensor", index: Any) -> "Tensor":
        return F.getitem(self, index)

    def _compare(self: "Tensor", other: Any, compare: str) -> "Tensor":
        if isinstance(other, (Variable, np.ndarray)):
            other = autograd.array_of(other, self.backend)
        elif isinstance(other, (list, tuple)):
            # In a list 0.1 is the number of the tensor's dtype, as it is by itself.
            dtype = self.dtype if self.dtype.kind == "f" else None
            other = autograd.array_of(other, self.backend, dtype=dtype)
        return self.wrap(getattr(operator, compare)(self.data, other))

    def __eq__(self: "Tensor", other: object) -> "Tensor":  # type: ignore[override]
        return self._compare(other, "__eq__")

    def __ne__(self: "Tensor", other: object) -> "Tensor":  # type: ignore[override]
        return self._compare(other, "__ne__")

    def __lt__(self: "Tensor", other: Any) -> "Tensor":
        return self._compare(other, "__lt__")

    def __le__(self: "Tensor", other: Any) -> "Tensor":
        return self._compare(other, "__le__")

    def __gt__(self: "Tensor", other: Any) -> "Tensor":
        return self._compare(other, "__gt__")

    def __ge__(self: "Tensor", other: Any) -> "Tensor":
        return self._compare(other, "__ge__")

    # --- functions as methods; their documentation is that of the function -------------------

    def exp(self: "Tensor") -> "Tensor":
        """See `functions.exp`."""
        return F.exp(self)

    def log(self: "Tensor") -> "Tensor":
        """See `functions.log`."""
        return F.log(self)

    def sqrt(self: "Tensor") -> "Tensor":
        """See `functions.sqrt`."""
        return F.sqrt(self)

    def abs(self: "Tensor") -> "Tensor":
        """See `functions.abs`."""
        return F.abs(self)

    def clip(self: "Tensor", low: Any = None, high: Any = None) -> "Tensor":
        """See `functions.clip`."""
        return F.clip(self, low, high)

    @accepts_dim
    def sum(self: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.sum`."""
        return F.sum(self, axis, keepdims)

    @accepts_dim
    def mean(self: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.mean`."""
        return F.mean(self, axis, keepdims)

    @accepts_dim
    def max(self: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.max`."""
        return F.max(self, axis, keepdims)

    @accepts_dim
    def var(
        self: "Tensor", axis: Axis = None, keepdims: bool = False, correction: int = 0
    ) -> "Tensor":
        """See `functions.var`."""
        return F.var(self, axis, keepdims, correction)

    @accepts_dim
    def min(self: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.min`."""
        return F.min(self, axis, keepdims)

    @accepts_dim
    def std(
        self: "Tensor", axis: Axis = None, keepdims: bool = False, correction: int = 0
    ) -> "Tensor":
        """See `functions.std`."""
        return F.std(self, axis, keepdims, correction)

    @accepts_dim
    def prod(self: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.prod`."""
        return F.prod(self, axis, keepdims)

    @accepts_dim
    def norm(self: "Tensor", p: Any = 2, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.norm`."""
        return F.norm(self, p, axis, keepdims)

    @accepts_dim
    def cumsum(self: "Tensor", axis: int) -> "Tensor":
        """See `functions.cumsum`."""
        return F.cumsum(self, axis)

    @accepts_dim
    def argmax(self: "Tensor", axis: int | None = None, keepdims: bool = False) -> "Tensor":
        """See `functions.argmax`."""
        return F.argmax(self, axis, keepdims)

    @accepts_dim
    def argmin(self: "Tensor", axis: int | None = None, keepdims: bool = False) -> "Tensor":
        """See `functions.argmin`."""
        return F.argmin(self, axis, keepdims)

    @accepts_dim
    def any(self: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.any`."""
        return F.any(self, axis, keepdims)

    @accepts_dim
    def all(self: "Tensor", axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """See `functions.all`."""
        return F.all(self, axis, keepdims)

    def round(self: "Tensor", decimals: int = 0) -> "Tensor":
        """See `functions.round`."""
        return F.round(self, decimals)

    def clone(self: "Tensor") -> "Tensor":
        """Return a copy, through which gradients flow."""
        return conversion.astype(self, self.dtype)

    @accepts_dim
    def gather(self: "Tensor", axis: int, index: Any) -> "Tensor":
        """See `functions.gather`."""
        return F.gather(self, axis, index)

    @accepts_dim
    def take_along_axis(self: "Tensor", indices: Any, axis: int | None) -> "Tensor":
        """See `functions.take_along_axis`."""
        return F.take_along_axis(self, indices, axis)

    def masked_fill(self: "Tensor", mask: Any, value: Any) -> "Tensor":
        """See `functions.masked_fill`."""
        return F.masked_fill(self, mask, value)

    def view(self: "Tensor", *shape: int | Sequence[int]) -> "Tensor":
        """See `functions.reshape`; PyTorch's name for it."""
        return F.reshape(self, _one_sequence(shape))

    def flatten(self: "Tensor", start_dim: int = 0, end_dim: int = -1) -> "Tensor":
        """See `functions.flatten`."""
        return F.flatten(self, start_dim, end_dim)

    @accepts_dim
    def squeeze(self: "Tensor", axis: Axis = None) -> "Tensor":
        """See `functions.squeeze`."""
        return F.squeeze(self, axis)

    @accepts_dim
    def unsqueeze(self: "Tensor", axis: int) -> "Tensor":
        """See `functions.unsqueeze`."""
        return F.unsqueeze(self, axis)

    def transpose(self: "Tensor", a: int, b: int) -> "Tensor":
        """See `functions.transpose`."""
        return F.transpose(self, a, b)

    def expand(self: "Tensor", *shape: int | Sequence[int]) -> "Tensor":
        """See `functions.expand`; the lengths may also be given one by one."""
        return F.expand(self, _one_sequence(shape))

    @accepts_dim
    def flip(self: "Tensor", axis: Axis = None) -> "Tensor":
        """See `functions.flip`."""
        return F.flip(self, axis)

    @accepts_dim
    def split(self: "Tensor", size: int | Sequence[int], axis: int = 0) -> "tuple[Tensor, ...]":
        """See `functions.split`."""
        return F.split(self, size, axis)

    @accepts_dim
    def chunk(self: "Tensor", chunks: int, axis: int = 0) -> "tuple[Tensor, ...]":
        """See `functions.chunk`."""
        return F.chunk(self, chunks, axis)

    def reshape(self: "Tensor", *shape: int | Sequence[int]) -> "Tensor":
        """See `functions.reshape`; the lengths may also be given one by one."""
        return F.reshape(self, _one_sequence(shape))

    def permute(self: "Tensor", *axes: int | Sequence[int]) -> "Tensor":
        """See `functions.permute`; the axes may also be given one by one."""
        return F.permute(self, _one_sequence(axes))

    @property
    def T(self: "Tensor") -> "Tensor":  # noqa: N802 (as in NumPy)
        """The tensor with its axes in reverse order."""
        return F.permute(self, tuple(reversed(range(self.ndim))))

    def broadcast_to(self: "Tensor", *shape: int | Sequence[int]) -> "Tensor":
        """See `functions.broadcast_to`; the lengths may also be given one by one."""
        return F.broadcast_to(self, _one_sequence(shape))

    def sigmoid(self: "Tensor") -> "Tensor":
        """See `functions.sigmoid`."""
        return F.sigmoid(self)

    def tanh(self: "Tensor") -> "Tensor":
        """See `functions.tanh`."""
        return F.tanh(self)

    def relu(self: "Tensor") -> "Tensor":
        """See `functions.relu`."""
        return F.relu(self)

    @accepts_dim
    def softmax(self: "Tensor", axis: int = -1) -> "Tensor":
        """See `functions.softmax`."""
        return F.softmax(self, axis)


def _one_sequence(given: tuple[Any, ...]) -> Sequence[int]:
    if len(given) == 1 and isinstance(given[0], Sequence | np.ndarray):
        return tuple(given[0])
    return given
