"""Pictures of a detector: its training, precision and recall, its worst mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.detector.evaluation.average_precision import ANY_FACE, MEAN, RECALLS
from tinygrad_mask.masks.detector.evaluation.judging import DetectorJudgement
from tinygrad_mask.masks.detector.evaluation.mistakes import (
    DetectionMistake,
    false_alarms,
    missed_faces,
)
from tinygrad_mask.masks.detector.network.detector import LEAST_SCORE
from tinygrad_mask.masks.detector.network.input import GREY
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.report.curves import draw_curve, finish_curves
from tinygrad_mask.masks.report.style import (
    BLUE,
    CLASS_COLOURS,
    FAINT,
    INK,
    ORANGE,
    bare,
    save_figure,
)
from tinygrad_mask.masks.report.tiles import draw_tiles

_TILE = 160  # pixels
_MOST_TILES = 24
_SURROUNDINGS = 3.0  # the side of a tile, in longer sides of the box
_LEAST_SIDE = 48  # of a tile, in pixels of the photograph


def plot_training(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draw the parts of the loss, and the average precision of held-back photographs.

    Args:
        history: at least one row per epoch with `epoch`, `loss`, `heat`, `box`, `label`,
            `val_any_face` and `val_mean`; a NaN leaves a gap.
        path: the PNG file to write.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    loss, precision = figure.subplots(1, 2)
    loss.set_title("Loss")
    precision.set_title("Average precision of photographs held back")
    highest = [
        value
        for key, colour, line in (
            ("loss", INK, "-"),
            ("heat", ORANGE, "-"),
            ("box", BLUE, "-"),
            ("label", CLASS_COLOURS["none"], "-"),
        )
        for value in draw_curve(loss, history, key, key, colour, line)
    ]
    draw_curve(precision, history, "val_any_face", "any face", INK, "-")
    draw_curve(precision, history, "val_mean", "mean over the labels", FAINT, "--")
    for label, colour in CLASS_COLOURS.items():
        draw_curve(precision, history, f"val_{label}", label, colour, ":")
    loss.set_ylim(0, 1.08 * max(highest, default=1) or 1)
    precision.set_ylim(0, 1.02)
    for axes in (loss, precision):
        finish_curves(axes, history)
    save_figure(figure, path)


def plot_precision_of_faces(judgement: DetectorJudgement, path: str | Path) -> None:
    """Draw precision over recall, of finding faces and of finding those of each label.

    Precision is as pycocotools interpolates it: the best one at any higher recall.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    faces = judgement.matchings.faces()
    for name, precision in judgement.matchings.curves().items():
        average = judgement.estimates[name].value
        axes.plot(
            RECALLS,
            precision,
            "--" if name == ANY_FACE else "-",
            color=CLASS_COLOURS.get(name, INK),
            linewidth=1.8,
            label=f"{name}: {average:.3f} ({faces[name]:,} faces)",
        )
    mean = judgement.estimates[MEAN].value
    of_mean = "" if np.isnan(mean) else f"; mean over the labels {mean:.3f}"
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"Average precision at IoU 0.5{of_mean}", size=11, color=INK)
    bare(axes)
    axes.legend(loc="lower left", fontsize=9, frameon=True, edgecolor="none", framealpha=0.9)
    save_figure(figure, path)


def plot_missed_faces(judgement: DetectorJudgement, path: str | Path) -> None:
    """Draw the largest faces that `detect` would miss, at its default score, in green.

    Raises `FileExistsError` if there is such a file; it is left as it is.
    """
    missed = missed_faces(judgement.matchings, LEAST_SCORE)
    titles = [
        f"{LABELS[of.label]}, {min(of.box[2:] - of.box[:2]):.0f} px\n"
        + (f"score only {of.score:.3f}" if of.score else "not found")
        for of in missed[:_MOST_TILES]
    ]
    count = judgement.matchings.faces()[ANY_FACE]
    heading = f"No face missed, of {count:,}"
    if missed:
        heading = f"{len(missed):,} of {count:,} faces missed at a score of {LEAST_SCORE:g}"
        heading += _shown_of(missed, "the largest first")
    _plot(judgement.photographs, missed, titles, heading, (0, 200, 90), path)


def plot_false_alarms(judgement: DetectorJudgement, path: str | Path) -> None:
    """Draw what `detect` would take for a face, at its default score, in orange.

    Raises `FileExistsError` if there is such a file; it is left as it is.
    """
    alarms = false_alarms(judgement.matchings, LEAST_SCORE)
    titles = [f"{LABELS[of.label]}\nscore {of.score:.2f}" for of in alarms[:_MOST_TILES]]
    heading = f"No false alarm in {len(judgement.photographs):,} photographs"
    if alarms:
        heading = (
            f"{len(alarms):,} false alarms in {len(judgement.photographs):,} photographs "
            f"at a score of {LEAST_SCORE:g}" + _shown_of(alarms, "the most certain first")
        )
    _plot(judgement.photographs, alarms, titles, heading, (255, 120, 0), path)


def _shown_of(mistakes: Sequence[DetectionMistake], order: str) -> str:
    few = f"{_MOST_TILES} of them, " if len(mistakes) > _MOST_TILES else ""
    return f": {few}{order}" if len(mistakes) > 1 else ""


def _plot(
    photographs: Sequence[Photograph],
    mistakes: Sequence[DetectionMistake],
    titles: Sequence[str],
    heading: str,
    colour: tuple[int, int, int],
    path: str | Path,
) -> None:
    shown = mistakes[:_MOST_TILES]
    pictures = [_tile(photographs[of.photograph].open(), of.box, colour) for of in shown]
    names = [photographs[of.photograph].name for of in shown]
    draw_tiles(pictures, titles, names, heading, path)


def _tile(
    image: Image.Image, box: NDArray[np.float32], colour: tuple[int, int, int]
) -> NDArray[Any]:
    """Cut a square round a box out of an image, and draw the box."""
    side = round(max(_SURROUNDINGS * float(max(box[2:] - box[:2])), _LEAST_SIDE))
    left, top = (round(float(v) - side / 2) for v in (box[:2] + box[2:]) / 2)
    window = Image.new("RGB", (side, side), (GREY, GREY, GREY))
    window.paste(image, (-left, -top))
    window = window.resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    scale = _TILE / side
    x1, y1, x2, y2 = (
        round((float(v) - offset) * scale)
        for v, offset in zip(box, (left, top, left, top), strict=True)
    )
    drawn = ImageDraw.Draw(window)
    for grown, line in ((3, (0, 0, 0)), (2, colour), (1, colour)):
        drawn.rectangle((x1 - grown, y1 - grown, x2 + grown, y2 + grown), outline=line)
    return np.asarray(window)
