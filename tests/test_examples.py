"""The examples run, print what they compute, and do what the command line does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from devices import needs_emulator

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
    ("script", "expected"),
    [
        ("01_tensors_and_gradients.py", ["dy/dx = 2 x + 2 = 8.0", "step 60: loss  0.00000"]),
        ("02_perceptron_by_hand.py", ["largest difference", "100% right"]),
        ("03_mlp_digits.py", ["Linear(64 -> 64)", "epoch 15: loss 0.0", "of 397 wrong"]),
        ("04_cnn_digits.py", ["epoch 10: loss 0.0", "loaded into a new network: 9"]),
        ("05_custom_function.py", ["inf]", "fine", "wrong: entry (", "x + 1.1"]),
    ],
)
def test_examples_run_and_print_what_they_do(script, expected):
    printed = run_example(script)
    for text in expected:
        assert text in printed


@needs_emulator
def test_a_cuda_kernel_and_its_planted_bugs():
    printed = run_example("06_custom_cuda_kernel.py")
    kernel, wanted, broken = (
        np.array(numbers.split(), np.float64)
        for numbers in re.findall(r"(?:kernel|NumPy): +\[(.*)\]", printed)
    )
    np.testing.assert_allclose([kernel, broken], [wanted, wanted], rtol=1e-6)
    assert "nothing is wrong" in printed
    assert re.search(r"log_cosh\.cu:14: race in log_cosh_rows.* at log_cosh\.cu:11: ", printed)
    assert re.search(r"log_cosh\.cu:8: out of bounds in .* byte 12000 of x \(argument 0", printed)
    assert "largest difference from tanh(x): 0.0\n" in printed


def test_numbers_by_hand_and_by_the_engine_are_the_same():
    printed = run_example("02_perceptron_by_hand.py")
    differences = re.findall(r"largest difference: (\S+)", printed)
    assert len(differences) == 4
    assert max(map(float, differences)) < 1e-14


@pytest.mark.parametrize("script", ["03_mlp_digits.py", "04_cnn_digits.py"])
def test_what_is_missing_is_said_in_one_line(script, tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ImportError('no module of this name')")
    result = subprocess.run(
        [sys.executable, EXAMPLES / script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 1
    expected = f"{script} needs scikit-learn for its data: pip install scikit-learn\n"
    assert result.stderr == expected


def test_the_table_lists_the_examples_in_order():
    table = (EXAMPLES / "README.md").read_text()
    listed = re.findall(r"^\| \[(\w+\.py)\]\((\w+\.py)\)", table, re.MULTILINE)
    assert [name for name, _ in listed] == [link for _, link in listed]
    assert [name for name, _ in listed] == sorted(path.name for path in EXAMPLES.glob("*.py"))


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
