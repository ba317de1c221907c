"""Functions that create tensors, with the signatures of PyTorch's.

`size` is one integer per axis, or one sequence of them: `zeros(2, 3)` and `zeros((2, 3))`. One rule
gives the dtype: floats are float32, integers int64 and Booleans bool, unless `dtype` says
otherwise; arrays and tensors keep the dtype they have. `dtype` is anything that `numpy.dtype`
takes, so `float` is float64 and `int` int64, as in NumPy and PyTorch. `device` is a name as for
`Tensor`.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_mask.backends import Array, Backend
from tinygrad_mask.functions.shape import check_size
from tinygrad_mask.random import as_generator
from tinygrad_mask.tensor import Tensor


def tensor(
    data: Any, *, dtype: Any = None, device: str | Backend = "cpu", requires_grad: bool = False
) -> Tensor:
    """Return a tensor with a copy of `data`: a number, a nested sequence, an array or a tensor.

    Python floats become float32 and Python integers int64; arrays keep their dtype. The same as
    `Tensor(data, ...)`.
    """
    return Tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)


def from_numpy(array: Array) -> Tensor:
    """Return a tensor on the CPU that shares the memory of a NumPy array, and has its dtype.

    A write on either side is seen on the other. The tensor does not notice what is written to the
    array, and a backward pass that needs the old values would use the new ones.

    Raises:
        TypeError: for anything but a NumPy array, and for a dtype that tensors do not have.

    Example:
        >>> array = np.zeros(3, np.float32)
        >>> shared = from_numpy(array)
        >>> array[0] = 1
        >>> shared[0].item()
        1.0
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}; "
            "use tensor(...), which copies"
        )
    return Tensor.from_array(array)


