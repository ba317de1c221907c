"""Commands on several ranks: one run folder, one report, one voice."""

import csv
import re
import signal
import sys
import time

import numpy as np
import pytest
from ranks import finish, start

from tinygrad_mask import serialization

CLASSIFIER = [
    "train", "--data", "synthetic:24", "--model", "mlp", "--image-size", "16", "--batch-size", "16"
]  # fmt: skip
DETECTOR = [
    "train-detector", "--data", "synthetic:8", "--steps", "4", "--epochs", "2", "--batch-size", "4",
    "--image-size", "64",
]  # fmt: skip


def command(ranks, *arguments, **variables):
    return finish(start(ranks, [sys.executable, "-m", "tinygrad_mask", *arguments], **variables))


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("arguments", [[*CLASSIFIER, "--epochs", "2"], DETECTOR])
def test_training_leaves_one_run_and_speaks_once(tmp_path, arguments):
    out = tmp_path / "run"
    done = command(2, *arguments, "--out", out, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Epoch 1/2") == done.stdout.count("Epoch 2/2") == 1
    assert len(history(out)) == 2
    assert (out / "report.md").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # no scratch is left


def test_a_run_of_two_ranks_is_resumed_with_one_and_three(tmp_path):
    out = tmp_path / "run"
    for ranks, epochs in ((2, 1), (1, 2), (3, 3)):
        how = ["train", "--resume", out] if epochs > 1 else [*CLASSIFIER, "--out", out]
        done = command(ranks, *how, "--epochs", str(epochs))
        assert done.returncode == 0, done.stderr
        assert len(history(out)) == epochs
    losses = [float(row["loss"]) for row in history(out)]
    assert np.isfinite(losses).all()


def test_ctrl_c_saves_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    process = start(
        2, [sys.executable, "-m", "tinygrad_mask", *CLASSIFIER, "--epochs", "100000", "--out", out]
    )
    end = time.monotonic() + 40
    while not (out / "history.csv").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    done = finish(process)
    assert time.monotonic() - began < 10
    assert done.returncode != 0  # the launcher makes of 130 what it likes
    said = [line for line in done.stderr.splitlines() if "go on with --resume" in line]
    assert len(said) == 1
    assert str(out) in said[0]
    serialization.load(out / "checkpoint.safetensors")


def test_errors_are_said_once(tmp_path):
    (tmp_path / "something").touch()
    done = command(2, *CLASSIFIER, "--epochs", "1", "--out", tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("expected a folder that does not exist or is empty") == 1
    assert re.search(r"^rank 0 of 2 \(.+\): error: ", done.stderr, re.M)
    done = command(2, "train", "--nonsense")
    assert done.returncode == 2
    assert done.stderr.count("unrecognized arguments") == 1


@pytest.mark.parametrize("arguments", [["kernels"], [*CLASSIFIER, "--cross-validate", "2"]])
def test_commands_that_work_alone_refuse_ranks(arguments):
    done = command(2, *arguments)
    assert done.returncode != 0
    assert done.stderr.count("expected one process, got 2 ranks; start it without mpiexec") == 1


def test_a_batch_must_have_an_example_for_each_rank(tmp_path):
    done = command(3, *CLASSIFIER[:-1], "2", "--epochs", "1", "--out", tmp_path / "run")
    assert done.returncode != 0
    assert done.stderr.count("--batch-size: expected at least one face per rank") == 1
