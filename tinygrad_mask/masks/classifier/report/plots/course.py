"""How a training run went."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tinygrad_mask.masks.report.style import BLUE, GREEN, ORANGE, bare, save_figure

TRAIN, VALIDATION, BALANCED = BLUE, ORANGE, GREEN


def plot_curves(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draw loss and accuracy over the epochs, in training and validation.

    Args:
        history: an entry per epoch with `epoch`, `loss`, `accuracy`, `val_loss`, `val_accuracy` and
            `val_balanced_accuracy`; a NaN leaves a gap.
        path: the PNG file to write.

    Raises:
        ValueError: for an empty history.
        FileExistsError: if there is such a file; it is left as it is.
    """
    if not history:
        raise ValueError("plot_curves: expected at least one epoch, got none")
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.set_title("Loss")
    accuracy.set_title("Accuracy")
    losses = _draw_curve(loss, history, "loss", "training", TRAIN, "-")
    losses += _draw_curve(loss, history, "val_loss", "validation", VALIDATION, "-")
    shares = _draw_curve(accuracy, history, "accuracy", "training", TRAIN, "-")
    shares += _draw_curve(accuracy, history, "val_accuracy", "validation", VALIDATION, "-")
    shares += _draw_curve(
        accuracy, history, "val_balanced_accuracy", "validation, balanced", BALANCED, "--"
    )
    loss.set_ylim(0, 1.08 * max(losses, default=1) or 1)
    accuracy.set_ylim(np.floor(10 * min(shares, default=0)) / 10 - 0.02, 1.02)
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        if len(history) == 1:
            axes.set_xlim(history[0]["epoch"] - 0.5, history[0]["epoch"] + 0.5)
        bare(axes)
        # Below the axes, where it hides no curve.
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
    save_figure(figure, path)


def _draw_curve(
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
