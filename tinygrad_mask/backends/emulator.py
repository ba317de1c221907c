"""The device `emulator`: NumPy arrays, and the kernels of `kernels/cuda` executed on the host.

What runs is the launch code of the GPU and the machine code (PTX) that NVIDIA's compiler makes of
the kernels, with nothing but another launcher. In `check` mode every access of every thread is
checked, and a wrong one is a `KernelError` that names the line.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.interface import Array, DeviceError
from tinygrad_mask.backends.launcher import (
    OPTIONS,
    Dim3,
    Launcher,
    kernel_headers,
    kernel_source,
)
from tinygrad_mask.emulator import EmulatorError, Kernel, Program, nvrtc, toolchain
from tinygrad_mask.emulator.unwritten import TrackingNumpy

Mode: TypeAlias = Literal["fast", "check"]
Order: TypeAlias = Literal["forward", "reverse", "random"]

MODE_VARIABLE = "TINYGRAD_MASK_EMULATOR_MODE"
ARCH_VARIABLE = "TINYGRAD_MASK_EMULATOR_ARCH"
ORDER_VARIABLE = "TINYGRAD_MASK_EMULATOR_ORDER"

ADDED_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy compiles kernels with besides, so that these are the same."""


class EmulatorLauncher(Launcher):
    """Executes kernels compiled for an architecture (`sm_90`), in one mode and order of threads."""

    xp: Any = np
    options: tuple[str, ...] = (*OPTIONS, *ADDED_OPTIONS)

    def __init__(self, mode: Mode, arch: str, order: Order, seed: int) -> None:
        super().__init__()
        if mode == "check":  # what a kernel does not write of its results is noticed when read
            self.xp = TrackingNumpy()
        self.mode, self.arch, self.order, self.seed = mode, arch, order, seed
        number = int(arch.removeprefix("sm_"))
        self.capability = divmod(number, 10)
        self._functions: dict[tuple[str, str], Kernel] = {}

    def asarray(self, host: Array) -> Array:
        return np.asarray(host)

    def address(self, array: Array) -> int:
        return array.__array_interface__["data"][0]

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
        self.function(file, kernel).launch(
            grid,
            block,
            [_with_axis(argument) for argument in arguments],
            shared_bytes=shared_bytes,
            reachable=reachable,
            mode=self.mode,
            order=self.order,
            seed=self.seed,
        )

    def function(self, file: str, kernel: str) -> Kernel:
        """The kernel as it is launched, compiled at its first launch."""
        if (file, kernel) not in self._functions:
            program = Program(
                self.source(file),
                name=file,
                headers={name: self.source(name) for name in kernel_headers()},
                arch=self.arch,
                options=self.options,
                name_expressions=[kernel],
            )
            self._functions[file, kernel] = program.function(kernel)
        return self._functions[file, kernel]

    def source(self, file: str) -> str:
        """The text of a file in kernels/cuda, as it is compiled."""
        return kernel_source(file)


def _with_axis(argument: Any) -> Any:
    """An array of no axes as one of a single element; only so the emulator takes its address."""
    if isinstance(argument, np.ndarray) and argument.ndim == 0 and not argument.dtype.names:
        return argument.reshape(1)
    return argument


def emulator_backend(
    mode: Mode | None = None,
    arch: str | None = None,
    order: Order | None = None,
    seed: int = 0,
) -> GpuBackend:
    """Return the backend of the emulator, the same object for the same arguments.

    Args:
        mode: `fast`, or `check` to check every access, which takes some 10 times as long.
        arch: the architecture to compile for, `sm_75` to `sm_120`.
        order: in which blocks and threads run: `forward`, `reverse` or `random`.
        seed: of the random order.

    What is not given comes from the environment (`TINYGRAD_MASK_EMULATOR_MODE`, `_ARCH`, `_ORDER`),
    else it is `fast`, `sm_90` and `forward`. Raises `DeviceError` for an argument that is none of
    these, or where the compilers that it takes are not there.
    """
    return _emulator_backend(
        _choice(mode, MODE_VARIABLE, get_args(Mode)),
        arch or os.environ.get(ARCH_VARIABLE, "sm_90"),
        _choice(order, ORDER_VARIABLE, get_args(Order)),
        seed,
    )


@functools.cache
def _emulator_backend(mode: Any, arch: str, order: Any, seed: int) -> GpuBackend:
    try:
        toolchain.compiler()
        known = [f"sm_{number}" for number in nvrtc.architectures()]
    except EmulatorError as error:
        raise DeviceError(f"device 'emulator' is not available: {error}") from error
    if arch not in known:
        raise DeviceError(f"{ARCH_VARIABLE}: expected one of {', '.join(known)}, got {arch!r}")
    return GpuBackend("emulator", EmulatorLauncher(mode, arch, order, seed))


def _choice(given: str | None, variable: str, choices: tuple[str, ...]) -> str:
    """What was given, else what the variable says, else the first choice."""
    value = given or os.environ.get(variable, choices[0])
    if value not in choices:
        raise DeviceError(f"{variable}: expected one of {', '.join(choices)}, got {value!r}")
    return value
