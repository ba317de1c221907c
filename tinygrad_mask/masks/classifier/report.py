"""The report of a training run, as GitHub shows it: what came out, from what settings and data."""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.metrics import Metrics, recall_of_improper
from tinygrad_mask.masks.labels import LABELS


def write_report(
    path: str | Path,
    *,
    metrics: Metrics,
    history: Sequence[Mapping[str, float]],
    config: Mapping[str, object],
    data_summary: str,
    pictures: Sequence[str] = (),
    by_size: Mapping[str, Metrics] | None = None,
) -> None:
    """Write the report of a run as Markdown.

    Args:
        path: the file to write, usually `report.md` in the run folder.
        metrics: those of the validation faces.
        history: an entry per epoch with `epoch`, `loss`, `accuracy`, `val_loss`, `val_accuracy` and
            `val_balanced_accuracy`; empty if nothing was trained.
        config: the settings of the run, by name.
        data_summary: lines of plain text about the data, shown as they are.
        pictures: file names relative to the report, shown in this order.
        by_size: the metrics of each range of face sizes (`metrics_by_size`).

    Raises:
        FileExistsError: if there is such a file; it is left as it is.
    """
    sections = [
        "# Face mask classifier: report of a run",
        _results(metrics),
        *(f"![{PurePosixPath(name).stem}]({quote(name)})" for name in pictures),
        "## Per class",
        _per_class(metrics),
        "## Confusion",
        "Rows: the true class. Columns: what the model took it for.",
        _confusion(metrics),
    ]
    if by_size:
        sections += ["## By size of the face", _by_size(by_size)]
    sections += ["## Training"]
    if history:
        sections += [_course(history)]
    sections += [_table(["setting", "value"], ([k, _value(v)] for k, v in config.items()), "ll")]
    sections += ["## Data", textwrap.indent(data_summary.strip("\n"), "    ")]
    write_file(Path(path), ("\n\n".join(sections) + "\n").encode())


def _results(metrics: Metrics) -> str:
    rows = [
        ["macro-F1", f"**{metrics.macro_f1:.3f}**"],
        ["balanced accuracy", f"**{metrics.balanced_accuracy:.3f}**"],
        ["recall of `improper`", f"**{recall_of_improper(metrics)}**"],
        ["accuracy", f"**{metrics.accuracy:.3f}**"],
        [
            "accuracy of always answering the most frequent class",
            f"{metrics.baseline_accuracy:.3f}",
        ],
    ]
    return _table([f"{metrics.n} validation faces", ""], rows, "ll")


def _per_class(metrics: Metrics) -> str:
    rows = (
        [f"`{label}`", f"{of.precision:.3f}", f"{of.recall:.3f}", f"{of.f1:.3f}", f"{of.n}"]
        for label, of in metrics.per_class.items()
    )
    return _table(["class", "precision", "recall", "F1", "faces"], rows, "lrrrr")


def _confusion(metrics: Metrics) -> str:
    rows = (
        [f"**`{label}`**", *(str(count) for count in row)]
        for label, row in zip(LABELS, metrics.confusion, strict=True)
    )
    return _table(["", *(f"`{label}`" for label in LABELS)], rows, "l" + "r" * len(LABELS))


def _by_size(by_size: Mapping[str, Metrics]) -> str:
    header = ["face", "faces", "accuracy", "baseline", "balanced accuracy", "macro-F1"]
    rows = (
        [
            name,
            f"{of.n}",
            f"{of.accuracy:.3f}",
            f"{of.baseline_accuracy:.3f}",
            f"{of.balanced_accuracy:.3f}",
            f"{of.macro_f1:.3f}",
            recall_of_improper(of),
        ]
        for name, of in by_size.items()
    )
    return _table([*header, "recall of `improper`"], rows, "lrrrrrr")


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
    return _table(header, rows, "lrr")


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """A Markdown table; `alignment` has an l or r for each column."""
    rules = [{"l": ":---", "r": "---:"}[side] for side in alignment]
    lines = [header, rules, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
