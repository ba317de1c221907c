"""A short training run on Larxel's photographs, and its evaluation on every face of them."""

import json
from pathlib import Path

import pytest

from tinygrad_mask import cli


@pytest.mark.usefixtures("undrawn")
def test_trains_and_evaluates_on_larxel(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(photographs / "larxel")
    run = tmp_path / "run"
    small = ["--image-size", "16", "--epochs", "3"]
    assert cli.main(["train", "--data", data, *small, "--out", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy"] > metrics["baseline_accuracy"]
    assert metrics["balanced_accuracy"] > 0.5  # a third is what no learning gives

    capsys.readouterr()
    every = ["--include-training", "--json"]
    assert cli.main(["evaluate", str(run), "--data", data, *every]) == 0
    metrics = json.loads(capsys.readouterr().out)
    counts = {label: of["n"] for label, of in metrics["per_class"].items()}
    assert counts == {"proper": 2634, "improper": 103, "none": 588}
