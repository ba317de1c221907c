"""Finding the same photograph twice, so that no split puts one copy on each side.

A photograph's hash says, for 16 rows of 17 grey values each, where it clearly grows brighter to
the right (a difference hash of 256 bits); copies differ in few bits, however they were stored.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_WORDS = 4
"""A hash is this many 64-bit words."""

MAX_DISTANCE = 18
"""The most bits in which two copies of one photograph differ; the default of `duplicate_groups`.

Chosen on Larxel's data set (683 photographs): its 13 pairs of copies are at most 5 bits apart, and
the next pair (one scene twice, cut differently) 25. In chandrikadeb7 (3868 faces) the 15 pairs up
to 18 bits are all copies, and so are the next 8; the first two different faces, drawn by computer
on black, are 20 bits apart. A copy recompressed as JPEG of quality 60, or resized to half or to a
square, stays within 10 bits for 95 of 100 photographs. Not found: a mirrored copy (about 120 bits),
one cropped by 3% (20 to 50) and some of those made much brighter.
"""

_ROWS, _COLUMNS = 16, 17
_LEAST_STEP = 2  # grey levels; a smaller one is the noise of compression on a plain surface
_BLOCK = 256  # photographs compared with all others at a time


def perceptual_hash(image: Image.Image) -> NDArray[np.uint64]:
    """Return a picture's hash: uint64, (HASH_WORDS,). A plain-coloured picture's is all zeros."""
    small = image.convert("L").resize((_COLUMNS, _ROWS), Image.Resampling.BICUBIC)
    grey = np.asarray(small, dtype=np.int16)
    brighter = grey[:, 1:] - grey[:, :-1] >= _LEAST_STEP
    return np.packbits(brighter).view(np.uint64)


def copies_of(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64], max_distance: int = MAX_DISTANCE
) -> NDArray[np.bool_]:
    """Return for each of n hashes (n, HASH_WORDS) whether it is a copy of one of `others`.

    Two photographs are copies if their hashes differ in at most `max_distance` bits.
    """
    found = np.zeros(len(hashes), dtype=bool)
    for start in range(0, len(hashes), _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = (_distances(hashes[block], others) <= max_distance).any(axis=1)
    return found


def _distances(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The number of bits in which each of n hashes differs from each of m others, (n, m)."""
    distance = np.zeros((len(hashes), len(others)), dtype=np.int64)
    for word in range(hashes.shape[1]):
        distance += np.bitwise_count(hashes[:, word, None] ^ others[None, :, word])
    return distance


def duplicate_groups(
    hashes: NDArray[np.uint64], max_distance: int = MAX_DISTANCE
) -> NDArray[np.int64]:
    """Group copies: return a group number for each of n hashes (n, HASH_WORDS), from 0 without gap.

    Two whose hashes differ in at most `max_distance` bits are in one group, and so are any two that
    a chain of such pairs connects. Groups are numbered in the order of their first members.
    """
    group = np.arange(len(hashes))
    for start in range(0, len(hashes), _BLOCK):
        distance = _distances(hashes[start : start + _BLOCK], hashes[start:])
        for row, near in enumerate(distance <= max_distance):
            near[: row + 1] = False
            together = np.unique(group[start:][near])
            own = group[start + row]
            if np.any(together != own):
                together = np.append(together, own)
                group[np.isin(group, together)] = together.min()
    numbered: NDArray[np.int64] = np.unique(group, return_inverse=True)[1]
    return numbered
