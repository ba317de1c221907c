"""The slides' experiment under its own protocol: faces drawn one by one."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinygrad_mask import cli
from tinygrad_mask.masks.classifier.runs.loading import LoadedData
from tinygrad_mask.masks.classifier.runs.slides_protocol import share_of_known, split_faces
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.masks.runs import terminal

SMALL = ["--data", "synthetic:30", "--image-size", "8", "--protocol", "slides"]


@given(st.integers(5, 500), st.integers(0, 5))
def test_a_fifth_of_the_faces_is_held_back(count, seed):
    train, held_back = split_faces(count, seed)
    assert sorted([*train, *held_back]) == list(range(count))
    assert abs(len(held_back) - count / 5) <= 0.5
    for one, other in zip((train, held_back), split_faces(count, seed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_faces():
    with pytest.raises(UsageError, match="at least 5 faces, got 4"):
        split_faces(4, 0)


def test_share_of_faces_whose_photograph_or_copy_is_trained_on():
    photograph = np.array([0, 0, 1, 2, 3])
    n = len(photograph)
    crops = np.zeros((n, 4, 4, 3), np.uint8)
    faces = FaceSet(
        (None,) * 4, crops, photograph * 0, photograph, photograph * 0, np.ones(n, np.float32),
        np.zeros((0, 4), np.uint64),
    )  # fmt: skip
    data = LoadedData(faces, np.array([0, 1, 2, 1]), np.ones(4, bool), DataIssues())
    # Face 1 shares its photograph, face 4 has a copy on the other side, face 3 has neither.
    assert share_of_known(data, np.array([0, 2]), np.array([1, 3, 4])) == 2 / 3


def test_both_networks_on_one_split(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", *SMALL, "--model", "mlp", "--epochs", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "slides: cnn, 20 epochs" in printed
    assert "today: mlp, 2 epochs" in printed
    figures = json.loads((out / "metrics.json").read_text())
    assert list(figures) == ["slides", "today"]
    assert figures["slides"]["n"] == figures["today"]["n"]
    assert figures["slides"]["baseline_accuracy"] == figures["today"]["baseline_accuracy"]
    report = (out / "report.md").read_text()
    for text in (
        "| on the slides, their data | 1.00 | 0.8462 |",
        "| their network, here, 20 epochs | ",
        f" | {figures['slides']['accuracy']:.4f} | {figures['slides']['balanced_accuracy']:.3f} |",
        "the photograph, or a copy of it, was trained on too",
    ):
        assert text in report
        assert text in printed
    assert np.asarray(Image.open(out / "curves.png").convert("L")).std() > 1
    assert json.loads((out / "config.json").read_text())["protocol"] == "slides"
    assert cli.main(["train", "--resume", str(out)]) == 2
    assert "the slides' protocol has to begin anew" in capsys.readouterr().err


def test_ctrl_c_ends_in_one_line(tmp_path, monkeypatch, capsys):
    @contextmanager
    def pressed():
        yield lambda: True

    monkeypatch.setattr(terminal, "stopping", pressed)
    assert cli.main(["train", *SMALL, "--out", str(tmp_path / "a")]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "stopped; the slides' protocol has to begin anew\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--validation", "0.3"],
        ["--cross-validate", "3"],
        ["--extra", "synthetic:5"],
        ["--initial", "pretrained"],
    ],
)
def test_says_by_itself_what_is_held_back_and_begun_with(arguments, tmp_path, capsys):
    assert cli.main(["train", *SMALL, *arguments, "--out", str(tmp_path / "a")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert arguments[0] in error
    assert not (tmp_path / "a").exists()
    assert error.count("\n") == 1
