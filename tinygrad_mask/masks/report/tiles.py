"""Pictures side by side, each with a title: the worst mistakes of a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from tinygrad_mask.masks.report.style import FAINT, INK, save_figure


def draw_tiles(
    pictures: Sequence[NDArray[Any]],
    titles: Sequence[str],
    names: Sequence[str] | None,
    heading: str,
    path: str | Path,
) -> None:
    """Draw square pictures, six in a row, below a heading; without a picture, the heading alone.

    Args:
        pictures: RGB, each of shape `(s, s, 3)`, uint8.
        titles: what to write above each.
        names: what to write below each, if anything.
        heading: what to write above all.
        path: the PNG file to write.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    if not pictures:
        figure = Figure(figsize=(9.6, 1.2))
        figure.text(0.5, 0.5, heading, size=15, color=INK, ha="center", va="center")
        save_figure(figure, path)
        return
    columns, rows = 6, -(-len(pictures) // 6)
    figure = Figure(
        figsize=(9.6, 0.4 + 2.1 * rows), layout=ConstrainedLayoutEngine(hspace=0.03, wspace=0.04)
    )
    figure.suptitle(heading, size=12, color=INK, x=0.01, ha="left")
    tiles = figure.subplots(rows, columns, squeeze=False).ravel()
    for tile in tiles:
        tile.set_axis_off()
    for k, (tile, picture, title) in enumerate(zip(tiles, pictures, titles, strict=False)):
        tile.imshow(picture, interpolation="bicubic")
        tile.set_title(title, size=9, color=INK)
        if names is not None:
            tile.text(
                0.5,
                -0.03,
                _shortened(names[k], 24),
                transform=tile.transAxes,
                ha="center",
                va="top",
                size=7,
                color=FAINT,
                parse_math=False,
            )
    save_figure(figure, path)


def _shortened(name: str, length: int) -> str:
    """The name with its middle left out where it is longer: its end tells photographs apart."""
    if len(name) <= length:
        return name
    head = (length - 1) // 3
    return f"{name[:head]}…{name[-(length - 1 - head) :]}"
