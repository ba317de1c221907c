"""A judgement as Markdown tables, for the report of a run and the model card."""

from collections.abc import Sequence

import numpy as np

from tinygrad_mask.masks.classifier.evaluation.coverage import CoverageRow
from tinygrad_mask.masks.classifier.evaluation.judging import Judgement
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics, recall_of_improper
from tinygrad_mask.masks.classifier.evaluation.thresholds import ALARMS, ThresholdRow
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.report.markdown import interval_text, table


def results_table(judgement: Judgement, faces: str) -> str:
    """Return the figures with their 95 % intervals; `faces` says what faces they are of."""
    metrics = judgement.metrics

    def row(name: str, key: str, figure: str) -> list[str]:
        return [name, f"**{figure}**", interval_text(judgement.intervals[key])]

    rows = [
        row("macro-F1", "macro_f1", f"{metrics.macro_f1:.3f}"),
        row("balanced accuracy", "balanced_accuracy", f"{metrics.balanced_accuracy:.3f}"),
        row("recall of `improper`", "improper_recall", recall_of_improper(metrics)),
        row("accuracy", "accuracy", f"{metrics.accuracy:.3f}"),
        [
            "accuracy of always answering the most frequent class",
            f"{metrics.baseline_accuracy:.3f}",
            "",
        ],
    ]
    return table([f"{metrics.n} {faces}", "", "95 % interval"], rows, "lll")


def alarm_tables(judgement: Judgement) -> list[str]:
    """Return a paragraph and a table for each alarm: what it catches at few false alarms."""
    sections: list[str] = []
    for alarm, meaning in ALARMS.items():
        rows = [_alarm_row(row) for row in judgement.alarms[alarm]]
        sections += [
            f"An alarm for `{alarm}`: {meaning}.",
            table(
                ["false alarms, at most", "threshold", "`improper` caught", "false alarms"],
                rows,
                "rrrr",
            ),
        ]
    return sections


def _alarm_row(row: ThresholdRow) -> list[str]:
    share = f" ({row.caught / row.n_improper:.0%})" if row.n_improper else ""
    return [
        f"{row.false_alarm_share:.0%}",
        f"{row.threshold:.3f}" if np.isfinite(row.threshold) else "none",
        f"{row.caught} of {row.n_improper}{share}",
        f"{row.false_alarms} of {row.n_others}",
    ]


def coverage_table(rows: Sequence[CoverageRow]) -> str:
    """Return what answering only the faces that a model is surest of does to its figures."""
    return table(
        [
            "answered",
            "least probability",
            "faces",
            "accuracy",
            "baseline",
            "balanced accuracy",
            "macro-F1",
            "recall of `improper`",
        ],
        (
            [
                f"{row.coverage:.0%}",
                f"{row.threshold:.3f}",
                f"{row.n}",
                f"{row.accuracy:.3f}",
                f"{row.baseline_accuracy:.3f}",
                f"{row.balanced_accuracy:.3f}",
                f"{row.macro_f1:.3f}",
                "none" if np.isnan(row.improper_recall) else f"{row.improper_recall:.3f}",
            ]
            for row in rows
        ),
        "rrrrrrrr",
    )


def calibration_text(judgement: Judgement) -> str:
    """Return what the temperature is and what it does to the expected calibration error."""
    calibration = judgement.calibration
    after = (
        "there is nothing else to judge it by"
        if np.isnan(calibration.ece_after)
        else f"{calibration.ece_after:.3f} with one fitted to other photographs than those judged"
    )
    return (
        f"The scores are divided by a temperature of {calibration.temperature:.3f}. The expected "
        f"calibration error is {calibration.ece_before:.3f} without it; {after}."
    )


def per_class_table(judgement: Judgement) -> str:
    """Return precision, recall and F1 of each class, each with its 95 % interval."""
    rows = (
        [
            f"`{label}`",
            *(
                _with_interval(f"{getattr(of, name):.3f}", judgement.intervals[f"{label}_{name}"])
                for name in ("precision", "recall", "f1")
            ),
            f"{of.n}",
        ]
        for label, of in judgement.metrics.per_class.items()
    )
    return table(["class", "precision", "recall", "F1", "faces"], rows, "lrrrr")


def confusion_table(metrics: Metrics) -> str:
    """Return the confusion; rows are the true classes, columns what they were taken for."""
    rows = (
        [f"**`{label}`**", *(str(count) for count in row)]
        for label, row in zip(LABELS, metrics.confusion, strict=True)
    )
    return table(["", *(f"`{label}`" for label in LABELS)], rows, "l" + "r" * len(LABELS))


def by_size_table(judgement: Judgement) -> str:
    """Return the figures of each range of face sizes, two of them with their 95 % intervals."""
    header = ["face", "faces", "accuracy", "baseline", "balanced accuracy", "macro-F1"]
    rows = (
        [
            name,
            f"{of.n}",
            f"{of.accuracy:.3f}",
            f"{of.baseline_accuracy:.3f}",
            f"{of.balanced_accuracy:.3f}",
            _with_interval(f"{of.macro_f1:.3f}", judgement.intervals_by_size[name]["macro_f1"]),
            _with_interval(
                recall_of_improper(of), judgement.intervals_by_size[name]["improper_recall"]
            ),
        ]
        for name, of in judgement.by_size.items()
    )
    return table([*header, "recall of `improper`"], rows, "lrrrrrr")


def _with_interval(figure: str, ends: tuple[float, float]) -> str:
    return figure if np.isnan(ends).any() else f"{figure}, {interval_text(ends)}"
