"""What all commands share: help, version, completion, exit codes, pipes that are closed."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask import cli

COMMAND = [sys.executable, "-m", "tinygrad_mask"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def run(*arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run([*COMMAND, *arguments], **options)


def test_the_version_is_that_of_the_package():
    result = run("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"tinygrad-mask {version('tinygrad_mask')}\n"


def test_help_names_every_command_and_imports_none_of_them():
    code = (
        "import sys\n"
        "from tinygrad_mask import cli\n"
        "try:\n"
        "    cli.main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = ('matplotlib', 'PIL', 'tqdm', 'tinygrad_mask.masks', 'tinygrad_mask.training')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"
    for name in cli.COMMANDS:
        assert re.search(rf"\n    {name}\s", result.stdout)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_help(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    assert exit_.value.code == 0
    assert f"usage: tinygrad-mask {name} " in capsys.readouterr().out


def test_predict_does_not_import_what_it_does_not_need(picture):
    code = (
        "import sys\n"
        "from tinygrad_mask import cli\n"
        f"assert cli.main(['predict', {picture!r}]) == 0\n"
        "heavy = ('matplotlib', 'onnx', 'tqdm', 'tinygrad_mask.masks.datasets.drawing')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


# --- a reader who goes away -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["kernels"],
        ["predict"],
        ["predict", "--json"],
        ["detect"],
        ["detect", "--json"],
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_the_command_without_a_word(arguments, picture):
    if arguments[0] in ("predict", "detect"):
        arguments = [*arguments, picture]
    read, write = os.pipe()
    os.close(read)
    try:
        result = run(*arguments, stdout=write, stderr=subprocess.PIPE, capture_output=False)
    finally:
        os.close(write)
    # argparse ignores what goes wrong while it prints a help.
    assert result.returncode == (0 if "--help" in arguments else cli.BROKEN_PIPE)
    assert "roken" not in result.stderr
    assert "Traceback" not in result.stderr


# --- completion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tinygrad-mask ", {"train", "evaluate", "predict", "export", "kernels"}),
        ("tinygrad-mask tr", {"train", "train-detector"}),
        ("tinygrad-mask train --mod", {"--model "}),
        ("tinygrad-mask train --model m", {"mlp", "mobilenet"}),
    ],
)
def test_a_shell_gets_completions(line, expected, tmp_path):
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SHELL": "bash",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    result = run(env=environment)
    assert result.stderr == ""
    found = {word.strip() for word in answer.read_text().split("\n")}
    assert {word.strip() for word in expected} <= found
    if line != "tinygrad-mask ":
        assert found == {word.strip() for word in expected}


def test_kernels_says_what_to_type_next():
    result = run("kernels")
    assert result.returncode == 0
    assert result.stdout.startswith("cpu: ")
    assert result.stderr.splitlines()[-1].startswith("next: tinygrad-mask kernels check")


def test_exporting_into_a_missing_folder_names_the_folder(tmp_path, capsys):
    path = tmp_path / "missing" / "model.onnx"
    assert cli.main(["export", "pretrained", "--onnx", str(path)]) == 2
    error = f"error: {path}: the folder {path.parent} does not exist; create it first\n"
    assert capsys.readouterr().err == error


# --- what is typed wrongly ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("", "the following arguments are required: COMMAND; see tinygrad-mask --help"),
        (
            "predict",
            "the following arguments are required: IMAGE; see tinygrad-mask predict --help",
        ),
        ("train --epochs x", "--epochs: invalid int value: 'x'; see tinygrad-mask train --help"),
        ("train --nosuch", "unrecognized arguments: --nosuch; see tinygrad-mask train --help"),
        ("evaluate pretrained", "the following arguments are required: --data; see tinygrad-mask "),
        (
            "kernels check --nosuch a.cu",
            "unrecognized arguments: --nosuch; see tinygrad-mask kernels check --help",
        ),
        ("kernels report --nosuch", "unrecognized arguments: --nosuch; see tinygrad-mask kernels"),
    ],
)
def test_a_wrong_option_gets_one_line(arguments, error, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments.split())
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {error}")
    assert printed.err.count("\n") == 1


def test_a_wrong_command_names_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["nosuch"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: COMMAND: invalid choice: 'nosuch' (choose from ")
    assert "train" in error
    assert error.endswith("; see tinygrad-mask --help\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("train --lr -1", "--lr: expected a learning rate above 0, got -1"),
        ("train --lr nan", "--lr: expected a learning rate above 0, got nan"),
        (
            "train --weight-decay -1",
            "--weight-decay: expected a weight decay of at least 0, got -1",
        ),
        ("train --batch-size 0", "--batch-size: expected at least 1, got 0"),
        ("train --epochs 0", "--epochs: expected at least 1, got 0"),
        ("train --resume nosuch", "nosuch: expected the folder of a run, got no folder"),
        ("train --resume folder", "folder: expected the folder of a run, got one without config."),
        ("train --resume file.py", "file.py: expected the folder of a run, got a file"),
        (
            "kernels check file.py",
            "file.py: expected a CUDA file, got a Python file; check file.cu, next to which",
        ),
        ("export pretrained --onnx nosuch/a.onnx", "nosuch/a.onnx: the folder nosuch does not exi"),
        ("export pretrained --onnx file.py/a.onnx", "file.py/a.onnx: file.py is not a folder"),
        ("predict nosuch.png", "none of the images can be read"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_input_that_cannot_be_used_gets_one_line_and_exit_code_2(
    arguments, error, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.py").write_text("")
    try:
        code = cli.main(arguments.split())
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    printed = capsys.readouterr()
    assert printed.out == ""  # it says nothing before that it will do
    assert f"error: {error}" in printed.err
    assert "Errno" not in printed.err
    assert not (tmp_path / "runs").exists()


def test_the_help_says_what_is_counted(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    help_ = " ".join(capsys.readouterr().out.split())
    assert "synthetic[:COUNT], COUNT drawn photographs of some faces each" in help_


def test_ctrl_c_while_numpy_is_imported_is_no_traceback(tmp_path):
    """The console script's module, with a NumPy during whose import Ctrl-C comes."""
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n")
    script = Path(cli.__file__).parents[1] / "tinygrad_mask_command.py"
    code = f"import runpy; raise SystemExit(runpy.run_path({str(script)!r})['main']())"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (result.returncode, result.stdout, result.stderr) == (cli.INTERRUPTED, "", "stopped\n")
