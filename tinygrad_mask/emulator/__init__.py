"""Runs CUDA kernels without a GPU, and checks them.

A kernel's source is compiled by NVRTC, the compiler that a GPU's driver would be given the same
options for; the PTX that it makes is translated to C++, compiled for the host, and run, every CUDA
thread as a fiber with true barriers and warp operations. In check mode every access is tested for
bounds, alignment, initialisation and races.

    program = Program(source, name="scale.cu")
    program.function("scale").launch((4, 1, 1), (256, 1, 1), [x, np.float32(2)], mode="check")
"""

from tinygrad_mask.emulator.counts import Counts, LineCounts, Traffic
from tinygrad_mask.emulator.errors import (
    KINDS,
    CompileError,
    EmulatorError,
    KernelError,
    UnsupportedError,
)
from tinygrad_mask.emulator.program import Attributes, Kernel, Program
from tinygrad_mask.emulator.unwritten import empty, empty_like

__all__ = [
    "KINDS",
    "Attributes",
    "CompileError",
    "Counts",
    "EmulatorError",
    "Kernel",
    "KernelError",
    "LineCounts",
    "Program",
    "Traffic",
    "UnsupportedError",
    "empty",
    "empty_like",
]
