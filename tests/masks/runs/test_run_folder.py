"""The folder of a run: one process at a time, and nothing lost wherever it is killed."""

import csv
import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from boxed_photographs import boxed_photographs, write_voc
from PIL import Image

from tinygrad_mask import cli, serialization
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.runs.arguments import run_folder_path
from tinygrad_mask.masks.runs.lock import LOCK, locked

TRAIN = ["train", "--data", "synthetic:24", "--image-size", "8", "--epochs", "3"]
DETECTOR = ["train-detector", "--data", "synthetic:12", "--image-size", "32", "--steps", "2"]
DETECTOR += ["--epochs", "2", "--batch-size", "2", "--mosaic", "0"]

DIES_AT_FILE = """
    import os, sys
    from pathlib import Path
    from tinygrad_mask import cli
    from tinygrad_mask.backends import set_num_threads
    set_num_threads(1)
    replace, left = Path.replace, [int(sys.argv[1])]
    def dies(self, target):
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)  # as SIGKILL: no cleaning up
        return replace(self, target)
    Path.replace = dies
    sys.exit(cli.main(sys.argv[2:]))
"""


def dies_at_file(number, arguments):
    """Run a command that is killed before its file of this number gets its name."""
    code = textwrap.dedent(DIES_AT_FILE)
    command = [sys.executable, "-c", code, str(number), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 9, result.stderr


def weights(folder, name="model.safetensors"):
    return {k: v.tobytes() for k, v in serialization.load(folder / name)[0].items()}


def epochs(folder):
    rows = csv.DictReader((folder / "history.csv").read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in ("seconds", "waited")} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was never killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert cli.main([*TRAIN, "--out", str(folder)]) == 0
    return folder


# The settings, then checkpoint, model and history of each of three epochs.
@pytest.mark.parametrize("number", [1, 2, 4, 6])
@pytest.mark.usefixtures("undrawn")
def test_a_run_killed_at_any_file_ends_as_if_it_was_not(number, whole, tmp_path, capsys):
    folder = tmp_path / "run"
    dies_at_file(number, [*TRAIN, "--out", str(folder)])
    assert any(path.name.endswith(".partial") for path in folder.iterdir())
    capsys.readouterr()
    if number == 1:  # there are no settings yet: it begins anew, in the same place
        assert cli.main([*TRAIN, "--out", str(folder)]) == 0
    else:
        assert cli.main(["train", "--resume", str(folder)]) == 0
    assert weights(folder) == weights(whole)
    assert epochs(folder) == epochs(whole)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(whole))


@pytest.mark.usefixtures("undrawn")
def test_a_detector_killed_before_its_first_checkpoint_is_resumed(tmp_path):
    pytest.importorskip("pycocotools")
    assert cli.main([*DETECTOR, "--out", str(tmp_path / "whole")]) == 0
    dies_at_file(2, [*DETECTOR, "--out", str(tmp_path / "killed")])
    assert cli.main(["train-detector", "--resume", str(tmp_path / "killed")]) == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.usefixtures("undrawn")
def test_a_cross_validation_killed_before_its_first_fold_is_resumed(tmp_path):
    arguments = [*TRAIN[:-1], "1", "--cross-validate", "2", "--out"]
    assert cli.main([*arguments, str(tmp_path / "whole")]) == 0
    dies_at_file(2, [*arguments, str(tmp_path / "killed")])  # before folds.json
    assert cli.main(["train", "--resume", str(tmp_path / "killed")]) == 0
    for file in ("fold-1-model.safetensors", "fold-2-model.safetensors"):
        assert weights(tmp_path / "killed", file) == weights(tmp_path / "whole", file)


class TestLock:
    @pytest.mark.parametrize("command", ["train", "train-detector"])
    def test_a_second_process_is_refused_in_one_line(self, command, whole, tmp_path, capsys):
        folder = tmp_path / "run"
        shutil.copytree(whole, folder)
        (folder / "report.md").unlink()
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        capsys.readouterr()
        with locked(folder):
            assert cli.main([command, "--resume", str(folder)]) == 2
        error = capsys.readouterr().err
        assert error == (
            f"error: {folder}: another process works in this folder, {os.getpid()}; "
            "wait for it, or stop it\n"
        )
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    def test_a_new_run_is_refused_where_another_starts(self, tmp_path, capsys):
        (tmp_path / "run").mkdir()
        with locked(tmp_path / "run"):
            assert cli.main([*TRAIN, "--out", str(tmp_path / "run")]) == 2
        assert "another process works in this folder" in capsys.readouterr().err

    def test_it_ends_with_its_process(self, tmp_path):
        code = (
            "import os, pathlib, sys; from tinygrad_mask.masks.runs.lock import locked\n"
            "with locked(pathlib.Path(sys.argv[1])): os._exit(9)"
        )
        result = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True)
        assert result.returncode == 9, result.stderr
        assert (tmp_path / LOCK).exists()
        with locked(tmp_path):
            assert int((tmp_path / LOCK).read_text()) == os.getpid()
            with pytest.raises(UsageError, match="another process"), locked(tmp_path):
                pass
        assert os.listdir(tmp_path) == []


