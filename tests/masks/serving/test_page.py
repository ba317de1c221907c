"""The page's own arithmetic, run by Node, against the Python that it repeats."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.masks.detector.network.detector import MIN_FACE
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.tracking import Tracker

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "tinygrad_mask" / "masks" / "serving" / "page"


def run_in_node(script, content=None):
    """Return what a module printed as JSON; `input` is the content."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node, which runs the page's modules, is not installed")
    imports = "".join(
        f"import * as {name} from {json.dumps((PAGE / f'{name}.mjs').as_uri())};\n"
        for name in ("tracking", "door", "words")
    ).replace(".mjs", ".js")
    program = f"{imports}const input = {json.dumps(content)};\n{script}"
    command = [node, "--no-warnings", "--experimental-default-type=module", "--input-type=module"]
    result = subprocess.run(command, input=program, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def walk(seed):
    """Frames of faces that wander, vanish, return and change what they wear."""
    rng = np.random.default_rng(seed)
    people = [
        (rng.uniform(0, 500, 2), rng.uniform(-9, 9, 2), rng.uniform(20, 80)) for _ in range(4)
    ]
    frames = []
    for k in range(60):
        faces = []
        for start, speed, side in people:
            if rng.random() < 0.25 or (20 < k < 40 and side > 50):
                continue
            corner = start + k * speed + rng.normal(0, 2, 2)
            box = [*corner, *(corner + side)]
            faces.append((np.array(box), rng.dirichlet([2, 1, 1])))
        frames.append(faces)
    return frames


@pytest.mark.parametrize("seed", range(5))
def test_persons_are_followed_as_by_the_tracker(seed):
    frames = walk(seed)
    content = [
        [
            {"box": box.tolist(), "probabilities": dict(zip(LABELS, p.tolist(), strict=True))}
            for box, p in faces
        ]
        for faces in frames
    ]
    followed = run_in_node(
        """
        const tracker = new tracking.Tracker();
        const frames = input.map((faces) => tracker.update(faces));
        console.log(JSON.stringify({frames, seen: tracker.seen()}));
        """,
        content,
    )
    tracker = Tracker()
    for faces, persons in zip(frames, followed["frames"], strict=True):
        right = tracker.update([box for box, _ in faces], [p for _, p in faces])
        assert [person["person"] for person in persons] == [face.track for face in right]
        assert [person["label"] for person in persons] == [LABELS[face.label] for face in right]
        for person, face in zip(persons, right, strict=True):
            assert list(person["probabilities"].values()) == pytest.approx(
                face.probabilities.tolist(), abs=1e-5
            )
    counted = dict.fromkeys(LABELS, 0)
    for person in followed["seen"]:
        counted[person["label"]] += 1
    assert counted == tracker.counts()
    assert sum(counted.values()) > 3


def test_the_state_changes_after_frames_that_agree():
    states = run_in_node(
        """
        const one = new door.Door(3);
        console.log(JSON.stringify(input.map((answers) => one.update(answers))));
        """,
        [["proper"]] * 3 + [["none"]] * 2 + [["proper"]] + [["none"], ["proper"]] * 3 + [[]] * 3,
    )
    assert states == ["starting"] * 2 + ["proper"] * 12 + ["nobody"]


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([], "nobody"),
        (["proper", "none", "improper"], "none"),
        (["proper", "improper", "unsure"], "improper"),
        (["unsure", "proper"], "unsure"),
        (["too small", "proper"], "proper"),
        (["too small"], "too small"),
    ],
)
def test_the_most_urgent_is_said(answers, state):
    script = "console.log(JSON.stringify(new door.Door(1).update(input)))"
    assert run_in_node(script, answers) == state


@pytest.mark.parametrize(
    ("probabilities", "threshold", "expected"),
    [
        ((0.6, 0.3, 0.1), None, "proper"),
        ((0.4, 0.3, 0.3), None, "unsure"),
        ((0.6, 0.3, 0.1), 0.215, "improper"),
        ((0.6, 0.1, 0.3), 0.215, "none"),
        ((0.9, 0.06, 0.04), 0.215, "proper"),
        ((0.1, 0.2, 0.7), 0.954, "unsure"),
        ((0.01, 0.2, 0.79), 0.954, "none"),
    ],
)
def test_the_answer_at_a_sensitivity(probabilities, threshold, expected):
    face = {
        "box": [0, 0, MIN_FACE, MIN_FACE],
        "label": LABELS[int(np.argmax(probabilities))],
        "probabilities": dict(zip(LABELS, probabilities, strict=True)),
    }
    script = "console.log(JSON.stringify(door.answer(input[0], input[1])))"
    assert run_in_node(script, [face, threshold]) == expected
    small = {**face, "box": [0, 0, MIN_FACE - 0.1, 50]}
    assert run_in_node(script, [small, threshold]) == "too small"


def test_the_sensitivities_are_those_of_the_model_card():
    shipped = json.loads((PAGE / "sensitivity.json").read_text())
    card = json.loads((ROOT / "docs" / "model_card.json").read_text())
    rows = card["judgement"]["alarms"]["not proper"]
    assert list(shipped["alarms"]) == ["few", "medium", "many"]
    for alarm, row in zip(shipped["alarms"].values(), rows, strict=True):
        assert alarm["threshold"] == round(row["threshold"], 3)
        assert (alarm["alarms"], alarm["caught"]) == (row["false_alarms"], row["caught"])
        assert shipped["proper"] == row["n_others"]
        assert shipped["improper"] == row["n_improper"]


def test_all_languages_say_the_same():
    texts = {path.name: json.loads(path.read_text()) for path in PAGE.glob("words.*.json")}
    assert len(texts) == 2
    one, other = texts.values()

    def places(words):
        return {
            key: places(value)
            if isinstance(value, dict)
            else sorted(
                value.count(f"{{{name}}}")
                for name in ("count", "number", "answer", "percent", "error")
            )
            for key, value in words.items()
        }

    assert places(one) == places(other)


@pytest.mark.parametrize(
    ("languages", "expected"),
    [(["de-AT", "en"], "de"), (["fr", "de"], "de"), (["fr"], "en"), ([], "en"), (["EN-us"], "en")],
)
def test_the_language_is_the_browsers(languages, expected):
    assert run_in_node("console.log(JSON.stringify(words.preferred(input)))", languages) == expected


def test_nothing_on_the_page_is_from_elsewhere():
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert "localStorage" not in text
