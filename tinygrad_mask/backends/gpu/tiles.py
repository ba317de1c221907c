"""The shapes of tiles that matrix products are cut into, and which of them a problem gets.

`kernels/cuda/tile.cuh` explains how a block computes a tile. A large tile uses each element that it
loads more often; small ones waste less at the edges and give every multiprocessor something to do.
Where there are few tiles and the sums are long, these are cut into parts too, each for a block of
its own, which `sum_splits` (kernels/cuda/splits.cu) adds up.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinygrad_mask.backends.interface import FusedActivation
from tinygrad_mask.backends.launcher import ceil_div

ACTIVATIONS: dict[FusedActivation, np.int32] = {
    "none": np.int32(0),
    "relu": np.int32(1),
    "sigmoid": np.int32(2),
    "tanh": np.int32(3),
}
"""The numbers of kernels/cuda/activation.cuh."""

SLICE = 8
"""How many elements of a sum a block adds up at a time."""

MULTIPROCESSORS = 128
"""What tiles and splits are chosen for, whichever GPU is at hand: so that a problem is computed in
the same order everywhere."""


MOST = 2**31 - 2**10
"""The most that kernels count with an int: they go on to the end of the last tile."""


class Tile(NamedTuple):
    """A shape of tile, and how the kernels call it."""

    kind: str
    rows: int
    columns: int
    threads: int
    blocks_at_once: int
    efficiency: float
    """How fast it multiplies, to the full rate: for the largest tile the share of multiplications
    among the innermost loop's instructions, for the others in proportion to that, as an H200
    multiplied large matrices by them.
    """

    parameters: tuple[int, ...]

    def name(self, element: str) -> str:
        """The tile's C++ type, for elements of that type."""
        return f"{self.kind}<{element}, {', '.join(map(str, self.parameters))}>"

    def blocks(self, rows: int, columns: int) -> int:
        """How many blocks compute a matrix; at least one."""
        return max(ceil_div(rows, self.rows), 1) * max(ceil_div(columns, self.columns), 1)


def _tile(
    rows: int, columns: int, thread_rows: int, thread_columns: int, at_once: int, efficiency: float
) -> Tile:
    threads = rows // thread_rows * (columns // thread_columns)
    parameters = (rows, columns, thread_rows, thread_columns, at_once)
    return Tile("Tile", rows, columns, threads, at_once, efficiency, parameters)


TILES = (
    _tile(128, 128, 16, 8, 2, 0.86),
    _tile(128, 64, 8, 8, 3, 0.76),
    _tile(64, 64, 8, 8, 6, 0.73),
    _tile(128, 32, 8, 8, 6, 0.70),
)
"""The tiles for operands that packs of four elements divide."""

STRIP = Tile("Strip", 256, 8, 64, 4, 0.57, (64, 8, 4))
"""For a few columns."""

ODD = {"float": _tile(128, 64, 8, 8, 3, 0.72), "double": _tile(64, 32, 4, 4, 3, 0.4)}
"""For operands that are loaded element by element. (float64 serves to check gradients; one tile,
and no packs, will do for it.)"""


class Choice(NamedTuple):
    """A tile, its C++ type, how many elements of A, and of B and C, go at a time, and how sums are
    cut.
    """

    tile: Tile
    type: str
    a: int
    c: int
    splits: int
    split: int
    """How many parts the sums have, and how long these are (the last one may be shorter)."""


@lru_cache(maxsize=1024)
def choose_tile(
    element: str, rows: int, columns: int, matrices: int, depth: int, *, packs: bool, along: bool
) -> Choice:
    """The tile for so many matrices of this size at once, each element a sum of `depth` products.

    `packs` says whether packs of four elements divide the operands, those of C's rows excepted;
    `along` whether A lies along k, as strips need it. Of all tiles that will do, and of all ways to
    cut the sums, those that `_cycles` expects to take least.
    """
    a, c = 4, 4
    tiles: tuple[Tile, ...] = TILES
    if element != "float" or not packs:
        a, c, tiles = 1, 1, (ODD[element],)
    elif along and columns <= STRIP.columns:
        c, tiles = 1, (STRIP,)
    elif columns % 4 and columns <= TILES[-1].columns:
        c, tiles = 1, TILES[-1:]
    elif columns % 4:
        a, c, tiles = 1, 1, (ODD[element],)
    slices = max(ceil_div(depth, SLICE), 1)

    def ways() -> Iterator[tuple[float, int, Tile]]:
        for tile in tiles:
            blocks = tile.blocks(rows, columns) * matrices
            most = min(MULTIPROCESSORS * tile.blocks_at_once // blocks, slices // 2)
            for splits in (s for s in _SPLITS if s <= max(most, 1)):
                cycles = _cycles(tile, blocks * splits, ceil_div(slices, splits))
                if splits > 1:
                    cycles += _SUMMING + splits * rows * columns * matrices / _SUMMED
                yield cycles, splits, tile

    _, splits, tile = min(ways(), key=lambda way: way[:2])
    split = ceil_div(slices, splits) * SLICE
    return Choice(tile, tile.name(element), a, c, max(ceil_div(depth, split), 1), split)


_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""How many parts sums may be cut into."""

# What `_cycles` counts with: fitted to the times that an H200 took for 57 convolutions, gradients
# and products, each with all tiles and all these ways to cut. What is chosen took 4 % longer than
# the best of them on average, at worst 18 %; uncut, the best tiles took three times as long.
_LATENCY, _SUMMING, _SUMMED = 750.0, 450.0, 550.0
"""Cycles that a slice of a block takes at least, those of a launch of `sum_splits`, and how many
elements that adds up in a cycle."""


def _cycles(tile: Tile, blocks: int, slices: int) -> float:
    """How many cycles blocks of so many slices take, as they share the multiprocessors.

    A multiprocessor multiplies 128 pairs of elements in a cycle, if it has four warps or more, less
    for other instructions; and it waits for each slice of a block, unless another block can go on.
    Half a block more is what a multiprocessor waits for the last ones on average.
    """
    products = tile.rows * tile.columns * SLICE / tile.efficiency
    alone = max(products / min(tile.threads, 128), _LATENCY)
    each = blocks / MULTIPROCESSORS + 0.5
    waves = ceil_div(ceil_div(blocks, MULTIPROCESSORS), tile.blocks_at_once)
    return slices * max(each * products / 128, waves * alone)


def choose_split(length: int, blocks: int, blocks_at_once: int, *, least: int) -> int:
    """How long the parts are into which sums of this length are cut, of so many blocks each.

    As many parts as give every multiprocessor the blocks that it can run at once, but none shorter
    than about `least`.
    """
    parts = max(min(MULTIPROCESSORS * blocks_at_once // blocks, length // least), 1)
    return max(ceil_div(length, parts), 1)
