"""What the README shows must work."""

import re
from pathlib import Path

import pytest

from tinygrad_mask import cli
from tinygrad_mask.masks.labels import LABELS

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_library_in_15_lines(capsys):
    code, _ = blocks("python")
    assert code.count("\n") <= 15
    exec(code, {})
    loss, accuracy = map(float, capsys.readouterr().out.split())
    assert loss < 0.2
    assert accuracy > 0.9


def test_one_call_says_how_a_mask_is_worn(capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    _, code = blocks("python")
    exec(code, {})
    label, probability = capsys.readouterr().out.split()
    assert label in LABELS
    assert 1 / 3 < float(probability) <= 1


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    files = [link for link in links if not link.startswith(("http", "#"))]
    assert files
    headings = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings]
    assert {link[1:] for link in links if link.startswith("#")} <= set(anchors)
    for link in files:
        assert (Path(__file__).parents[1] / link).exists(), link


@pytest.mark.parametrize(
    "command",
    ["train", "evaluate", "predict", "detect", "train-detector", "evaluate-detector", "export"],
)
def test_the_options_it_names_exist(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    calls = " ".join(line for line in lines if f"tinygrad-mask {command} " in f"{line} ")
    named = set(re.findall(r"--[a-z-]+", calls))
    assert named
    assert named <= known