class TestDamage:
    def interrupted(self, tmp_path):
        """A run that was killed in its third epoch, when there were two checkpoints."""
        folder = tmp_path / "run"
        dies_at_file(10, [*TRAIN, "--out", str(folder)])
        return folder

    @pytest.mark.usefixtures("undrawn")
    def test_the_checkpoint_before_is_used_if_the_last_is_damaged(
        self, whole, tmp_path, capsys, caplog
    ):
        folder = self.interrupted(tmp_path)
        path = folder / "checkpoint.safetensors"
        content = bytearray(path.read_bytes())
        content[-5] ^= 4  # one bit of a weight: still a file that can be read
        path.write_bytes(content)
        assert cli.main(["train", "--resume", str(folder)]) == 0
        assert [record.message for record in caplog.records] == [
            f"{path}: cannot be read (it is damaged: its content does not have the checksum stored "
            "with it); going on from the one before it, checkpoint_before.safetensors"
        ]
        assert weights(folder) == weights(whole)
        assert epochs(folder) == epochs(whole)

    def test_without_one_before_it_is_refused(self, tmp_path, capsys):
        folder = self.interrupted(tmp_path)
        (folder / "checkpoint_before.safetensors").unlink()
        (folder / "checkpoint.safetensors").write_bytes(b"\x00" * 100)
        assert cli.main(["train", "--resume", str(folder)]) == 2
        error = capsys.readouterr().err
        assert f"error: {folder / 'checkpoint.safetensors'}: cannot be read (" in error
        assert error.count("\n") == 1

    def test_a_model_without_a_checkpoint_is_not_trained_anew(self, tmp_path, capsys):
        folder = self.interrupted(tmp_path)
        before = weights(folder)
        for path in folder.glob("checkpoint*"):
            path.unlink()
        assert cli.main(["train", "--resume", str(folder)]) == 2
        assert "there is no checkpoint to go on from" in capsys.readouterr().err
        assert weights(folder) == before


class TestStart:
    def test_input_that_cannot_be_used_leaves_nothing(self, tmp_path, capsys):
        data = ["--data", str(tmp_path / "missing")]
        assert cli.main(["train", *data, "--out", str(tmp_path / "a" / "b")]) == 2
        assert os.listdir(tmp_path) == []

    def test_two_runs_in_the_same_second_have_two_folders(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("time.strftime", lambda _: "20260101-120000")
        with run_folder_path(None, "cnn") as first, run_folder_path(None, "cnn") as second:
            assert (first.name, second.name) == ("cnn-20260101-120000", "cnn-20260101-120000-2")
            (second / "config.json").touch()
        assert os.listdir("runs") == [second.name]  # nothing was written into the first


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_a_checksum_sees_every_array_and_text(dtype, shape):
    arrays = {"a": np.ones(shape, dtype), "b": np.zeros(2, np.float32)}
    _, texts = serialization.with_digest(arrays, {"progress": json.dumps([1, 2])})
    serialization.check_digest(arrays, texts)
    serialization.check_digest(arrays, {})  # stored without one
    changed = {**arrays, "b": np.array([0, -0.0], np.float32)}
    for others, said in (
        (changed, texts),
        ({**arrays, "c": arrays["b"]}, texts),
        ({**arrays, "a": np.ones((*shape, 1), dtype)}, texts),
        (arrays, {**texts, "progress": "[1, 3]"}),
    ):
        with pytest.raises(ValueError, match="checksum"):
            serialization.check_digest(others, said)


@pytest.mark.parametrize("command", ["train", "train-detector"])
def test_data_exchanged_between_start_and_resume_are_refused(command, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    photographs = boxed_photographs(12, 5)
    data = write_voc(tmp_path / "voc", photographs)
    options = ["--image-size", "8", "--epochs", "2"] if command == "train" else DETECTOR[3:]
    folder = tmp_path / "run"
    dies_at_file(6, [command, "--data", str(data), *options, "--out", str(folder)])
    path = data / "annotations" / "3.xml"
    swapped = {"with_mask": "without_mask", "without_mask": "with_mask"}
    text = path.read_text()
    name = text.split("<name>")[1].split("</name>")[0]
    other = swapped.get(name, "with_mask")
    path.write_text(text.replace(f">{name}<", f">{other}<", 1))
    capsys.readouterr()
    assert cli.main([command, "--resume", str(folder)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "not those that the run began with: 1, the first are 3" in error


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_that_are_no_text_are_trained_on_and_resumed(tmp_path, capsys):
    data = tmp_path / os.fsdecode(b"data-\xe9")
    for name, colour in (("with_mask", 200), ("without_mask", 60)):
        (data / name).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng([colour, number]).integers(0, colour, (8, 8, 3), np.uint8)
            picture = Image.fromarray(noise).resize((40, 40))
            picture.save(data / name / os.fsdecode(b"\xff-%d.png" % number))
    options = ["--data", str(data), "--image-size", "8", "--epochs", "2"]
    assert cli.main(["train", *options, "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == [str(data)]
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--epochs", "3"]) == 0
