import re
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.evaluation.judging import Judgement, judge
from tinygrad_mask.masks.classifier.report.run_report import write_report


@pytest.fixture
def judgement() -> Judgement:
    """16 proper, 4 improper and 5 bare faces, in 5 photographs; 3 of them are answered wrong."""
    labels = np.repeat([0, 1, 2], [16, 4, 5])
    answers = np.array([0] * 15 + [1, 1, 0, 0, 1] + [2] * 5)
    sizes = np.full(25, 40.0)
    sizes[0] = 9
    sizes[[15, 16]] = 20
    photograph = np.arange(25) % 5
    return judge(
        labels,
        4.0 * np.eye(3)[answers],
        photograph=photograph,
        sizes=sizes,
        parts=photograph % 2,
    )


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


def test_says_what_came_out(tmp_path: Path, judgement: Judgement) -> None:
    path = tmp_path / "report.md"
    write_report(
        path,
        judgement=judgement,
        history=[epoch(1, 0.5), epoch(2, 0.75), epoch(3, float("nan")), epoch(4, 0.6)],
        config={"model": "cnn", "lr": 0.01, "data": ["a|b"], "resume": None, "out": Path("x")},
        data_summary="photographs  853\n  dropped 3 (`small`)\n",
        pictures=["curves.png", "my mistakes.png"],
    )
    text = path.read_text(encoding="utf-8")
    table = rows(text)
    metrics = judgement.metrics

    def interval(name: str) -> str:
        low, high = judgement.intervals[name]
        return f"{low:.3f} to {high:.3f}"

    low, high = judgement.intervals_by_size["16-24 px"]["macro_f1"]
    of_two = [f"0.333, {low:.3f} to {high:.3f}", "1.000 (1 of 1), 1.000 to 1.000"]

    def alarm(row: int) -> tuple[str, str, str]:
        of = judgement.alarms["improper"][row]
        threshold = f"{of.threshold:.3f}" if np.isfinite(of.threshold) else "none"
        caught = f"{of.caught} of 4 ({of.caught / 4:.0%})"
        return threshold, caught, f"{of.false_alarms} of 21"

    for row in (
        ["25 validation faces", "", "95 % interval"],
        ["macro-F1", f"**{metrics.macro_f1:.3f}**", interval("macro_f1")],
        [
            "balanced accuracy",
            f"**{metrics.balanced_accuracy:.3f}**",
            interval("balanced_accuracy"),
        ],
        ["recall of `improper`", "**0.500 (2 of 4)**", interval("improper_recall")],
        ["accuracy", "**0.880**", interval("accuracy")],
        ["accuracy of always answering the most frequent class", "0.640", ""],
        ["16-24 px", "2", "0.500", "0.500", "0.500", *of_two],
        [
            *("< 16 px", "1", "1.000", "1.000", "1.000"),
            "1.000, 1.000 to 1.000",
            "none in this set",
        ],
        ["1%", *alarm(0)],
        ["5%", *alarm(2)],
        [
            "`improper`",
            f"0.667, {interval('improper_precision')}",
            f"0.500, {interval('improper_recall')}",
            f"0.571, {interval('improper_f1')}",
            "4",
        ],
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
    assert f"a temperature of {judgement.calibration.temperature:.3f}" in text
    assert f"error is {judgement.calibration.ece_before:.3f} without it" in text


def test_every_table_is_rectangular(tmp_path: Path, judgement: Judgement) -> None:
    path = tmp_path / "report.md"
    write_report(path, judgement=judgement, history=[], config={}, data_summary="-")
    text = path.read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(row) for row in rows(block)}) == 1


def test_never_overwrites(tmp_path: Path, judgement: Judgement) -> None:
    path = tmp_path / "report.md"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"report\.md exists already"):
        write_report(path, judgement=judgement, history=[], config={}, data_summary="")
    assert path.read_text() == "precious"
