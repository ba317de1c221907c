"""How launch code starts a CUDA kernel: one interface for the GPU and for the emulator.

The code that decides on grids and arguments (`tinygrad_mask.backends.gpu`) is written once, against
`Launcher`; what differs is where the arrays live and who executes the kernel.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygrad_mask.backends.interface import Array

Dim3: TypeAlias = tuple[int, int, int]
"""Numbers of blocks or threads along x, y and z."""

MOST_BLOCKS: Dim3 = (2**31 - 1, 2**16 - 1, 2**16 - 1)
MOST_THREADS: Dim3 = (1024, 1024, 64)
MOST_THREADS_A_BLOCK = 1024
MOST_SHARED_BYTES = 227 * 1024  # what any architecture so far lets one block have
VECTOR_BYTES = 16  # the widest access of a thread

OPTIONS = ("-std=c++17",)
"""What the kernels are compiled with, besides what CuPy adds by itself (`-ftz=true`)."""

_MOST_CONSTANTS = 16

_C_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


class Launcher(ABC):
    """Starts kernels of `kernels/cuda` on arrays of one array module.

    `capability` is the compute capability, (9, 0) for sm_90. No launch depends on it so far: the
    same problem is computed in the same order everywhere.
    """

    xp: Any
    capability: tuple[int, int]

    def __init__(self) -> None:
        self._constants: dict[Hashable, Array] = {}

    def launch(
        self,
        file: str,
        kernel: str,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Any],
        *,
        shared_bytes: int = 0,
        reachable: Sequence[Array] = (),
    ) -> None:
        """Check a launch and start it; it may still be running when this returns.

        Args:
            file: the file in `kernels/cuda`, as `"pool2d.cu"`.
            kernel: its instance as C++ writes it, `"max_pool2d<float, unsigned char>"`.
            grid: blocks along x, y and z.
            block: threads of a block along x, y and z.
            arguments: arrays (their address is passed), None (a null pointer), NumPy scalars, and
                structures by value (`np.void`, or arrays of no axes, of a structured dtype with
                `align=True`); no Python numbers, which have no width.
            shared_bytes: dynamic shared memory of a block.
            reachable: arrays whose addresses the kernel finds in memory or within a structure.

        Raises `ValueError` or `TypeError` for what no kernel can be launched with.
        """
        # Nothing is put into words before it is known to be wrong: small networks wait for this.
        _check_sizes(kernel, grid, block, shared_bytes)
        for position, argument in enumerate(arguments):
            if argument is None or isinstance(argument, np.generic) or _is_structure(argument):
                continue
            if error := self._refusal(argument):
                raise type(error)(f"{kernel}: argument {position}: {error}")
        for position, array in enumerate(reachable):
            if error := self._refusal(array):
                raise type(error)(f"{kernel}: reachable array {position}: {error}")
        self.start(file, kernel, grid, block, arguments, shared_bytes, reachable)

    @abstractmethod
    def start(
        self,
        file: str,
        kernel: str,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Any],
        shared_bytes: int,
        reachable: Sequence[Array],
    ) -> None:
        """Start a launch whose arguments were checked."""

    @abstractmethod
    def asarray(self, host: Array) -> Array:
        """Return a NumPy array's contents as an array of the device; may share memory."""

    def constant(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """Return on the device what `make` returns, which is always the same for one `key`; those
        that were asked for last are remembered. Nobody may write into it.
        """
        array = self._constants.pop(key, None)
        if array is None:
            array = self.asarray(make())
            if len(self._constants) == _MOST_CONSTANTS:
                del self._constants[next(iter(self._constants))]
        self._constants[key] = array
        return array

    @abstractmethod
    def address(self, array: Array) -> int:
        """The address of an array's first element, on the device."""

    def aligned(self, *arrays: Array | None, to: int = VECTOR_BYTES) -> bool:
        """Whether all of these arrays (None counts) begin at a multiple of so many bytes."""
        for array in arrays:  # noqa: SIM110  (a generator would take twice as long)
            if array is not None and self.address(array) % to:
                return False
        return True

    def _refusal(self, array: Any) -> Exception | None:
        """What is wrong with an array, if anything: it must be one of the device, in C order and
        at an address that fits.
        """
        if not isinstance(array, self.xp.ndarray):
            return TypeError(
                f"expected an array of {self.xp.__name__}, a NumPy scalar, a structure or None, "
                f"got {type(array).__name__}"
            )
        if not array.flags.c_contiguous:
            return ValueError(f"expected an array in C order, got strides {array.strides}")
        if self.address(array) % array.dtype.alignment and array.size:
            return ValueError(f"its address is no multiple of {array.dtype.alignment}")
        return None


def _is_structure(argument: Any) -> bool:
    return isinstance(argument, np.ndarray) and argument.ndim == 0 and bool(argument.dtype.names)


@functools.lru_cache(maxsize=1024)  # a network launches the same each step
def _check_sizes(kernel: str, grid: Dim3, block: Dim3, shared_bytes: int) -> None:
    for what, sizes, most in (("blocks", grid, MOST_BLOCKS), ("threads", block, MOST_THREADS)):
        if len(sizes) != 3 or not all(1 <= n <= m for n, m in zip(sizes, most, strict=True)):
            raise ValueError(f"{kernel}: expected 1 to {most} {what}, got {tuple(sizes)}")
    if block[0] * block[1] * block[2] > MOST_THREADS_A_BLOCK:
        raise ValueError(
            f"{kernel}: expected at most {MOST_THREADS_A_BLOCK} threads a block, got {block}"
        )
    if not 0 <= shared_bytes <= MOST_SHARED_BYTES:
        raise ValueError(
            f"{kernel}: expected 0 to {MOST_SHARED_BYTES} bytes of shared memory, "
            f"got {shared_bytes}"
        )


# --- for launch code ----------------------------------------------------------------------------


def c_type(array: Array, *others: Array | None) -> str:
    """The C++ type of the elements of these arrays, `float` or `double`; None counts as any.

    Raises `TypeError` for another dtype, or where they differ.
    """
    dtype = array.dtype
    if dtype not in _C_TYPES:
        raise TypeError(f"expected an array of float32 or float64, got {dtype}")
    for other in others:
        if other is not None and other.dtype != dtype:
            raise TypeError(f"expected arrays of one dtype, got {dtype} and {other.dtype}")
    return _C_TYPES[dtype]


def check_shape(name: str, array: Array | None, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless the array has this shape; None has any."""
    if array is not None and array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def int32(value: int) -> np.int32:
    """The number as a 32-bit argument; raises `ValueError` where it does not fit."""
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"expected a number of 32 bits, got {value}")
    return np.int32(value)


def ceil_div(a: int, b: int) -> int:
    """The quotient of two positive integers, rounded up."""
    return -(-a // b)


# --- where the sources lie ------------------------------------------------------------------------


@functools.cache
def kernel_folder() -> Path:
    """Return the folder of the CUDA sources: the installed package's, else the checkout's.

    Raises `FileNotFoundError` where there is neither.
    """
    package = Path(__file__).parents[1]
    places = [package / "kernels" / "cuda", package.parent / "kernels" / "cuda"]
    for place in places:
        if (place / "common.cuh").is_file():
            return place
    raise FileNotFoundError(f"no CUDA kernels in {' nor '.join(map(str, places))}")


@functools.cache
def kernel_source(file: str) -> str:
    """Return the text of a file in `kernels/cuda`."""
    return (kernel_folder() / file).read_text(encoding="utf-8")


@functools.cache
def kernel_headers() -> Mapping[str, str]:
    """Return the texts of all headers in `kernels/cuda`, by name."""
    return {path.name: kernel_source(path.name) for path in sorted(kernel_folder().glob("*.cuh"))}
