"""How networks learn under the protocol of the slides, beside what the slides say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tinygrad_mask.masks.report.style import BLUE, FAINT, ORANGE, bare, save_figure


def plot_protocol(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    path: str | Path,
    *,
    slides: float,
    baseline: float,
) -> None:
    """Draw accuracy over the epochs of one network or two, and two levels to compare it with.

    Args:
        histories: by the name of the network, an entry per epoch with `epoch`, `accuracy` and
            `val_accuracy`.
        path: the PNG file to write.
        slides: the validation accuracy on the slides.
        baseline: that of always answering the most frequent class.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for (name, history), colour in zip(histories.items(), (BLUE, ORANGE), strict=False):
        epochs = [row["epoch"] for row in history]
        for key, line, where in (
            ("accuracy", ":", "training"),
            ("val_accuracy", "-", "validation"),
        ):
            values = [row[key] for row in history]
            label = f"{name}, {where} {values[-1]:.3f}"
            axes.plot(epochs, values, line, color=colour, label=label, linewidth=1.8)
    for height, colour, text in (
        (slides, "black", f"validation accuracy on the slides, {slides}"),
        (baseline, FAINT, f"always the most frequent class, {baseline:.3f}"),
    ):
        axes.axhline(height, color=colour, linewidth=1, linestyle="--")
        axes.annotate(
            text,
            (0.99, height),
            (0, 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    axes.set_title("Accuracy, a fifth of the faces held back at random")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    rows = [row for history in histories.values() for row in history]
    lowest = min(min(row["accuracy"], row["val_accuracy"]) for row in rows)
    axes.set_ylim(min(lowest, baseline, slides) - 0.03, 1.01)
    bare(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9, frameon=False)
    save_figure(figure, path)
