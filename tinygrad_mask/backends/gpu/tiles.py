"""The shapes of tiles that matrix products are cut into, and which of them a problem gets.

`kernels/cuda/tile.cuh` explains how a block computes a tile. A large tile uses each element that it
loads more often; small ones waste less at the edges and give every multiprocessor something to do.
"""

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
    """Which part of the instructions of the innermost loop are multiplications."""

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
    _tile(128, 64, 8, 8, 3, 0.79),
    _tile(64, 64, 8, 8, 6, 0.77),
    _tile(128, 32, 8, 8, 6, 0.75),
)
"""The tiles for operands that packs of four elements divide."""

STRIP = Tile("Strip", 256, 8, 64, 4, 0.57, (64, 8, 4))
"""For a few columns."""

ODD = {"float": _tile(128, 64, 8, 8, 3, 0.72), "double": _tile(64, 32, 4, 4, 3, 0.4)}
"""For operands that are loaded element by element. (float64 serves to check gradients; one tile,
and no packs, will do for it.)"""


class Choice(NamedTuple):
    """A tile, and how many elements of A, and of B and C, go at a time."""

    tile: Tile
    a: int
    c: int


def choose_tile(
    element: str, rows: int, columns: int, matrices: int, *, packs: bool, along: bool
) -> Choice:
    """The tile for so many matrices of this size at once.

    `packs` says whether packs of four elements divide the operands, those of C's rows excepted;
    `along` whether A lies along k, as strips need it.

    What a tile costs is the number of elements of all tiles, what lies beyond the matrix's edges
    included, and of half a tile more for each multiprocessor: so long they wait for the last ones
    on average.
    """
    if element != "float" or not packs:
        return Choice(ODD[element], 1, 1)
    if along and columns <= STRIP.columns:
        return Choice(STRIP, 4, 1)
    if columns % 4:
        return (
            Choice(TILES[-1], 4, 1) if columns <= TILES[-1].columns else Choice(ODD[element], 1, 1)
        )

    def cost(tile: Tile) -> float:
        blocks = tile.blocks(rows, columns) * matrices + MULTIPROCESSORS / 2
        return blocks * tile.rows * tile.columns / tile.efficiency

    return Choice(min(TILES, key=cost), 4, 4)


def choose_split(length: int, blocks: int, blocks_at_once: int, *, least: int, unit: int) -> int:
    """How long the parts are into which sums of this length are cut, of so many blocks each.

    A multiple of `unit`, and as many parts as give every multiprocessor the blocks that it can run
    at once, but none shorter than about `least`.
    """
    parts = max(min(MULTIPROCESSORS * blocks_at_once // blocks, length // least), 1)
    return max(ceil_div(ceil_div(length, parts), unit), 1) * unit
