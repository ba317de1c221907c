"""The examples run, print what they compute, and do what the command line does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask import cli, serialization

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ["--data", "synthetic:24", "--image-size", "8", "--epochs", "2"]

TRAINING = (
    "proper  improper  none",
    "Epoch 2/2 - ",
    "val_loss: ",
    "always the most frequent class",
    "balanced accuracy",
)


def run_example(script, *arguments):
    """Run an example and return what it prints."""
    command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("script", "kind", "expected"),
    [
        ("train_mask_cnn.py", "cnn", (*TRAINING, "Conv2d(3 -> 32, 3x3, padding=same)")),
        ("train_mask_mlp.py", "mlp", (*TRAINING, "Linear(192 -> 256, no bias)")),
    ],
)
def test_training_examples_give_the_bits_of_the_command(script, kind, expected, tmp_path, capsys):
    printed = run_example(script, *SMALL, "--out", tmp_path / "example")
    for text in expected:
        assert text in printed
    arguments = ["train", *SMALL, "--model", kind, "--out", str(tmp_path / "command")]
    assert cli.main(arguments) == 0
    models = [
        serialization.load(tmp_path / name / "model.safetensors") for name in ("example", "command")
    ]
    assert models[0][1] == models[1][1]
    for name, array in models[1][0].items():
        np.testing.assert_array_equal(models[0][0][name], array, err_msg=name)


@pytest.mark.parametrize("option", [["--cross-validate", "2"], ["--protocol", "slides"]])
def test_training_examples_take_the_options_of_the_command(option, tmp_path):
    printed = run_example("train_mask_mlp.py", *SMALL, *option, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "report.md").exists()
    assert str(tmp_path / "run") in printed


def test_an_example_resumes_its_own_network(tmp_path, monkeypatch):
    """And not the package's: the weights of one with another width would not fit."""
    text = (EXAMPLES / "train_mask_mlp.py").read_text().replace("HIDDEN = 256", "HIDDEN = 20")
    script = tmp_path / "wider.py"
    script.write_text(text)
    printed = run_example(script, *SMALL, "--out", tmp_path / "run")
    assert "Linear(192 -> 20, no bias)" in printed
    for result in ("report.md", "metrics.json"):
        (tmp_path / "run" / result).unlink()
    again = run_example(script, "--resume", tmp_path / "run")
    assert "Linear(192 -> 20, no bias)" in again
    assert (tmp_path / "run" / "report.md").exists()
