"""Photographs of one event: the same persons in the same place, or one photograph in several forms.

Photographs of one event belong on one side of a split. Photographs are put together if they look
alike, if they were made of the same original, or if they are of Larxel's series of self-portraits.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.datasets.larxel import SOURCE, SOURCE_LARGE
from tinygrad_mask.masks.datasets.records import Photograph

COLOURS_ALIKE, LAYOUT_ALIKE = 0.93, 0.9
BOTH_ALIKE = 0.88, 0.7
"""The least similarity of two photographs of one event: of colours, of layout, or of both.

Chosen by looking at the pairs of Larxel's 683 photographs. Above these values all pairs seen showed
the same persons or the same scene (48 groups of 128 photographs). With 0.92 and 0.88, one group of
35 joins persons dressed in black before white walls, and crowds in grey streets.
"""

SERIES_SIZE = 301, 400
"""Larxel's photographs of this size are 157 self-portraits of two persons in one house, but for two
photographs; how masks are worn is acted in them. They count as one event.
"""

_HUES, _SATURATIONS, _VALUES = 12, 4, 4
_SIDE, _LAYOUT = 64, 8


class Appearance:
    """What a photograph looks like: the shares of its colours, and its 8 x 8 pixels in RGB.

    `colours` (192,), float64, are square roots of shares, so that their product sums to the
    Bhattacharyya coefficient; `layout` (192,), float64, has mean 0 and deviation 1.
    """

    def __init__(self, image: Image.Image) -> None:
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        hue, saturation, value = np.asarray(small.convert("HSV"), np.int64).reshape(-1, 3).T
        shape = (_HUES, _SATURATIONS, _VALUES)
        places = (hue * _HUES // 256, saturation * _SATURATIONS // 256, value * _VALUES // 256)
        counts = np.bincount(np.ravel_multi_index(places, shape), minlength=int(np.prod(shape)))
        self.colours = np.sqrt(counts / counts.sum())
        coarse = image.convert("RGB").resize((_LAYOUT, _LAYOUT), Image.Resampling.BOX)
        pixels = np.asarray(coarse, np.float64).ravel()
        self.layout = (pixels - pixels.mean()) / max(float(pixels.std()), 1.0)
        self.size = image.size


def looks_alike(looks: Sequence[Appearance]) -> NDArray[np.bool_]:
    """Return for each pair of n looks, (n, n), whether they are of one event."""
    colours = np.array([look.colours for look in looks])
    layout = np.array([look.layout for look in looks])
    of_colours = colours @ colours.T
    of_layout = layout @ layout.T / layout.shape[1]
    alike: NDArray[np.bool_] = (
        (of_colours >= COLOURS_ALIKE)
        | (of_layout >= LAYOUT_ALIKE)
        | ((of_colours >= BOTH_ALIKE[0]) & (of_layout >= BOTH_ALIKE[1]))
    )
    return alike


def origin_groups(
    photographs: Sequence[Photograph], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Join the groups of photographs that were made of one original.

    These are Larxel's photographs and their larger copies, which have the same names, and painted
    photographs. `groups` (n,) are those of `duplicate_groups`; the result is numbered likewise.
    """
    return _joined(groups, [_original(photograph) for photograph in photographs])


def event_groups(photographs: Sequence[Photograph], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join the groups of photographs of one event; each is opened once, by its original.

    `groups` (n,) are those of `origin_groups`; the result is numbered likewise. Drawn photographs
    are events of their own.
    """
    first: dict[int, int] = {}
    for index, (photograph, group) in enumerate(zip(photographs, groups.tolist(), strict=True)):
        if photograph.source != "synthetic" and not hasattr(photograph, "origin"):
            first.setdefault(group, index)
    if not first:
        return groups
    members = list(first.values())
    looks = [Appearance(photographs[index].open()) for index in members]
    alike = looks_alike(looks)
    series = [
        photographs[index].source == SOURCE and look.size == SERIES_SIZE
        for index, look in zip(members, looks, strict=True)
    ]
    alike |= np.outer(series, series)
    joined = groups.copy()
    for row, column in zip(*np.nonzero(np.triu(alike, 1)), strict=True):
        one, other = joined[members[row]], joined[members[column]]
        joined[joined == max(one, other)] = min(one, other)
    return _numbered(joined)


def _original(photograph: Photograph) -> Hashable:
    """What the photographs made of one original share."""
    name = getattr(photograph, "origin", photograph.name)
    source = photograph.source.removeprefix("painted_")
    return SOURCE if source == SOURCE_LARGE else source, name


def _joined(groups: NDArray[np.int64], keys: Iterable[Hashable]) -> NDArray[np.int64]:
    """Join the groups whose members share a key."""
    joined = groups.copy()
    of_key: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        of_key[key].append(index)
    for together in of_key.values():
        found = np.unique(joined[together])
        if len(found) > 1:
            joined[np.isin(joined, found)] = found[0]
    return _numbered(joined)


def _numbered(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number groups from 0 in the order of their first members."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    numbered: NDArray[np.int64] = numbers[inverse]
    return numbered
