"""The model card says what the cross-validation found, and nothing else."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.evaluation.judging import judge
from tinygrad_mask.masks.classifier.evaluation.metrics import compute_metrics, recall_of_improper
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset

SCRIPT = Path(__file__).parents[1] / "studies" / "model_card.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("model_card", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 3
    return compute_metrics(labels, np.where(rng.random(60) < 0.8, labels, rng.integers(0, 3, 60)))


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    judgement = judge(
        labels,
        rng.normal(0, 1, (300, 3)) + 2 * np.eye(3)[labels],
        photograph=np.arange(300) // 3,
        sizes=rng.uniform(4, 60, 300),
        parts=np.arange(300) // 3 % 5,
    )
    same = figures(99).to_json()

    def slices(names, first):
        return {
            name: {"with": figures(first + k).to_json(), "without": same}
            for k, name in enumerate(names)
        }

    seen = ("beard", "black mask", "dark skin", "hand", "patterned mask", "profile")
    return {
        "model": {
            "architecture": {"kind": "resnet"},
            "crops": {"size": 40, "margin": 0.2},
            "mirrored": True,
            "temperature": 1.5,
            "parameters": 292_000,
            "bytes": 1_170_000,
        },
        "config": {
            "data": ["somewhere/larxel"],
            "extra": [],
            "initial": None,
            "model": "resnet",
            "seed": 0,
            "min_face": 4.0,
            "cross_validate": 5,
            "crops": {"size": 40, "margin": 0.2},
            "recipe": {"epochs": 30, "augmentation": {"mirror": 0.5}},
        },
        "sources": ["larxel"],
        "photographs": 100,
        "judgement": json.loads(json.dumps(judgement.to_json())),
        "slices": {
            "seen": slices(seen, 1),
            "changed": slices(("low light", "BGR in place of RGB"), 20),
            "drawn": slices(("dark skin", "beard"), 30),
            "least_size": 32.0,
            "drawn_pairs": 90,
        },
        "stored_fold": {"photographs": ["a", "b"], "metrics": figures(50).to_json()},
        "carry_over": {
            "elsewhere": {
                "metrics": figures(70).to_json(),
                "ece": 0.0321,
                "coverage": [row.to_json() for row in judgement.coverage],
                "answered": 0.9,
                "answered_metrics": figures(71).to_json(),
                "bgr_noticed": 0.87,
                "rgb_doubted": 0.004,
            }
        },
    }


def test_every_figure_is_one_of_the_cross_validation(script, content):
    card = script.model_card(content, ["confusion", "reliability"])
    judgement = content["judgement"]
    assert f"**{judgement['metrics']['macro_f1']:.3f}**" in card
    low, high = judgement["intervals"]["improper_recall"]
    assert f"{low:.3f} to {high:.3f}" in card
    assert f"a temperature of {judgement['calibration']['temperature']:.3f}" in card
    for row in judgement["alarms"]["improper"]:
        assert f"| {row['caught']} of {row['n_improper']} (" in card
    for kind, k in (("seen", 0), ("changed", 1)):
        of = list(content["slices"][kind].values())[k]["with"]
        assert f"| {of['accuracy']:.3f} | {of['baseline_accuracy']:.3f} |" in card
    assert recall_of_improper(figures(50)) in card
    assert "292,000 parameters, 1.17 MB" in card
    assert "| recipe.augmentation.mirror | 0.5 |" in card
    assert "![reliability](pictures/card_reliability.png)" in card
    assert "card_mistakes.png" not in card


def test_it_names_what_a_card_must(script, content):
    card = script.model_card(content, [])
    for word in ("CC0", "licence", "folds by photograph", "false alarms", "calibration error"):
        assert word in card
    for word in (
        "Small faces",
        "from the side",
        "coverings",
        "skin",
        "beard",
        "OpenCV",
        "Low light",
    ):
        assert word in card


def test_other_sources_and_what_unsure_leaves(script, content):
    content["model"]["threshold"] = 0.51
    card = script.model_card(content, [])
    assert "## Other sources" in card
    assert f"| elsewhere | 60 | {figures(70).accuracy:.3f} |" in card
    assert "| 0.032 |" in card
    assert "below 0.510 is `unsure`" in card
    assert f"answers 90%, with accuracy {figures(71).accuracy:.3f}" in card
    for row in content["judgement"]["coverage"]:
        assert f"| {row['coverage']:.0%} | {row['threshold']:.3f} | {row['n']} |" in card
    assert "noticed at 87% of single faces, 0.4% are doubted" in card
    # Failures come before anything else is praised.
    assert card.index("## Where it fails") < card.index("## How it is judged")


def test_folds_that_are_missing_are_said(script, content):
    content["config"] |= {"group_by": "event"}
    content["folds"] = [1, 3]
    card = script.model_card(content, [])
    assert "5 folds by event" in card
    assert "**Only 2 of the 5 folds could be computed for this card** (fold 1, 3," in card
    assert "Only" not in script.model_card(content | {"folds": [1, 2, 3, 4, 5]}, [])


def test_larger_copies_say_that_they_name_no_licence(script, content):
    content["config"] |= {"extra": ["larxel_large", "painted:larxel:1500", "painted:x:9"]}
    card = script.model_card(content, [])
    assert "names no licence of its own" in card
    assert card.count("with masks that this package paints on them") == 1
    assert script._named("/home/me/larxel_large") == "larxel_large"
    assert script._named("painted:/home/me/larxel:1500") == "painted:larxel:1500"
    assert script._named("synthetic:40") == "synthetic:40"


def test_every_table_is_rectangular_and_accuracy_has_its_baseline(script, content):
    card = script.model_card(content, [])
    for block in card.split("\n\n"):
        if block.startswith("|"):
            assert len({len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
        header = block.splitlines()[0]
        if block.startswith("|") and "accuracy" in header:
            for word in ("baseline", "balanced accuracy", "macro-F1", "recall of `improper`"):
                assert word in header


def test_a_half_that_slices_share_stands_once(script, content):
    card = script.model_card(content, [])
    assert card.count("| as they are |") == 1


def test_what_was_not_judged_is_named(script, content):
    content["config"] |= {"extra": ["synthetic:2000"], "initial": "runs/drawn"}
    card = script.model_card(content, [])
    assert "- trained on in every fold, never judged: `synthetic:2000`" in card
    assert "- began with the weights of `runs/drawn`" in card


def test_attributes_are_of_faces_that_there_are(photographs):
    faces = {p.name: len(p.faces) for p in open_dataset(photographs / "larxel", DataIssues())}
    lines = (SCRIPT.parent / "larxel_attributes.csv").read_text().splitlines()
    assert lines[0] == "photograph,face,attributes"
    known = {"beard", "black_mask", "dark_skin", "hand", "patterned_mask", "profile"}
    keys = [line.split(",")[:2] for line in lines[1:]]
    for line in lines[1:]:
        name, face, attributes = line.split(",")
        assert 0 <= int(face) < faces[name]
        assert set(attributes.split()) <= known
    assert len({tuple(key) for key in keys}) == len(keys)