def zeros(
    *size: int | Sequence[int],
    dtype: Any = np.float32,
    device: str | Backend = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of zeros, float32 unless `dtype` says otherwise."""
    host = np.zeros(_shape("zeros", size), dtype)
    return Tensor(host, device=device, requires_grad=requires_grad)


def ones(
    *size: int | Sequence[int],
    dtype: Any = np.float32,
    device: str | Backend = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of ones, float32 unless `dtype` says otherwise."""
    host = np.ones(_shape("ones", size), dtype)
    return Tensor(host, device=device, requires_grad=requires_grad)


def full(
    size: int | Sequence[int],
    fill_value: float,
    *,
    dtype: Any = None,
    device: str | Backend = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor whose elements are all `fill_value`.

    `size` is one sequence, or an integer for one axis, because the value follows it. A float gives
    float32, an integer int64, and a Boolean bool.

    Raises:
        TypeError: `fill_value` is not a number.
        ValueError: `fill_value` does not fit a `dtype` of integers.
    """
    value = Tensor(fill_value, dtype=dtype)
    if value.ndim != 0:
        raise TypeError(f"full: expected fill_value to be a number, got shape {value.shape}")
    host = np.full(_shape("full", (size,)), value.numpy())
    return Tensor(host, device=device, requires_grad=requires_grad)


def zeros_like(
    input: Tensor | Array,
    *,
    dtype: Any = None,
    device: str | Backend | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return zeros of the shape, dtype and device of `input`, unless the options say otherwise."""
    return _like("zeros_like", zeros, input, dtype, device, requires_grad)


def ones_like(
    input: Tensor | Array,
    *,
    dtype: Any = None,
    device: str | Backend | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ones of the shape, dtype and device of `input`, unless the options say otherwise."""
    return _like("ones_like", ones, input, dtype, device, requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: str | Backend = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return the numbers from `start` to `end`, which is left out, at a distance of `step`.

    `arange(n)` starts from 0. Integers give int64; one float among them gives float32, computed in
    double precision and rounded once.

    Raises:
        TypeError: an argument is not a number.
        ValueError: `step` is 0, leads away from `end`, or an argument is not finite.

    Example:
        >>> arange(2, 8, 3).numpy()
        array([2, 5])
    """
    if end is None:
        start, end = 0, start
    start, end, step = (
        _finite(name, value) for name, value in (("start", start), ("end", end), ("step", step))
    )
    if step == 0 or (end - start) * step < 0:
        raise ValueError(
            f"arange: expected a step that leads from {start} to {end}, got {step!r}; "
            "give a step of the other sign"
        )
    try:
        count = (end - start) / step
    except OverflowError:  # more than a float can hold
        count = math.inf
    if count >= 2**60:
        raise ValueError(
            f"arange: expected fewer than 2**60 elements, got arange({start}, {end}, {step})"
        )
    host = np.arange(start, end, step)
    if dtype is None:
        dtype = np.float32 if host.dtype.kind == "f" else np.int64
    return Tensor(host, dtype=dtype, device=device, requires_grad=requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = np.float32,
    device: str | Backend = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Return a matrix of `n` rows and `m` columns (`n` if None) with ones on its diagonal."""
    rows, columns = _shape("eye", (n, n if m is None else m))
    host = np.eye(rows, columns, dtype=dtype)
    return Tensor(host, device=device, requires_grad=requires_grad)


def randn(
    *size: int | Sequence[int],
    dtype: Any = np.float32,
    device: str | Backend = "cpu",
    requires_grad: bool = False,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """Return numbers drawn from the normal distribution of mean 0 and variance 1.

    They are drawn by `rng`, or by the generator that `manual_seed` seeds, on the host: a seed gives
    the same numbers on every device.

    Raises:
        TypeError: `dtype` is neither float32 nor float64, or `rng` is not a generator.

    Example:
        >>> randn(2, 3, rng=np.random.default_rng(0)).shape
        (2, 3)
    """
    generator, shape = as_generator("randn", rng), _shape("randn", size)
    host = generator.standard_normal(shape, _floating("randn", dtype))
    return Tensor(host, device=device, requires_grad=requires_grad)


def rand(
    *size: int | Sequence[int],
    dtype: Any = np.float32,
    device: str | Backend = "cpu",
    requires_grad: bool = False,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """Return numbers drawn uniformly from 0 (included) to 1 (left out); see `randn` for `rng`.

    Raises:
        TypeError: `dtype` is neither float32 nor float64, or `rng` is not a generator.
    """
    generator, shape = as_generator("rand", rng), _shape("rand", size)
    host = generator.random(shape, _floating("rand", dtype))
    return Tensor(host, device=device, requires_grad=requires_grad)


def _shape(what: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the lengths that were given one by one or as one sequence."""
    lengths = size
    if len(size) == 1 and isinstance(size[0], Sequence | np.ndarray) and not _is_text(size[0]):
        lengths = tuple(size[0])
    if not size or any(isinstance(n, bool | np.bool_) or not _is_integer(n) for n in lengths):
        got = ", ".join(repr(n) for n in size) or "nothing"
        raise TypeError(
            f"{what}: expected the size as integers or one sequence of integers, got {got}; "
            f"write {what}((2, 3)), and dtype= by its name"
        )
    shape = tuple(operator.index(n) for n in lengths)
    if any(n < 0 for n in shape):
        raise ValueError(f"{what}: expected lengths >= 0, got {shape}")
    check_size(what, *shape)
    return shape


def _is_text(value: Any) -> bool:
    return isinstance(value, str | bytes)


def _is_integer(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _finite(name: str, value: Any) -> int | float:
    """Return an argument of `arange` as a number of Python's, so that nothing is rounded."""
    if isinstance(value, np.integer | np.floating):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"arange: expected {name} to be a number, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"arange: expected {name} to be finite, got {value!r}")
    return value


def _floating(what: str, dtype: Any) -> Any:
    wanted = np.dtype(dtype)
    if wanted not in (np.float32, np.float64):
        raise TypeError(f"{what}: expected dtype float32 or float64, got {wanted}")
    return wanted.type


def _like(
    what: str,
    create: Any,
    input: Any,
    dtype: Any,
    device: str | Backend | None,
    requires_grad: bool,
) -> Tensor:
    if not isinstance(input, Tensor | np.ndarray):
        raise TypeError(f"{what}: expected a tensor or an array, got {type(input).__name__}")
    if device is None:
        device = input.backend if isinstance(input, Tensor) else "cpu"
    made: Tensor = create(
        input.shape,
        dtype=input.dtype if dtype is None else dtype,
        device=device,
        requires_grad=requires_grad,
    )
    return made
