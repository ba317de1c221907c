"""How a training run went."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tinygrad_mask.masks.report.curves import draw_curve, finish_curves
from tinygrad_mask.masks.report.style import BLUE, GREEN, ORANGE, save_figure

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
    losses = draw_curve(loss, history, "loss", "training", TRAIN, "-")
    losses += draw_curve(loss, history, "val_loss", "validation", VALIDATION, "-")
    shares = draw_curve(accuracy, history, "accuracy", "training", TRAIN, "-")
    shares += draw_curve(accuracy, history, "val_accuracy", "validation", VALIDATION, "-")
    shares += draw_curve(
        accuracy, history, "val_balanced_accuracy", "validation, balanced", BALANCED, "--"
    )
    loss.set_ylim(0, 1.08 * max(losses, default=1) or 1)
    accuracy.set_ylim(np.floor(10 * min(shares, default=0)) / 10 - 0.02, 1.02)
    for axes in (loss, accuracy):
        finish_curves(axes, history)
    save_figure(figure, path)
