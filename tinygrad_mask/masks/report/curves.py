"""Curves over the epochs of a run."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tinygrad_mask.masks.report.style import bare


def draw_curve(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    key: str,
    name: str,
    colour: str,
    line: str,
) -> list[float]:
    """Draw one column of the history; return its finite values."""
    values = [row[key] for row in history]
    axes.plot(
        [row["epoch"] for row in history],
        values,
        line,
        color=colour,
        label=f"{name} {values[-1]:.3f}",
        linewidth=1.8,
        marker="o" if len(history) <= 40 else None,
        markersize=3.5,
    )
    return [value for value in values if np.isfinite(value)]


def finish_curves(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    """Label the axis of the epochs, and put a legend below, where it hides no curve."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    if len(history) == 1:
        axes.set_xlim(history[0]["epoch"] - 0.5, history[0]["epoch"] + 0.5)
    bare(axes)
    axes.legend(
        title=f"after epoch {history[-1]['epoch']:.0f}",
        title_fontsize=9,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=3,
        fontsize=9,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.2,
    )
