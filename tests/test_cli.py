"""What all commands share: help, version, completion, exit codes, pipes that are closed."""

import os
import subprocess
import sys
from importlib.metadata import version

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
        assert f"\n    {name} " in result.stdout


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
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_the_command_without_a_word(arguments, picture):
    if arguments[0] == "predict":
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
        ("tinygrad-mask tr", {"train "}),
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
    assert cli.main(["export", "pretrained", "--onnx", str(path)]) == 1
    error = f"error: {path}: the folder {path.parent} does not exist; create it first\n"
    assert capsys.readouterr().err == error
