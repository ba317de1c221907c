"""What all pictures share: their colours, and how they become files.

The colours are those of Okabe and Ito (2008), 'Color Universal Design', which the colour-blind can
tell apart.
"""

import io
import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tinygrad_mask.files import write_file

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, FAINT = "#222222", "#6B6B6B"
CLASS_COLOURS = {"proper": BLUE, "improper": ORANGE, "none": GREEN}
DPI = 150


def bare(axes: Axes) -> None:
    """Leave of the axes' frame only what measures, over a faint grid."""
    axes.grid(color="#E4E4E4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file; raises `FileExistsError` where there is one already."""
    png = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes, which is no cause for alarm.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasAgg(figure).print_figure(png, format="png", dpi=DPI)
    write_file(Path(path), png.getvalue())
