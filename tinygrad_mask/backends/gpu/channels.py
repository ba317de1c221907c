"""How threads share an array whose last axis holds the channels."""

from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import VECTOR_BYTES, Dim3, Launcher, ceil_div

THREADS = 256


def pack_size(launcher: Launcher, channels: int, *arrays: Array) -> int:
    """How many channels of each array a thread can access at once.

    As many as 128 bits of the first array hold, if they divide the channels and all arrays begin at
    whole packs; else 1.
    """
    size = VECTOR_BYTES // arrays[0].dtype.itemsize
    if channels % size:
        return 1
    whole = all(launcher.aligned(array, to=size * array.dtype.itemsize) for array in arrays)
    return size if whole else 1


def rectangle(rows: int, columns: int, most_columns: int) -> tuple[Dim3, Dim3]:
    """Grid and block of threads over so many columns (x in a block, y in the grid) and rows.

    A block is as wide as the columns, up to `most_columns`, rounded up to a power of two.
    """
    width = min(most_columns, 1 << (columns - 1).bit_length())
    height = THREADS // width
    return (ceil_div(rows, height), ceil_div(columns, width), 1), (width, height, 1)
