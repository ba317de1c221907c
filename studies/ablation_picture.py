"""A picture of the ablation: macro-F1 and recall of `improper` of each line, and intervals."""

from pathlib import Path

import numpy as np
from ablation_table import Line, done, intervals_of
from ablation_variants import EPOCHS, LONGER
from matplotlib.figure import Figure

from tinygrad_mask.masks.report.style import BLUE, FAINT, ORANGE, bare, save_figure

FIGURES = {"macro_f1": ("macro-F1", BLUE), "improper_recall": ("recall of improper", ORANGE)}


def draw(path: Path, out: Path) -> None:
    """Draw all variants that are done: the long trainings, and below them the others.

    The first of either is what the rest are compared with; a dashed line carries its figure down.
    """
    long, short = done(out)
    groups = {f"{LONGER} epochs": long, f"{EPOCHS} epochs": short}
    count = sum(map(len, groups.values()))
    figure = Figure(figsize=(9, 1.2 + 0.27 * (count + 2)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    labels: dict[float, str] = {}
    top = 0.0
    for title, lines in groups.items():
        places = top + 1 + np.arange(len(lines))
        labels |= {top: title} | dict(zip(places, (line.what for line in lines), strict=True))
        for axes, (key, (_, colour)) in zip(panels, FIGURES.items(), strict=True):
            for place, line in zip(places, lines, strict=True):
                low, high = intervals_of(line)[key]
                axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
                axes.plot(_value(line, key), place, "o", color=colour, markersize=5)
            if lines:
                first = _value(lines[0], key)
                axes.plot([first] * 2, [top + 0.5, places[-1] + 0.5], "--", color=FAINT, lw=1)
        top = top + len(lines) + 1.5
    for axes, (title, _) in zip(panels, FIGURES.values(), strict=True):
        axes.set_title(title)
        bare(axes)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(list(labels), list(labels.values()))
    for place, tick in zip(labels, panels[0].get_yticklabels(), strict=True):
        if labels[place] in groups:
            tick.set_fontweight("bold")
    panels[0].invert_yaxis()
    path.unlink(missing_ok=True)
    save_figure(figure, path)


def _value(line: Line, key: str) -> float:
    metrics = line.metrics
    return metrics.macro_f1 if key == "macro_f1" else metrics.per_class["improper"].recall
