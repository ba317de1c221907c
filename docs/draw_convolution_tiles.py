"""Draws docs/pictures/convolution_tiles.png: which thread of conv3x3.cu does what."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import ConnectionPatch, Rectangle

SIDE, OUTPUTS, EACH, CHANNELS = 8, 16, 8, 4
ROW, COLUMN = 2, 3  # of the thread that is shown
PIXEL, HALO, SEEN, OWN = "#cfe2f3", "#eeeeee", "#f6b26b", "#e06666"


def grid(axes: Axes, colours: list[list[str]], title: str, below: str) -> None:
    """Draw a grid of cells, row 0 on top, with a text above and one below."""
    for row, line in enumerate(colours):
        for column, colour in enumerate(line):
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="#888888"))
    axes.set(xlim=(-0.1, len(colours[0]) + 0.1), ylim=(len(colours) + 0.1, -0.1), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.text(
        len(colours[0]) / 2, len(colours) + 0.5, below, ha="center", va="top", fontsize=9, wrap=True
    )
    axes.axis("off")


def main() -> None:
    """Draw the picture beside this script."""
    figure, (patch, weights, tile) = plt.subplots(
        1, 3, figsize=(11, 4.6), width_ratios=[SIDE + 2, OUTPUTS / 2, SIDE]
    )
    inside = range(1, SIDE + 1)
    seen = [(row, column) for row in range(ROW, ROW + 3) for column in range(COLUMN, COLUMN + 3)]
    grid(
        patch,
        [
            [
                SEEN if (r, c) in seen else PIXEL if r in inside and c in inside else HALO
                for c in range(SIDE + 2)
            ]
            for r in range(SIDE + 2)
        ],
        f"patch: {SIDE + 2} x {SIDE + 2} pixels, {CHANNELS} channels",
        "shared memory; grey is the border\nthat only the windows need",
    )
    taps = 9
    grid(
        weights,
        [[SEEN if c < EACH else PIXEL for c in range(OUTPUTS)] for _ in range(taps)],
        f"weights: 9 taps x {CHANNELS} channels x {OUTPUTS} outputs",
        "shared memory (one channel of 4 drawn:\na tap a row, an output a column)",
    )
    grid(
        tile,
        [[OWN if (r, c) == (ROW, COLUMN) else PIXEL for c in range(SIDE)] for r in range(SIDE)],
        f"tile: {SIDE} x {SIDE} pixels, {OUTPUTS} outputs",
        f"registers; {EACH} outputs of the red pixel are\none thread's, the other {EACH} another's",
    )
    for corner, end in (
        ((COLUMN + 3, ROW), (COLUMN, ROW)),
        ((COLUMN + 3, ROW + 3), (COLUMN, ROW + 1)),
    ):
        figure.add_artist(
            ConnectionPatch(corner, end, patch.transData, tile.transData, color=OWN, alpha=0.35)
        )
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.14, top=0.92, wspace=0.12)
    figure.savefig(Path(__file__).parent / "pictures" / "convolution_tiles.png", dpi=110)


if __name__ == "__main__":
    main()
