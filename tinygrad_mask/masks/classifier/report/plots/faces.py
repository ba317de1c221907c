"""The faces themselves: those answered wrong, the first layer's view of them, where it looked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from tinygrad_mask.data import Rows
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.report.style import FAINT, INK, save_figure
from tinygrad_mask.masks.report.tiles import draw_tiles

_MAP_ROWS = 4  # of the tiles beside each crop
_PAIRS = 3  # of a crop and its saliency in a row


def plot_mistakes(
    crops: NDArray[np.uint8] | Rows,
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    path: str | Path,
    names: Sequence[str] | None = None,
    limit: int = 24,
) -> None:
    """Draw the faces that the model got wrong, those first of which it was surest.

    Args:
        crops: what the model saw, RGB, shape `(n, s, s, 3)`.
        labels: the true class indices, shape `(n,)`.
        probabilities: what the model said, shape `(n, 3)`.
        path: the PNG file to write.
        names: the photograph of each face, if they are to be shown.
        limit: the most faces to draw, at least 1.

    Raises:
        ValueError: if the lengths differ or the limit is below 1.
        FileExistsError: if there is such a file; it is left as it is.
    """
    lengths = [
        len(crops),
        len(labels),
        len(probabilities),
        *([] if names is None else [len(names)]),
    ]
    if len(set(lengths)) > 1 or limit < 1:
        raise ValueError(
            "plot_mistakes: expected crops, labels, probabilities and names of equal lengths and "
            f"limit >= 1, got lengths {lengths} and limit {limit}"
        )
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    mistakes = np.flatnonzero(predicted != labels)
    worst = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:limit]

    titles = [
        f"is {LABELS[labels[i]]}\ncalled {LABELS[predicted[i]]}, {confidence[i]:.0%}" for i in worst
    ]
    draw_tiles(
        [crops[i] for i in worst],
        titles,
        None if names is None else [names[i] for i in worst],
        _heading(len(worst), len(mistakes), len(labels)),
        path,
    )


def plot_feature_maps(
    crops: NDArray[np.uint8], maps: NDArray[Any], titles: Sequence[str], path: str | Path
) -> None:
    """Draw what the first convolution makes of some crops: a row for each, a tile for each channel.

    A tile shows its channel's values from the lowest (black) to the highest (white) of all crops
    drawn, so that one channel can be compared from face to face.

    Args:
        crops: what the model saw, RGB, shape `(n, s, s, 3)`, n at least 1.
        maps: the channels of each, shape `(n, h, w, channels)`.
        titles: what to write beside each crop.
        path: the PNG file to write.

    Raises:
        ValueError: if the lengths differ.
        FileExistsError: if there is such a file; it is left as it is.
    """
    _check_lengths("plot_feature_maps", crops, maps, titles)
    low, high = maps.min(axis=(0, 1, 2)), maps.max(axis=(0, 1, 2))
    shades = (maps - low) / np.where(high > low, high - low, 1)
    rows, columns = _MAP_ROWS, -(-maps.shape[3] // _MAP_ROWS)
    figure = Figure(figsize=(10, len(crops) * (0.25 + 10 * rows / (columns + rows))))
    strips = figure.subfigures(len(crops), 1, squeeze=False)[:, 0]
    for strip, crop, of_crop, title in zip(strips, crops, shades, titles, strict=True):
        face, tiles = strip.subplots(
            1,
            2,
            width_ratios=(rows, columns),
            gridspec_kw={"left": 0.01, "right": 0.99, "top": 0.93, "bottom": 0.01, "wspace": 0.02},
        )
        face.imshow(crop, interpolation="nearest")
        face.set_title(title, size=9, color=INK, parse_math=False)
        # One picture of all tiles: axes for each would take twenty times as long to draw.
        mosaic = _mosaic(of_crop, rows, columns)
        tiles.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for axes in (face, tiles):
            axes.set_axis_off()
    save_figure(figure, path)


def _mosaic(shades: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Lay channels (h, w, channels) out row by row as tiles of one picture, white between them."""
    height, width, channels = shades.shape
    gap = max(1, round(0.05 * height))
    mosaic = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap))
    for channel in range(channels):
        top, left = channel // columns * (height + gap), channel % columns * (width + gap)
        mosaic[top : top + height, left : left + width] = shades[..., channel]
    return mosaic


def plot_saliency(
    crops: NDArray[np.uint8], maps: NDArray[Any], titles: Sequence[str], path: str | Path
) -> None:
    """Draw each crop, and beside it the same with the pixels that mattered most lit up.

    Args:
        crops: what the model saw, RGB, shape `(n, s, s, 3)`, n at least 1.
        maps: how much each pixel mattered, from 0 on, shape `(n, s, s)`.
        titles: what to write above each crop.
        path: the PNG file to write.

    Raises:
        ValueError: if the lengths differ.
        FileExistsError: if there is such a file; it is left as it is.
    """
    _check_lengths("plot_saliency", crops, maps, titles)
    pairs = min(len(crops), _PAIRS)
    rows = -(-len(crops) // pairs)
    figure = Figure(
        figsize=(4.8 * pairs, 0.1 + 2.75 * rows),
        layout=ConstrainedLayoutEngine(hspace=0.03, wspace=0.03),
    )
    tiles = figure.subplots(rows, 2 * pairs, squeeze=False)
    for tile in tiles.ravel():
        tile.set_axis_off()
    for (plain, lit), crop, of_crop, title in zip(
        tiles.reshape(-1, 2), crops, maps, titles, strict=False
    ):
        plain.imshow(crop, interpolation="bicubic")
        plain.set_title(title, size=9, color=INK, loc="left", parse_math=False)
        # A few pixels are many times the rest; they are not to darken all others.
        most = np.percentile(of_crop, 99) or 1.0
        grey = np.repeat(crop.mean(axis=2, keepdims=True) / 255, 3, axis=2)
        lit.imshow(0.75 * grey + 0.25, interpolation="bicubic")
        strength = np.clip(of_crop / most, 0, 1)
        lit.imshow(strength, cmap="inferno", alpha=0.85 * strength, interpolation="bicubic")
        lit.set_title("what mattered", size=9, color=FAINT, loc="left")
    save_figure(figure, path)


def _check_lengths(
    what: str, crops: NDArray[np.uint8], maps: NDArray[Any], titles: Sequence[str]
) -> None:
    if not len(crops) == len(maps) == len(titles) >= 1:
        raise ValueError(
            f"{what}: expected as many crops, maps and titles, at least 1, "
            f"got {len(crops)}, {len(maps)} and {len(titles)}"
        )


def _heading(shown: int, mistakes: int, faces: int) -> str:
    if mistakes == 0:
        return f"No mistake among {faces} faces"
    if mistakes == 1:
        return f"1 mistake among {faces} faces"
    which = "surest first" if shown == mistakes else f"the {shown} surest, surest first"
    return f"{mistakes} mistakes among {faces} faces: {which}"
