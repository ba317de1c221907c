"""The report of a detector: its figures with intervals, from what settings and data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tinygrad_mask.files import encode, write_file
from tinygrad_mask.masks.detector.evaluation.judging import DetectorJudgement
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.report.markdown import (
    interval_text,
    picture_links,
    settings_and_data,
    table,
)


def write_detector_report(
    path: str | Path,
    *,
    judgement: DetectorJudgement,
    config: Mapping[str, object],
    data_summary: str,
    pictures: Sequence[str],
) -> None:
    """Write the report of a detector as Markdown.

    Args:
        path: the file to write, usually `report.md`.
        judgement: that of photographs which the detector was not trained on.
        config: the settings, by name.
        data_summary: lines of plain text about the data, shown as they are.
        pictures: file names relative to the report, shown in this order.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    sections = [
        "# Face detector: report",
        f"Average precision at an intersection over union of 0.5 (pycocotools) of "
        f"{len(judgement.photographs):,} photographs. Intervals are bootstrapped by photograph.",
        figures_table(judgement),
        *picture_links(pictures),
        "## Settings",
        *settings_and_data(config, data_summary),
    ]
    write_file(Path(path), encode("\n\n".join(sections) + "\n"))


def figures_table(judgement: DetectorJudgement) -> str:
    """Return the figures with their 95 % intervals and the number of faces that they are of."""
    faces = judgement.matchings.faces()
    rows = (
        [
            f"`{name}`" if name in LABELS else name,
            "-" if np.isnan(estimate.value) else f"**{estimate.value:.3f}**",
            interval_text((estimate.low, estimate.high)),
            f"{faces[name]:,}" if name in faces else "",
        ]
        for name, estimate in judgement.estimates.items()
    )
    return table(["", "", "95 % interval", "faces"], rows, "lrlr")
