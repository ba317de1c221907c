"""How good the answers are: confusion, precision and recall, reliability."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tinygrad_mask.masks.classifier.evaluation.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    reliability,
    reliability_of_answers,
)
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics
from tinygrad_mask.masks.classifier.evaluation.thresholds import precision_recall
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.report.style import (
    CLASS_COLOURS,
    FAINT,
    INK,
    bare,
    save_figure,
)


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
    save_figure(figure, path)


def plot_precision_recall(
    labels: NDArray[np.int64], probabilities: NDArray[Any], path: str | Path
) -> None:
    """Draw for each class precision against recall, over all thresholds on its probability.

    A dot marks what the answers themselves give, that is, the most probable class. A class of which
    there is no face has no curve.

    Args:
        labels: the true class indices, shape `(n,)`, n at least 1.
        probabilities: what the model said, shape `(n, 3)`.
        path: the PNG file to write.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    answers = probabilities.argmax(axis=1)
    for c, label in enumerate(LABELS):
        of_class, colour = labels == c, CLASS_COLOURS[label]
        if not of_class.any():
            axes.plot([], [], color=colour, label=f"{label}: no face")
            continue
        found = precision_recall(of_class, probabilities[:, c])
        # From the axis on: the precision of the surest faces is that of the first threshold.
        axes.step(
            np.concatenate([[0], found.recall]),
            np.concatenate([found.precision[:1], found.precision]),
            where="pre",
            color=colour,
            linewidth=1.8,
            label=f"{label}: average precision {found.average_precision:.3f} ({found.n} faces)",
        )
        answered = answers == c
        if answered.any():
            right = (answered & of_class).sum()
            axes.plot(
                right / of_class.sum(),
                right / answered.sum(),
                "o",
                color=colour,
                markersize=8,
                markeredgecolor="white",
                clip_on=False,
                zorder=3,
            )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title("Precision and recall (dots: the most probable class)", size=11, color=INK)
    bare(axes)
    axes.legend(loc="lower left", fontsize=9, frameon=True, edgecolor="none", framealpha=0.9)
    save_figure(figure, path)


def plot_reliability(
    labels: NDArray[np.int64], probabilities: NDArray[Any], path: str | Path
) -> None:
    """Draw how often what was said with some confidence came true.

    On the left the most probable class, on the right the probability of `improper`, each with the
    interval that chance leaves it; below each how many faces were given which. On the diagonal a
    probability is what it says.

    Args:
        labels: the true class indices, shape `(n,)`, n at least 1.
        probabilities: what the model said, shape `(n, 3)`.
        path: the PNG file to write.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    improper = LABELS.index("improper")
    of_improper = np.minimum(probabilities[:, improper], 1.0)
    figure = Figure(figsize=(10, 5.6))
    # Places by hand: to find them, all of it would have to be laid out three times over.
    figure.subplots_adjust(left=0.07, right=0.985, top=0.94, bottom=0.09, hspace=0.1, wspace=0.14)
    panels = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1))
    _draw_reliability(
        panels[:, 0], reliability_of_answers(probabilities, labels), "the answer", INK
    )
    _draw_reliability(
        panels[:, 1],
        reliability(of_improper, labels == improper),
        "improper",
        CLASS_COLOURS["improper"],
    )
    panels[0, 0].set_ylabel("share that came true")
    panels[1, 0].set_ylabel("faces")
    save_figure(figure, path)


def _draw_reliability(
    panels: NDArray[Any], bins: list[ReliabilityBin], what: str, colour: str
) -> None:
    """Draw the bins above, and how many faces are in each below, on a logarithmic scale."""
    above: Axes = panels[0]
    below: Axes = panels[1]
    filled = [of for of in bins if of.n]
    confidence, share = [of.confidence for of in filled], [of.share for of in filled]
    chance = np.array([_wilson(of.share, of.n) for of in filled]).reshape(-1, 2).T
    above.plot([0, 1], [0, 1], "--", color=FAINT, linewidth=1)
    above.vlines(confidence, *chance, color=colour, alpha=0.35, linewidth=5)
    above.plot(confidence, share, "o-", color=colour, markersize=5, linewidth=1.4)
    error = expected_calibration_error(bins)
    above.set_title(f"P({what}): expected calibration error {error:.3f}", size=11, color=INK)
    above.set(xlim=(0, 1), ylim=(-0.01, 1.02))
    middles = [(of.low + of.high) / 2 for of in filled]
    width = 0.92 * (bins[0].high - bins[0].low)
    below.bar(middles, [of.n for of in filled], width, color=colour, alpha=0.6)
    below.set_yscale("log")
    below.set_ylim(bottom=0.7)
    below.yaxis.set_major_formatter("{x:g}")
    below.set_xlabel(f"P({what})")
    for axes in (above, below):
        bare(axes)


def _wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n (Wilson 1927): what chance alone may make of it."""
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(middle - reach), float(middle + reach)
