"""`train-detector` and `evaluate-detector` from end to end, on a handful of drawn photographs."""

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from boxed_photographs import boxed_photographs, has_boxes, write_voc
from PIL import Image

from tinygrad_mask import cli, serialization
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.detector.network import detector as detector_module
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.duplicates import perceptual_hash
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.runs import terminal

STEPS = ["--batch-size", "2", "--image-size", "160", "--threads", "1"]
SMALL = ["--data", "synthetic:16", "--steps", "4", "--epochs", "2", *STEPS]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(["train-detector", *SMALL, "--out", str(folder)]) == 0
    return folder


def same_model(one, other):
    first, second = (serialization.load(folder / "model.safetensors") for folder in (one, other))
    for name, array in first[0].items():
        np.testing.assert_array_equal(array, second[0][name], err_msg=name)
    assert first[1] == second[1]


def figures(folder):
    return json.loads((folder / "metrics.json").read_text())["figures"]


class TestTraining:
    def test_the_run_folder(self, run):
        assert sorted(os.listdir(run)) == [
            "checkpoint.safetensors",
            "config.json",
            "curves.png",
            "false_alarms.png",
            "history.csv",
            "left_out.csv",  # close-ups
            "metrics.json",
            "missed.png",
            "model.safetensors",
            "precision_recall.png",
            "report.md",
            "split.json",
        ]
        rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert {"loss", "heat", "box", "label", "val_any_face", "val_mean"} < set(rows[0])
        assert any(float(row["box"]) > 0 for row in rows)
        config = json.loads((run / "config.json").read_text())
        assert config["data"] == ["synthetic:16"]
        assert config["threads"] == 1
        assert config["recipe"]["steps_per_epoch"] == 2
        assert config["recipe"]["augmentation"]["size"] == 160
        report = (run / "report.md").read_text()
        for path in run.glob("*.png"):
            assert np.asarray(Image.open(path).convert("L")).std() > 1
            assert f"({path.name})" in report
        assert "| recipe.batch_size | 2 |" in report
        assert set(figures(run)) > {"any face", "mean", *LABELS, "recall at one false alarm"}

    def test_the_detector_remembers_what_it_was_trained_on_and_nothing_else(self, run):
        split = json.loads((run / "split.json").read_text())
        photographs = {p.name: p for p in synthetic_photographs(16, 0)}
        names = split["train"]["synthetic"]
        hashes = [perceptual_hash(photographs[name].open()) for name in sorted(names, key=_number)]
        assert (Detector.load(run).trained_on == np.array(hashes)).all()
        boxed = sum(has_boxes(photograph) for photograph in photographs.values())
        assert 8 < len(names) + len(split["validation"]["synthetic"]) == boxed

    def test_it_says_what_to_type_next(self, tmp_path, capsys):
        assert cli.main(["train-detector", *SMALL, "--out", str(tmp_path / "a")]) == 0
        output, error = capsys.readouterr()
        assert "Epoch 2/2 - " in output
        assert "\nwarning: the faces held back include " in output
        worth, following = error.splitlines()[-2:]
        assert worth.startswith("trained on drawn faces")
        assert following == "next: tinygrad-mask train-detector --data FOLDER_OF_PHOTOGRAPHS"

    def test_the_same_photograph_at_two_sizes_is_on_one_side_and_judged_once(self, tmp_path):
        photographs = boxed_photographs(12, 3)
        plain = write_voc(tmp_path / "plain", photographs)
        large = write_voc(tmp_path / "large", photographs, enlarged=2)
        arguments = ["--data", str(plain), "--data", str(large), "--steps", "1", *STEPS]
        assert cli.main(["train-detector", *arguments, "--out", str(tmp_path / "run")]) == 0
        split = json.loads((tmp_path / "run" / "split.json").read_text())
        for side in ("train", "validation"):
            assert sorted(split[side]["plain"]) == sorted(split[side]["large"])
        content = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert content["photographs"] == len(split["validation"]["plain"])

    def test_initial_weights_that_have_seen_what_is_judged_are_warned_of(
        self, run, tmp_path, capsys
    ):
        detector = Detector.load(run)
        seen = np.array([perceptual_hash(p.open()) for p in boxed_photographs(8, 4)])
        parts = (detector.model, detector.architecture, detector.settings)
        Detector(*parts, trained_on=seen).save(tmp_path / "all.safetensors")
        Detector(*parts).save(tmp_path / "unknown.safetensors")
        voc = write_voc(tmp_path / "voc", boxed_photographs(8, 4))
        for name, message in (
            ("all", r"all.safetensors was trained on (\d) of the \1 photographs judged: the fig"),
            ("unknown", "unknown.safetensors does not say what it was trained on"),
        ):
            arguments = ["--data", str(voc), "--steps", "1", *STEPS, "--out", str(tmp_path / name)]
            arguments += ["--initial", str(tmp_path / f"{name}.safetensors")]
            assert cli.main(["train-detector", *arguments]) == 0
            assert re.search(f"warning: .*{message}", capsys.readouterr().out)
        assert Detector.load(tmp_path / "unknown").trained_on is None

    def test_initial_weights_are_taken_over_with_what_they_know(self, run, tmp_path):
        arguments = ["--data", "synthetic:8", "--seed", "4", "--steps", "1", *STEPS]
        # With a rate of nearly 0 the weights stay what they were.
        arguments += ["--lr", "1e-12", "--weight-decay", "0", "--weight-average", "0"]
        out = str(tmp_path / "a")
        assert cli.main(["train-detector", *arguments, "--initial", str(run), "--out", out]) == 0
        first, second = Detector.load(run), Detector.load(tmp_path / "a")
        for name, weight in first.model.named_parameters():
            after = dict(second.model.named_parameters())[name]
            np.testing.assert_allclose(after.numpy(), weight.numpy(), atol=1e-8)
        assert len(second.trained_on) > len(first.trained_on)


