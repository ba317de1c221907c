"""The pictures of a training run: its course, its confusion and its worst mistakes.

Drawn through matplotlib's objects, without pyplot and its global state. The colours are those of
Okabe and Ito (2008), 'Color Universal Design', which the colour-blind can tell apart.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tinygrad_mask.data import Rows
from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.metrics import Metrics
from tinygrad_mask.masks.labels import LABELS

TRAIN, VALIDATION, BALANCED = "#0072B2", "#D55E00", "#009E73"
INK, FAINT = "#222222", "#6B6B6B"
DPI = 150


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
        axes.grid(color="#E4E4E4")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
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
    _save(figure, path)


def plot_confusion(metrics: Metrics, path: str | Path) -> None:
    """Draw the confusion matrix: in each cell the count and its share of the row (the true class).

    Args:
        metrics: what `compute_metrics` found.
        path: the PNG file to write.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    counts = np.array(metrics.confusion)
    of_class = counts.sum(axis=1)
    shares = counts / np.maximum(of_class, 1)[:, None]
    figure = Figure(figsize=(5.6, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else INK
        of_row = f"{share:.1%}" if of_class[i] else "no face"
        axes.text(j, i - 0.07, f"{counts[i, j]}", ha="center", va="center", size=19, color=colour)
        axes.text(j, i + 0.16, of_row, ha="center", va="center", size=11, color=colour)
    axes.set_xticks(range(len(LABELS)), LABELS)
    axes.set_yticks(
        range(len(LABELS)), [f"{label}\n({n})" for label, n in zip(LABELS, of_class, strict=True)]
    )
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class (faces)")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(LABELS) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(LABELS) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=3)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"accuracy {metrics.accuracy:.3f} (most frequent class: {metrics.baseline_accuracy:.3f})\n"
        f"balanced accuracy {metrics.balanced_accuracy:.3f}   macro-F1 {metrics.macro_f1:.3f}",
        size=11,
        color=INK,
    )
    _save(figure, path)


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

    heading = _heading(len(worst), len(mistakes), len(labels))
    if len(worst) == 0:
        figure = Figure(figsize=(9.6, 1.2))
        figure.text(0.5, 0.5, heading, size=15, color=INK, ha="center", va="center")
        _save(figure, path)
        return
    columns, rows = 6, -(-len(worst) // 6)
    figure = Figure(
        figsize=(9.6, 0.4 + 2.1 * rows), layout=ConstrainedLayoutEngine(hspace=0.03, wspace=0.04)
    )
    figure.suptitle(heading, size=12, color=INK, x=0.01, ha="left")
    tiles = figure.subplots(rows, columns, squeeze=False).ravel()
    for tile in tiles:
        tile.set_axis_off()
    for tile, i in zip(tiles, worst, strict=False):
        tile.imshow(crops[i], interpolation="bicubic")
        tile.set_title(
            f"is {LABELS[labels[i]]}\ncalled {LABELS[predicted[i]]}, {confidence[i]:.0%}",
            size=9,
            color=INK,
        )
        if names is not None:
            tile.text(
                0.5,
                -0.03,
                _shortened(names[i], 24),
                transform=tile.transAxes,
                ha="center",
                va="top",
                size=7,
                color=FAINT,
                parse_math=False,
            )
    _save(figure, path)


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


def _heading(shown: int, mistakes: int, faces: int) -> str:
    if mistakes == 0:
        return f"No mistake among {faces} faces"
    if mistakes == 1:
        return f"1 mistake among {faces} faces"
    which = "surest first" if shown == mistakes else f"the {shown} surest, surest first"
    return f"{mistakes} mistakes among {faces} faces: {which}"


def _shortened(name: str, length: int) -> str:
    """The name with its middle left out where it is longer: its end tells photographs apart."""
    if len(name) <= length:
        return name
    head = (length - 1) // 3
    return f"{name[:head]}…{name[-(length - 1 - head) :]}"


def _save(figure: Figure, path: str | Path) -> None:
    png = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes, which is no cause for alarm.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasAgg(figure).print_figure(png, format="png", dpi=DPI)
    write_file(Path(path), png.getvalue())
