"""The report of a training run, as GitHub shows it: what came out, from what settings and data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tinygrad_mask.files import encode, write_file
from tinygrad_mask.masks.classifier.evaluation.judging import Judgement
from tinygrad_mask.masks.classifier.report.tables import (
    alarm_tables,
    by_size_table,
    calibration_text,
    confusion_table,
    coverage_table,
    per_class_table,
    results_table,
)
from tinygrad_mask.masks.report.markdown import picture_links, settings_and_data, table


def write_report(
    path: str | Path,
    *,
    judgement: Judgement,
    history: Sequence[Mapping[str, float]],
    config: Mapping[str, object],
    data_summary: str,
    pictures: Sequence[str] = (),
) -> None:
    """Write the report of a run as Markdown.

    Args:
        path: the file to write, usually `report.md` in the run folder.
        judgement: that of the validation faces.
        history: an entry per epoch with `epoch`, `loss`, `accuracy`, `val_loss`, `val_accuracy` and
            `val_balanced_accuracy`; empty if nothing was trained.
        config: the settings of the run, by name.
        data_summary: lines of plain text about the data, shown as they are.
        pictures: file names relative to the report, shown in this order.

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    metrics = judgement.metrics
    sections = [
        "# Face mask classifier: report of a run",
        results_table(judgement, "validation faces"),
        *picture_links(pictures),
        "## Per class",
        per_class_table(judgement),
        "## Confusion",
        "Rows: the true class. Columns: what the model took it for.",
        confusion_table(metrics),
        "## By size of the face",
        by_size_table(judgement),
        "## Alarms",
        "The thresholds are those of these very faces; on others the false alarms may be more.",
        *alarm_tables(judgement),
        "## Calibration",
        calibration_text(judgement),
        "## Unsure",
        "The figures of the faces that the model is surest of; `unsure` answers the others.",
        coverage_table(judgement.coverage),
        "## Training",
    ]
    if history:
        sections += [_course(history)]
    sections += settings_and_data(config, data_summary)
    write_file(Path(path), encode("\n\n".join(sections) + "\n"))


def _course(history: Sequence[Mapping[str, float]]) -> str:
    names = {
        "loss": "loss",
        "accuracy": "accuracy",
        "val_loss": "validation loss",
        "val_accuracy": "validation accuracy",
        "val_balanced_accuracy": "validation balanced accuracy",
    }
    last = history[-1]
    best = max(history, key=lambda row: np.nan_to_num(row["val_balanced_accuracy"], nan=-1))
    rows = ([name, f"{best[key]:.4f}", f"{last[key]:.4f}"] for key, name in names.items())
    header = [
        "",
        f"epoch {best['epoch']:.0f}, the best balanced",
        f"epoch {last['epoch']:.0f}, the last",
    ]
    return table(header, rows, "lrr")
