"""Launchers that find out instead of computing: what would be launched, and what that would do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_mask.backends.emulator import EmulatorLauncher
from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import Dim3
from tinygrad_mask.emulator.counts import Counts


@dataclass(frozen=True)
class Instance:
    """A kernel as it is launched.

    Args:
        file: The file in `kernels/cuda`.
        kernel: Its instance as C++ writes it, `"max_pool2d<float, unsigned char, 4>"`.
        threads: Threads of a block.
        shared_bytes: Dynamic shared memory of a block.
    """

    file: str
    kernel: str
    threads: int
    shared_bytes: int

    @property
    def function(self) -> str:
        """The kernel's name without template arguments."""
        return self.kernel.partition("<")[0]

    @property
    def is_double(self) -> bool:
        """Whether it computes in float64."""
        return "double" in self.kernel


class RecordingLauncher(EmulatorLauncher):
    """Notes which kernels are launched, and launches none."""

    def __init__(self, arch: str) -> None:
        super().__init__("fast", arch, "forward", 0)
        self.instances: set[Instance] = set()

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
        """Note the launch."""
        self.instances.add(Instance(file, kernel, math.prod(block), shared_bytes))


@dataclass(frozen=True)
class CountedLaunch:
    """A launch and what was counted of it.

    Args:
        instance: The kernel.
        grid: Blocks along x, y and z.
        counted: The share of blocks that was run and counted.
        counts: What those did.
        array_bytes: The size of all arrays that the kernel was given.
        fresh_bytes: The size of those that were not there before the operation: its results, and
            what lies between two launches.
    """

    instance: Instance
    grid: Dim3
    counted: float
    counts: Counts
    array_bytes: int
    fresh_bytes: int

    def traffic(self, space: str) -> tuple[float, float]:
        """What was moved in a space, "global" or "shared", and the fewest for the same requests.

        Of all blocks; sectors of 32 bytes in global memory, passes over the banks in shared memory.
        """
        all_traffic = self.counts.traffic
        traffic = [all_traffic[name] for name in all_traffic if name.startswith(f"{space}.")]
        moved, fewest = sum(t.moved for t in traffic), sum(t.fewest for t in traffic)
        return moved / self.counted, fewest / self.counted

    def instructions(self, kind: str) -> float:
        """How many instructions of a kind threads execute; for all blocks."""
        return self.counts.instructions.get(kind, 0) / self.counted


class CountingLauncher(EmulatorLauncher):
    """Runs and counts the first blocks of each launch along x.

    How many is a share of them all: the work of a batch's first images, say. Kernels do not know
    the difference, unless they ask for the size of the grid; those are run whole. What the other
    blocks would have computed is missing from the results.

    Args:
        arch: The architecture to compile for, "sm_90".
        share: The share of blocks to run, above 0 and at most 1; at least one block is.
        inputs: The arrays that are there before the operation.
    """

    def __init__(self, arch: str, share: float, inputs: Sequence[Array]) -> None:
        super().__init__("fast", arch, "forward", 0)
        self.share, self.inputs = share, inputs
        self.launches: list[CountedLaunch] = []

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
        """Run the first blocks, and count."""
        function = self.function(file, kernel)
        asks = "%nctaid" in function.program.ptx
        blocks = grid[0] if asks else min(math.ceil(grid[0] * self.share), grid[0])
        counts = function.launch(
            (blocks, *grid[1:]),
            block,
            arguments,
            shared_bytes=shared_bytes,
            reachable=reachable,
            mode="count",
        )
        arrays = [a for a in (*arguments, *reachable) if isinstance(a, np.ndarray) and a.ndim]
        unique = {id(a): a for a in arrays}
        fresh = [a for a in unique.values() if not any(a is b for b in self.inputs)]
        self.launches.append(
            CountedLaunch(
                Instance(file, kernel, math.prod(block), shared_bytes),
                grid,
                blocks / grid[0],
                counts,
                sum(a.nbytes for a in unique.values()),
                sum(a.nbytes for a in fresh),
            )
        )
