import re
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.metrics import Metrics, compute_metrics, metrics_by_size
from tinygrad_mask.masks.classifier.report import write_report


@pytest.fixture
def metrics() -> Metrics:
    return compute_metrics(np.repeat([0, 1, 2], [16, 4, 5]), [0] * 15 + [1, 1, 0, 0, 1] + [2] * 5)


def epoch(number: int, balanced: float) -> dict[str, float]:
    return {
        "epoch": number,
        "loss": 1 / number,
        "accuracy": 0.9,
        "val_loss": 0.31 + number,
        "val_accuracy": 0.8,
        "val_balanced_accuracy": balanced,
        "lr": 0.01,
    }


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r" (?<!\\)\| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]


def test_says_what_came_out(tmp_path: Path, metrics: Metrics) -> None:
    path = tmp_path / "report.md"
    write_report(
        path,
        metrics=metrics,
        history=[epoch(1, 0.5), epoch(2, 0.75), epoch(3, float("nan")), epoch(4, 0.6)],
        config={"model": "cnn", "lr": 0.01, "data": ["a|b"], "resume": None, "out": Path("x")},
        data_summary="photographs  853\n  dropped 3 (`small`)\n",
        pictures=["curves.png", "my mistakes.png"],
    )
    text = path.read_text(encoding="utf-8")
    table = rows(text)
    for row in (
        ["25 validation faces", ""],
        ["macro-F1", f"**{metrics.macro_f1:.3f}**"],
        ["balanced accuracy", f"**{metrics.balanced_accuracy:.3f}**"],
        ["recall of `improper`", "**0.500 (2 of 4)**"],
        ["accuracy", "**0.880**"],
        ["accuracy of always answering the most frequent class", "0.640"],
        ["`improper`", "0.667", "0.500", "0.571", "4"],
        ["**`proper`**", "15", "1", "0"],
        ["", "epoch 2, the best balanced", "epoch 4, the last"],
        ["validation loss", "2.3100", "4.3100"],
        ["model", "cnn"],
        ["lr", "0.01"],
        ["data", '["a\\|b"]'],
        ["resume", "null"],
        ["out", '"x"'],
    ):
        assert row in table
    assert "![curves](curves.png)" in text
    assert "![my mistakes](my%20mistakes.png)" in text
    assert "\n\n    photographs  853\n      dropped 3 (`small`)\n" in text
    assert "size of the face" not in text


def test_every_table_is_rectangular(tmp_path: Path, metrics: Metrics) -> None:
    path = tmp_path / "report.md"
    by_size = metrics_by_size([0, 1, 1, 2], [0, 1, 0, 2], [9, 20, 22, 99])
    write_report(path, metrics=metrics, history=[], config={}, data_summary="-", by_size=by_size)
    text = path.read_text(encoding="utf-8")
    assert ["16-24 px", "2", "0.500", "1.000", "0.500", "0.333", "0.500 (1 of 2)"] in rows(text)
    assert ["< 16 px", "1", "1.000", "1.000", "1.000", "1.000", "none in this set"] in rows(text)
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(row) for row in rows(block)}) == 1


def test_never_overwrites(tmp_path: Path, metrics: Metrics) -> None:
    path = tmp_path / "report.md"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"report\.md exists already"):
        write_report(path, metrics=metrics, history=[], config={}, data_summary="")
    assert path.read_text() == "precious"
