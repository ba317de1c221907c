"""What the README shows must work."""

import re
from pathlib import Path

import pytest

from tinygrad_mask import cli

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_library_in_15_lines(capsys):
    [code] = blocks("python")
    assert code.count("\n") <= 15
    exec(code, {})
    loss, accuracy = map(float, capsys.readouterr().out.split())
    assert loss < 0.2
    assert accuracy > 0.9


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    files = [link for link in links if not link.startswith("http")]
    assert files
    for link in files:
        assert (Path(__file__).parents[1] / link).exists(), link


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export"])
def test_the_options_it_names_exist(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    calls = " ".join(line for line in lines if f"tinygrad-mask {command}" in line)
    named = set(re.findall(r"--[a-z-]+", calls))
    assert named
    assert named <= known
