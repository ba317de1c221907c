"""The commands from end to end, on a handful of drawn photographs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from boxed_photographs import boxed_photographs
from PIL import Image

from tinygrad_mask import cli, serialization
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.duplicates import copies_of
from tinygrad_mask.masks.labels import LABELS

EXAMPLES = Path(__file__).parents[4] / "examples"
SMALL = ["--data", "synthetic:24", "--image-size", "8", "--epochs", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(["train", *SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """Drawn photographs as a folder of Pascal VOC."""
    folder = tmp_path_factory.mktemp("voc")
    names = {"proper": "with_mask", "improper": "mask_weared_incorrect", "none": "without_mask"}
    for part in ("images", "annotations"):
        (folder / part).mkdir()
    for number, photograph in enumerate(boxed_photographs(20, 9)):
        photograph.open().save(folder / "images" / f"{number}.png")
        objects = "".join(
            f"<object><name>{names[face.label]}</name><bndbox>"
            + "".join(
                f"<{tag}>{value:.0f}</{tag}>"
                for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), face.box, strict=True)
            )
            + "</bndbox></object>"
            for face in photograph.faces
        )
        xml = folder / "annotations" / f"{number}.xml"
        xml.write_text(f"<annotation>{objects}</annotation>")
    return folder


class TestTrain:
    def test_the_run_folder(self, run):
        assert sorted(os.listdir(run)) == [
            "checkpoint.safetensors",
            "config.json",
            "confusion.png",
            "curves.png",
            "feature_maps.png",
            "history.csv",
            "judgement.json",
            "metrics.json",
            "mistakes.png",
            "model.safetensors",
            "precision_recall.png",
            "reliability.png",
            "report.md",
            "split.json",
        ]
        rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(rows[0])
        config = json.loads((run / "config.json").read_text())
        assert config["data"] == ["synthetic:24"]
        assert config["recipe"]["epochs"] == 2
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["accuracy"] == float(rows[-1]["val_accuracy"])
        report = (run / "report.md").read_text()
        for path in run.glob("*.png"):
            assert np.asarray(Image.open(path).convert("L")).std() > 1
            assert f"({path.name})" in report
        assert f"{metrics['macro_f1']:.3f}" in report
        assert "| recipe.epochs | 2 |" in report
        split = json.loads((run / "split.json").read_text())
        sides = [set(split[side]["synthetic"]) for side in ("train", "validation")]
        assert not sides[0] & sides[1]
        assert len(sides[0] | sides[1]) == 24

    def test_the_temperature_is_fitted_on_validation_faces_and_saved(self, run):
        judgement = json.loads((run / "judgement.json").read_text())
        temperature = judgement["calibration"]["temperature"]
        assert temperature != 1
        assert Classifier.load(run).temperature == temperature
        assert judgement["metrics"] == json.loads((run / "metrics.json").read_text())

    def test_nothing_is_overwritten(self, run, capsys):
        before = (run / "model.safetensors").read_bytes()
        assert cli.main(["train", *SMALL, "--out", str(run)]) == 2
        assert (run / "model.safetensors").read_bytes() == before
        assert "nothing in it is overwritten" in capsys.readouterr().err

    def test_a_finished_run_is_not_resumed(self, run, capsys):
        assert cli.main(["train", "--resume", str(run)]) == 2
        assert "this run is finished" in capsys.readouterr().err

    def test_what_to_type_next_and_what_drawn_faces_are_worth(self, tmp_path, capsys):
        assert cli.main(["train", *SMALL, "--out", str(tmp_path / "a")]) == 0
        worth, train, predict = capsys.readouterr().err.splitlines()[-3:]
        assert worth.startswith("trained on drawn faces: on photographs such a model is worth ")
        assert train == "next: tinygrad-mask train --data FOLDER_OF_PHOTOGRAPHS"
        assert predict.startswith("or:   tinygrad-mask predict PICTURE")

    def test_without_data_the_faces_are_drawn_and_it_says_so(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("tinygrad_mask.masks.datasets.SYNTHETIC_COUNT", 24)
        arguments = ["--image-size", "8", "--epochs", "1", "--out", str(tmp_path / "a")]
        assert cli.main(["train", *arguments]) == 0
        output = capsys.readouterr().out
        assert output.startswith("without --data: training on 1,000 drawn photographs; ")
        assert "synthetic           24" in output

    def test_resume_takes_no_settings(self, run, capsys):
        assert cli.main(["train", "--resume", str(run), "--lr", "1"]) == 2
        assert "takes no others, got --lr" in capsys.readouterr().err

    def test_a_loss_that_is_no_number(self, capsys, tmp_path):
        with np.errstate(all="ignore"):
            assert cli.main(["train", *SMALL, "--lr", "1e9", "--out", str(tmp_path / "a")]) == 1
        assert "the learning rate of 1e+09 is too high" in capsys.readouterr().err

    def test_a_full_disk_ends_in_one_line_and_keeps_the_last_state(
        self, capsys, tmp_path, monkeypatch
    ):
        write, count = Path.write_bytes, []

        def fills_up(self, content):
            count.append(1)
            if len(count) > 5:  # the settings, then three files of the first epoch
                raise OSError(28, "No space left on device", str(self))
            return write(self, content)

        monkeypatch.setattr(Path, "write_bytes", fills_up)
        assert cli.main(["train", *SMALL, "--out", str(tmp_path / "a")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "No space left on device" in error
        assert (
            len(Classifier.load(tmp_path / "a").probabilities(np.zeros((1, 8, 8, 3), np.uint8)))
            == 1
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--data", "nowhere"], "nowhere"),
            (["--epochs", "0"], "epochs: expected at least 1, got 0"),
            (["--image-size", "4"], "at least 8 pixels"),
            (["--validation", "1.5"], "between 0 and 1, got 1.5"),
            (["--device", "cuda"], "'cuda' is not available"),
            (["--classes", "a=b"], "a=b"),
            (["--data", "synthetic:0"], "synthetic:0"),
        ],
    )
    def test_what_cannot_be_used_gets_one_line(self, arguments, message, capsys, tmp_path):
        assert cli.main(["train", "--out", str(tmp_path / "a"), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error
        assert not (tmp_path / "a").exists()


def write_pictures(folder, seeds_of):
    """Fill a folder per class with pictures of noise in coarse blocks: same seed, same picture."""
    for name, seeds in seeds_of.items():
        (folder / name).mkdir(parents=True)
        for number, seed in enumerate(seeds):
            blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
            picture = Image.fromarray(blocks).resize((40 + number, 40 + number))
            picture.save(folder / name / f"{number}.png")


class TestFewPhotographs:
    def test_a_folder_of_copies_is_refused_before_training(self, tmp_path, capsys):
        copies = {"with_mask": [1] * 6, "without_mask": [2] * 6}
        write_pictures(tmp_path / "data", copies)
        arguments = ["--image-size", "8", "--out", str(tmp_path / "run")]
        assert cli.main(["train", "--data", str(tmp_path / "data"), *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == (
            "error: too few photographs to hold any back: of 12, 2 are different and show a face "
            "(copies stay together); expected at least two of a class\n"
        )
        assert not (tmp_path / "run").exists()

    def test_nothing_left_to_learn_from_is_refused_before_training(self, tmp_path, capsys):
        write_pictures(tmp_path / "data", {"with_mask": range(20), "without_mask": [30]})
        arguments = ["--image-size", "8", "--validation", "0.9", "--out", str(tmp_path / "run")]
        assert cli.main(["train", "--data", str(tmp_path / "data"), *arguments]) == 2
        assert "of the photographs that are not held back, all are 'proper'" in (
            capsys.readouterr().err
        )

    @pytest.mark.usefixtures("undrawn")
    def test_few_faces_to_judge_are_warned_of(self, tmp_path, capsys):
        write_pictures(tmp_path / "data", {"with_mask": range(60), "without_mask": range(90, 100)})
        arguments = ["--image-size", "8", "--epochs", "1", "--out", str(tmp_path / "run")]
        assert cli.main(["train", "--data", str(tmp_path / "data"), *arguments]) == 0
        assert (
            "\nwarning: the faces held back include no 'improper', 2 'none': the figures of such a "
            "report mean little;"
        ) in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
class TestExtending:
    def test_a_finished_run_is_trained_further(self, tmp_path, capsys):
        run = tmp_path / "run"
        assert cli.main(["train", *SMALL, "--batch-size", "4", "--out", str(run)]) == 0
        before = (run / "history.csv").read_text().splitlines()
        capsys.readouterr()
        assert cli.main(["train", "--resume", str(run), "--epochs", "4"]) == 0
        assert "Epoch 3/4" in capsys.readouterr().out
        after = (run / "history.csv").read_text().splitlines()
        assert after[: len(before)] == before
        assert len(after) == len(before) + 2
        assert json.loads((run / "config.json").read_text())["recipe"]["epochs"] == 4
        assert "| recipe.epochs | 4 |" in (run / "report.md").read_text()
        # The rates are those of a run of four epochs, from the third on: OneCycleLR in closed form,
        # the last step of each epoch.
        rates = [float(row["lr"]) for row in csv.DictReader(after)]
        lr = json.loads((run / "config.json").read_text())["recipe"]["lr"]
        faces = sum(
            len(p.faces)
            for p in synthetic_photographs(24, 0)
            if p.name in json.loads((run / "split.json").read_text())["train"]["synthetic"]
        )
        steps = -(-faces // 4)
        peak, last = 0.3 * 4 * steps - 1, 4 * steps - 1
        share = (3 * steps - peak) / (last - peak)  # the rate set for the next step
        expected = lr / 25e4 + (lr - lr / 25e4) * (1 + np.cos(np.pi * share)) / 2
        assert rates[2] == pytest.approx(expected)
        assert rates[1] < 1e-4 * lr < 0.1 * lr < rates[2]

    def test_an_interrupted_extension_is_resumed(self, tmp_path):
        run = tmp_path / "run"
        assert cli.main(["train", *SMALL, "--out", str(run)]) == 0
        folder = ClassifierRunFolder(run)
        config = json.loads(folder.config.read_text())
        folder.extend({**config, "recipe": {**config["recipe"], "epochs": 3}})
        assert not folder.is_finished()
        assert cli.main(["train", "--resume", str(run)]) == 0
        assert folder.is_finished()
        assert folder.epochs_done() == 3

    @pytest.mark.parametrize("epochs", ["1", "2", "0"])
    def test_fewer_epochs_are_refused_and_nothing_is_lost(self, run, epochs, capsys):
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        assert cli.main(["train", "--resume", str(run), "--epochs", epochs]) == 2
        assert f"expected more than the 2 that are done in {run}" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_saves_and_resume_ends_where_an_unbroken_run_does(tmp_path, capsys):
    arguments = [*SMALL[:-1], "30"]
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "train_mask_cnn.py", *arguments, "--out", tmp_path / "a"],
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

    assert cli.main(["train", "--resume", str(tmp_path / "a")]) == 0
    assert "Epoch 30/30" in capsys.readouterr().out
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "b")]) == 0
    states = [serialization.load(tmp_path / x / "model.safetensors")[0] for x in "ab"]
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name], states[1][name], err_msg=name)


@pytest.fixture(scope="module")
def own(voc, tmp_path_factory):
    """A run on the data set, and how many of its faces are trained on."""
    folder = tmp_path_factory.mktemp("own") / "run"
    arguments = ["--data", str(voc), "--image-size", "8", "--epochs", "1"]
    assert cli.main(["train", *arguments, "--out", str(folder)]) == 0
    [trained] = json.loads((folder / "split.json").read_text())["train"].values()
    photographs = boxed_photographs(20, 9)
    return folder, sum(len(photographs[int(Path(name).stem)].faces) for name in trained)


class TestEvaluate:
    def test_json_is_all_that_standard_output_gets(self, run, voc, capsys):
        assert cli.main(["evaluate", str(run), "--data", str(voc), "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert list(metrics) == [
            "n", "accuracy", "balanced_accuracy", "macro_f1", "baseline_accuracy", "per_class",
            "confusion",
        ]  # fmt: skip
        assert list(metrics["per_class"]) == list(LABELS)
        assert list(metrics["per_class"]["proper"]) == ["precision", "recall", "f1", "n"]
        assert metrics["n"] == sum(len(p.faces) for p in boxed_photographs(20, 9))

    def test_every_face_counts_however_small(self, run, tmp_path, capsys):
        for part in ("images", "annotations"):
            (tmp_path / part).mkdir()
        Image.new("RGB", (50, 40), "red").save(tmp_path / "images" / "a.png")
        box = "<xmin>3</xmin><ymin>3</ymin><xmax>4</xmax><ymax>5</ymax>"
        (tmp_path / "annotations" / "a.xml").write_text(
            f"<annotation><object><name>with_mask</name><bndbox>{box}</bndbox></object></annotation>"
        )
        assert cli.main(["evaluate", str(run), "--data", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["n"] == 1

    @pytest.mark.usefixtures("undrawn")
    def test_agrees_with_the_training_run(self, voc, tmp_path, capsys):
        """The crops of evaluation are those of training, and so is what is said of them."""
        arguments = ["--data", str(voc), "--image-size", "8", "--epochs", "1"]
        assert cli.main(["train", *arguments, "--out", str(tmp_path / "run")]) == 0
        held_back = json.loads((tmp_path / "run" / "split.json").read_text())["validation"]
        [names] = held_back.values()
        for part in ("images", "annotations"):
            (tmp_path / "part" / part).mkdir(parents=True)
        for name in names:
            stem = Path(name).stem
            for file in (f"images/{stem}.png", f"annotations/{stem}.xml"):
                (tmp_path / "part" / file).write_bytes((voc / file).read_bytes())
        capsys.readouterr()
        model = str(tmp_path / "run" / "model.safetensors")
        assert cli.main(["evaluate", model, "--data", str(tmp_path / "part"), "--json"]) == 0
        evaluated = json.loads(capsys.readouterr().out)
        assert evaluated == json.loads((tmp_path / "run" / "metrics.json").read_text())

    def test_bad_items_are_counted_and_the_run_goes_on(self, run, voc, tmp_path, capfd):
        for part in ("images", "annotations"):
            (tmp_path / part).mkdir()
        for file in ("images/0.png", "annotations/0.xml", "annotations/1.xml"):
            (tmp_path / file).write_bytes((voc / file).read_bytes())
        (tmp_path / "images" / "1.png").write_bytes(b"not a picture")
        command = [sys.executable, "-m", "tinygrad_mask.cli", "evaluate", run, "--data", tmp_path]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "1.png" in result.stderr
        assert "warning: " in result.stderr
        assert "accuracy" in result.stdout

    def test_faces_that_were_trained_on_are_left_out(self, own, voc, capsys):
        folder, trained = own
        total = sum(len(p.faces) for p in boxed_photographs(20, 9))
        assert cli.main(["evaluate", str(folder), "--data", str(voc), "--json"]) == 0
        captured = capsys.readouterr()
        metrics = json.loads(captured.out)
        assert (metrics["n"], metrics["trained_on"]) == (total - trained, trained)
        assert metrics["trained_on_included"] is False
        assert f"trained on {trained} of the {total} faces: left out" in captured.err
        held_back = json.loads((folder / "metrics.json").read_text())
        assert {k: metrics[k] for k in held_back} == held_back

    def test_they_are_judged_when_asked_for(self, own, voc, capsys):
        folder, trained = own
        arguments = ["evaluate", str(folder), "--data", str(voc), "--include-training"]
        assert cli.main([*arguments, "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert metrics["n"] == sum(len(p.faces) for p in boxed_photographs(20, 9))
        assert (metrics["trained_on"], metrics["trained_on_included"]) == (trained, True)
        assert cli.main(arguments) == 0
        captured = capsys.readouterr()
        assert "judged too" in captured.err
        assert (
            captured.err.splitlines()[-1] == f"next: tinygrad-mask predict --model {folder} PICTURE"
        )

    def test_copies_stored_otherwise_are_recognised(self, own, voc, tmp_path, capsys):
        folder, _ = own
        [trained] = json.loads((folder / "split.json").read_text())["train"].values()
        (tmp_path / "with_mask").mkdir()
        for name in trained[:3]:
            with Image.open(voc / "images" / f"{Path(name).stem}.png") as picture:
                half = picture.resize((picture.width // 2, picture.height // 2))
                half.save(tmp_path / "with_mask" / f"{Path(name).stem}.jpg", quality=70)
        assert cli.main(["evaluate", str(folder), "--data", str(tmp_path)]) == 2
        assert "was trained on all 3 faces; name other data" in capsys.readouterr().err

    def test_a_model_that_does_not_say_what_it_was_trained_on(self, own, voc, tmp_path, capsys):
        classifier = Classifier.load(own[0])
        classifier.trained_on = None
        classifier.save(tmp_path / "old.safetensors")
        assert Classifier.load(tmp_path / "old.safetensors").trained_on is None
        model = str(tmp_path / "old.safetensors")
        assert cli.main(["evaluate", model, "--data", str(voc), "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["n"] == sum(len(p.faces) for p in boxed_photographs(20, 9))
        assert f"{model} does not say what it was trained on" in captured.err

    def test_the_shipped_weights_know_their_photographs(self, photographs, capsys):
        larxel = str(photographs / "larxel")
        assert cli.main(["evaluate", "pretrained", "--data", larxel]) == 2
        assert "pretrained was trained on all 3,325 faces" in capsys.readouterr().err
        others = str(photographs / "ilc2021")
        classes = "with_incorrect_mask=improper"
        arguments = ["evaluate", "pretrained", "--data", others, "--classes", classes]
        assert cli.main([*arguments, "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["n"], "trained_on" in metrics) == (861, False)

    def test_weights_to_begin_with_bring_their_photographs(self, own, tmp_path):
        folder, _ = own
        arguments = [*SMALL, "--initial", str(folder), "--out", str(tmp_path / "run")]
        assert cli.main(["train", *arguments]) == 0
        known = Classifier.load(folder).trained_on
        both = Classifier.load(tmp_path / "run").trained_on
        drawn = len(json.loads((tmp_path / "run" / "split.json").read_text())["train"]["synthetic"])
        assert copies_of(known, both, 0).all()
        assert len(both) == len(known) + drawn

    def test_a_model_that_is_not_there(self, voc, capsys):
        assert cli.main(["evaluate", "nowhere.safetensors", "--data", str(voc)]) == 2
        assert "nowhere.safetensors: cannot be read as a model" in capsys.readouterr().err
