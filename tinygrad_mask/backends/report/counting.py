"""What operations do, counted by the emulator, against the least that they could do.

Of a whole batch it would take too long. Each launch is that of the whole batch, with its tiles and
splits, but only the first blocks run, those of one image of 32, say (`CountingLauncher`); what
they do, times the number of images, is what is reported. All images are alike to a kernel; where
the blocks of an image are not a whole number, or a sum over the batch is cut into parts that differ
in size, the figures are off by a part of a block. (For the operations of `network`, the bytes of a
whole batch differed by at most 0.8 %.)

Three figures of traffic, in bytes:

- moved: every sector of 32 bytes that a warp's access touches, by the access. So much goes between
  a multiprocessor and the caches; the memory sees less, since the caches have some of it already.
- tiles' minimum, for products of matrices by tiles (`kernels/cuda/tile.cuh`): each tile reads the
  elements of its rows of the left operand and of its columns of the right one once each, padding
  never, and writes its results; what further launches of the operation (the sums of splits)
  read and write is added.
- fewest: each array that the operation gets or returns is read or written once, as with a cache
  that holds everything.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.gpu.tiles import ODD, STRIP, TILES, Tile
from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.report.gpus import GPUS, Gpu
from tinygrad_mask.backends.report.launchers import CountedLaunch, CountingLauncher
from tinygrad_mask.backends.report.network import Operation

SECTOR = 32

_ARITHMETIC = {"fma.f32": 2, "f32": 1, "f32x2": 2, "f64": 1, "f16": 1}


@dataclass(frozen=True)
class CountedOperation:
    """An operation and what its launches do.

    Args:
        operation: The operation.
        launches: Its launches, in order.
        fewest_bytes: The size of what it gets and of what it returns.
    """

    operation: Operation
    launches: tuple[CountedLaunch, ...]
    fewest_bytes: int

    @property
    def arithmetic(self) -> float:
        """Floating-point operations that threads do, a fused multiplication and addition as two."""
        return sum(
            weight * launch.instructions(kind)
            for launch in self.launches
            for kind, weight in _ARITHMETIC.items()
        )

    @property
    def flops(self) -> float:
        """Operations of the definition; where it says nothing, those that were counted."""
        defined = self.operation.flops
        return self.arithmetic if defined is None else defined

    @property
    def moved_bytes(self) -> float:
        """Bytes moved through global memory."""
        return SECTOR * sum(launch.traffic("global")[0] for launch in self.launches)

    @property
    def tiles_minimum(self) -> float | None:
        """Bytes that tiles of this shape have to move; None if there are no tiles."""
        product = self.operation.product
        total, tiles = 0, 0
        for launch in self.launches:
            tile = tile_of(launch.instance.kernel)
            if tile and product:
                tiles += 1
                total += product.tiles_minimum(tile.rows, tile.columns) + launch.fresh_bytes
            else:
                total += launch.array_bytes
        return total if tiles else None

    @property
    def sector_efficiency(self) -> float:
        """The share of moved sectors that would do for the bytes that each access asked for."""
        moved, fewest = self._traffic("global")
        return fewest / moved if moved else 1.0

    @property
    def bank_conflicts(self) -> float:
        """Passes over the banks of shared memory, to what they would be without conflicts."""
        moved, fewest = self._traffic("shared")
        return moved / fewest if fewest else 1.0

    def _traffic(self, space: str) -> tuple[float, float]:
        moved, fewest = zip(*(launch.traffic(space) for launch in self.launches), strict=True)
        return sum(moved), sum(fewest)

    def seconds(self, gpu: Gpu, *, fewest: bool) -> float:
        """The least time on a GPU: of the definition's operations and the fewest bytes, or of the
        arithmetic and traffic that were counted, as if there were no caches.
        """
        if fewest:
            return gpu.seconds(self.flops, self.fewest_bytes)
        return gpu.seconds(self.arithmetic, self.moved_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return it in terms of JSON; times are in seconds."""
        return {
            "layer": self.operation.layer,
            "direction": self.operation.direction,
            "in_step": self.operation.in_step,
            "flops": self.flops,
            "arithmetic": self.arithmetic,
            "fewest_bytes": self.fewest_bytes,
            "tiles_minimum_bytes": self.tiles_minimum,
            "moved_bytes": self.moved_bytes,
            "sector_efficiency": self.sector_efficiency,
            "bank_conflicts": self.bank_conflicts,
            "seconds": {gpu.name: self.seconds(gpu, fewest=True) for gpu in GPUS},
            "seconds_without_caches": {gpu.name: self.seconds(gpu, fewest=False) for gpu in GPUS},
            "launches": [
                {
                    "file": launch.instance.file,
                    "kernel": launch.instance.kernel,
                    "grid": launch.grid,
                    "threads": launch.instance.threads,
                    "counted": launch.counted,
                    "counts": launch.counts.to_json(),
                }
                for launch in self.launches
            ],
        }


@functools.cache
def _tiles() -> dict[str, Tile]:
    """The tiles by their C++ names."""
    tiles = (*TILES, STRIP, *ODD.values())
    return {tile.name(element): tile for tile in tiles for element in ("float", "double")}


def tile_of(kernel: str) -> Tile | None:
    """Return the tile that a kernel's instance computes; None if it has none."""
    return next((tile for name, tile in _tiles().items() if name in kernel), None)


def count(operation: Operation, arch: str, share: float) -> CountedOperation:
    """Run an operation's launches on the emulator, a share of the blocks of each, and count.

    Those of operations that have nothing to do with the batch run whole.

    Raises `EmulatorError` where NVRTC or a compiler is missing, or a kernel is wrong.
    """
    arrays = operation.arrays(np.random.default_rng(0))
    share = share if operation.per_image else 1.0
    launcher = CountingLauncher(arch, share, tuple(arrays.values()))
    results = operation.call(GpuBackend("emulator", launcher), arrays)
    written = [*_flat(results), *(arrays[name] for name in operation.updates)]
    fewest = sum(array.nbytes for array in (*arrays.values(), *written))
    return CountedOperation(operation, tuple(launcher.launches), fewest)


def count_each(
    operations: Iterable[Operation], arch: str, share: float
) -> Iterator[CountedOperation]:
    """Count operations, several at a time: most of it is waiting for compilers.

    Yields each as soon as it is counted, in their order. Raises `EmulatorError` as `count` does.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield from pool.map(lambda operation: count(operation, arch, share), operations)


def count_all(operations: Iterable[Operation], arch: str, share: float) -> list[CountedOperation]:
    """Return all that `count_each` yields."""
    return list(count_each(operations, arch, share))


def _flat(results: Any) -> list[Array]:
    """Return the arrays among results."""
    several = results if isinstance(results, tuple) else (results,)
    return [array for array in several if isinstance(array, np.ndarray)]