def _number(name):
    return int(name.rpartition("-")[2])


class TestResuming:
    def test_an_interrupted_run_ends_with_the_bits_of_an_unbroken_one(
        self, run, tmp_path, monkeypatch, capsys
    ):
        @contextmanager
        def pressed():
            asked = iter([False, False, False, True])  # in the second epoch
            yield lambda: next(asked)

        monkeypatch.setattr(terminal, "stopping", pressed)
        broken = tmp_path / "broken"
        assert cli.main(["train-detector", *SMALL, "--out", str(broken)]) == cli.INTERRUPTED
        error = capsys.readouterr().err
        assert f"stopped in epoch 2, and saved; go on with --resume {broken}" in error
        assert not (broken / "report.md").exists()
        monkeypatch.undo()
        assert cli.main(["train-detector", "--resume", str(broken)]) == 0
        same_model(run, broken)
        assert figures(run) == figures(broken)
        histories = [
            [
                {k: v for k, v in row.items() if k not in ("seconds", "waited")}
                for row in csv.DictReader((folder / "history.csv").read_text().splitlines())
            ]
            for folder in (run, broken)
        ]
        assert histories[0] == histories[1]

    def test_ctrl_c_saves_and_says_how_to_go_on(self, tmp_path):
        arguments = [*SMALL[:2], "--steps", "60", "--epochs", "30", *STEPS]
        arguments += ["--out", str(tmp_path / "a")]
        process = subprocess.Popen(
            [sys.executable, "-m", "tinygrad_mask", "train-detector", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (tmp_path / "a" / "history.csv").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130, error
        assert f"go on with --resume {tmp_path / 'a'}" in error
        assert "Traceback" not in error

    def test_a_finished_run_is_trained_further_and_not_resumed(self, run, tmp_path, capsys):
        folder = tmp_path / "run"
        folder.mkdir()
        for path in run.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        assert cli.main(["train-detector", "--resume", str(folder)]) == 2
        assert "this run is finished; --epochs N, with N above 2" in capsys.readouterr().err
        assert cli.main(["train-detector", "--resume", str(folder), "--epochs", "3"]) == 0
        assert "Epoch 3/3" in capsys.readouterr().out
        assert len((folder / "history.csv").read_text().splitlines()) == 4
        assert "| recipe.epochs | 3 |" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "missing"], "missing: there is no such folder"),
        (["--data", "synthetic:0"], "expected synthetic:COUNT with a whole number from 1 on"),
        (["--steps", "2", "--epochs", "3"], "--steps: expected at least one per epoch, got 2"),
        (["--epochs", "0"], "error: --epochs: expected at least 1, got 0"),
        (["--steps", "0"], "--steps: expected at least one per epoch, got 0 for 1"),
        (["--batch-size", "0"], "error: --batch-size: expected at least 1, got 0"),
        (["--lr", "0"], "error: --lr: expected a number above 0, got 0"),
        (["--lr", "nan"], "lr: expected a number above 0, got nan"),
        (
            ["--image-size", "100"],
            "error: --image-size: expected a multiple of 32 from",
        ),
        (["--mosaic", "2"], "error: --mosaic: expected a share from 0 to 1, got 2"),
        (["--threads", "0"], "--threads: expected 1 to "),
        (["--seed", "-1"], "seed: expected a number from 0 on, got -1"),
        (["--validation", "1"], "the share for validation must lie between 0 and 1"),
        (["--initial", "missing"], "missing: cannot be read as a model"),
        (["--classes", "x=y"], "y"),
        (["--resume", "missing"], "missing: expected the folder of a run"),
        (["--resume", "missing", "--lr", "1"], "takes no others, got --lr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_training_refuses_bad_input_in_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "--resume" not in arguments:
        arguments = ["--data", "synthetic:4", *arguments, "--out", "out"]
    assert cli.main(["train-detector", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(run, capsys):
    before = (run / "model.safetensors").read_bytes()
    assert cli.main(["train-detector", *SMALL, "--out", str(run)]) == 2
    assert "nothing in it is overwritten" in capsys.readouterr().err
    arguments = ["--data", "synthetic:4", "--out", str(run)]
    assert cli.main(["evaluate-detector", str(run), *arguments]) == 2
    assert "nothing in it is overwritten" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == before


def test_a_run_of_another_model_is_not_resumed(tmp_path, capsys):
    arguments = ["--data", "synthetic:24", "--image-size", "8", "--epochs", "1"]
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    assert cli.main(["train-detector", "--resume", str(tmp_path / "a")]) == 2
    assert "config.json: not the settings of a detector's run" in capsys.readouterr().err


def test_divergence_ends_in_one_line(tmp_path, capsys):
    with np.errstate(all="ignore"):
        code = cli.main(["train-detector", *SMALL, "--lr", "1e10", "--out", str(tmp_path / "a")])
    assert code == 1
    assert "the learning rate of 1e+10 is too high: try --lr 1e+09" in capsys.readouterr().err


class TestEvaluation:
    def test_only_the_photographs_held_back_are_judged(self, run, capsys):
        arguments = [str(run), "--data", "synthetic:16", "--seed", "0", "--json"]
        assert cli.main(["evaluate-detector", *arguments]) == 0
        output, error = capsys.readouterr()
        content = json.loads(output)
        split = json.loads((run / "split.json").read_text())
        assert content["photographs"] == len(split["validation"]["synthetic"])
        assert content["trained_on"] == len(split["train"]["synthetic"])
        assert content["trained_on_included"] is False
        assert content["figures"] == figures(run)
        assert "photographs: left out; --include-training judges all" in error

    def test_those_trained_on_are_judged_if_asked_for_and_it_says_so(self, run, capsys):
        arguments = ["--data", "synthetic:16", "--seed", "0", "--json", "--include-training"]
        assert cli.main(["evaluate-detector", str(run), *arguments]) == 0
        output, error = capsys.readouterr()
        boxed = sum(has_boxes(photograph) for photograph in synthetic_photographs(16, 0))
        assert json.loads(output)["photographs"] == boxed
        assert json.loads(output)["trained_on_included"] is True
        assert f"of the {boxed} photographs: judged too" in error

    def test_a_model_that_has_seen_all_is_refused(self, run, tmp_path, capsys):
        detector = Detector.load(run)
        seen = np.array([perceptual_hash(p.open()) for p in synthetic_photographs(3, 8)])
        Detector(detector.model, detector.architecture, detector.settings, trained_on=seen).save(
            tmp_path / "d.safetensors"
        )
        arguments = [str(tmp_path / "d.safetensors"), "--data", "synthetic:3", "--seed", "8"]
        assert cli.main(["evaluate-detector", *arguments]) == 2
        assert "was trained on all 3 photographs; name other data" in capsys.readouterr().err

    def test_a_model_that_does_not_say_what_it_saw(self, run, tmp_path, capsys, monkeypatch):
        detector = Detector.load(run)
        Detector(detector.model, detector.architecture, detector.settings).save(
            tmp_path / "d.safetensors"
        )
        monkeypatch.setattr(detector_module, "PRETRAINED_FILE", tmp_path / "d.safetensors")
        arguments = ["pretrained", "--data", "synthetic:2", "--json"]
        assert cli.main(["evaluate-detector", *arguments]) == 0
        output, error = capsys.readouterr()
        assert "pretrained does not say what it was trained on" in error
        assert json.loads(output)["trained_on"] is None

    def test_a_report_with_pictures(self, run, tmp_path, capsys):
        out = tmp_path / "out"
        arguments = [str(run), "--data", "synthetic:3", "--out", str(out)]
        assert cli.main(["evaluate-detector", *arguments]) == 0
        output, error = capsys.readouterr()
        assert "any face" in output
        assert "95 % interval" in output
        assert error.splitlines()[-1] == f"{out}: report and pictures"
        names = ["false_alarms.png", "metrics.json", "missed.png", "precision_recall.png"]
        assert sorted(os.listdir(out)) == [*names, "report.md"]
        report = (out / "report.md").read_text()
        for path in out.glob("*.png"):
            assert np.asarray(Image.open(path).convert("L")).std() > 1
            assert f"({path.name})" in report
        assert '| data | ["synthetic:3"] |' in report

    def test_the_classifier_of_the_second_stage_counts_as_trained_too(self, run, tmp_path, capsys):
        classifier = Classifier.load("pretrained")
        photographs = synthetic_photographs(3, 8)
        classifier.trained_on = np.array([perceptual_hash(photographs[0].open())])
        classifier.save(tmp_path / "c.safetensors")
        arguments = [str(run), "--data", "synthetic:3", "--seed", "8", "--json"]
        arguments += ["--classifier", str(tmp_path / "c.safetensors")]
        assert cli.main(["evaluate-detector", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["photographs"] == 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["missing", "--data", "synthetic:2"], "missing: cannot be read as a model"),
            (["RUN", "--data", "missing"], "missing: there is no such folder"),
            (["RUN", "--data", "synthetic:2", "--seed", "-1"], "seed: expected a number from 0"),
            (["RUN", "--data", "synthetic:2", "--classifier", "no"], "no: cannot be read as a mo"),
            (["RUN", "--data", "synthetic:2", "--classifier", "RUN"], "classifier 1"),
            (["RUN", "--data", "synthetic:2", "--device", "cuda"], "cuda"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_bad_input_ends_in_one_line(self, run, arguments, message, capsys):
        arguments = [str(run) if word == "RUN" else word for word in arguments]
        assert cli.main(["evaluate-detector", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1


def test_without_pycocotools_it_says_what_to_install(run, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pycocotools" else find(name)
    )
    for arguments in (
        ["evaluate-detector", str(run), "--data", "synthetic:2"],
        ["train-detector", *SMALL],
    ):
        assert cli.main(arguments) == 2
        assert "pip install 'tinygrad_mask[coco]'" in capsys.readouterr().err
