"""Masks painted on real faces: only where the mask is, worn in every way alike, traced back."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.datasets.drawing.traits import Worn, sample_traits
from tinygrad_mask.masks.datasets.painted import (
    Nose,
    PaintedPhotograph,
    paint_mask,
    painted_photographs,
    read_marks,
)
from tinygrad_mask.masks.datasets.records import Box, Face
from tinygrad_mask.masks.datasets.synthetic import draw_face
from tinygrad_mask.masks.errors import UsageError

NOSE = Nose(0.5, 0.64)  # of a drawn face: the box is from -0.85 to 1.64, the nose ends at 0.75


class DrawnPhotograph:
    """A photograph of one bare face, drawn."""

    source, ignored = "larxel", ()

    def __init__(self, name: str = "a", label: str = "none") -> None:
        traits = replace(
            sample_traits(np.random.default_rng(3)),
            worn="not worn",
            hand=False,
            held="nothing",
            yaw=0.0,
            pitch=0.0,
            roll=0.0,
        )
        self.picture, self.box = draw_face(traits, 80)
        self.name = name
        self.faces: tuple[Face, ...] = (Face(label, self.box),)

    def open(self) -> Image.Image:
        return self.picture


def painted(worn: Worn, seed: int = 0) -> tuple[Image.Image, Image.Image, Box, np.ndarray]:
    photograph = DrawnPhotograph()
    rng = np.random.default_rng(seed)
    traits = replace(sample_traits(rng), worn=worn, mask_slack=0.5, mask_tilt=0.0)
    picture, where = paint_mask(photograph.picture, photograph.box, NOSE, traits, rng)
    return photograph.picture, picture, photograph.box, where


WAYS: tuple[Worn, ...] = (
    "over nose and mouth",
    "under the nose",
    "under the mouth",
    "on the chin",
    "under the chin",
    "on the forehead",
)


@pytest.mark.parametrize("worn", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_outside_of_the_mask_keeps_its_bits(worn: Worn, seed: int) -> None:
    before, after, (x1, y1, x2, y2), where = painted(worn, seed)
    old, new = np.asarray(before), np.asarray(after)
    assert old.shape == new.shape
    np.testing.assert_array_equal(old[~where], new[~where])
    assert (old[where] != new[where]).any(axis=1).mean() > 0.5
    # The mask is a part of the face and no more.
    area = where.sum() / ((x2 - x1) * (y2 - y1))
    assert 0.04 < area < 0.8
    rows, columns = np.nonzero(where)
    assert rows.min() > y1 - 0.3 * (y2 - y1)
    assert rows.max() < y2 + 0.35 * (y2 - y1)
    assert columns.min() > x1 - 0.3 * (x2 - x1)
    assert columns.max() < x2 + 0.3 * (x2 - x1)


@pytest.mark.parametrize(
    ("worn", "nose_free", "mouth_free"),
    [
        ("over nose and mouth", False, False),
        ("under the nose", True, False),
        ("under the mouth", True, True),
        ("on the chin", True, True),
    ],
)
def test_the_mask_covers_what_it_should(worn: Worn, nose_free: bool, mouth_free: bool) -> None:
    *_, (x1, y1, x2, y2), where = painted(worn)
    middle = round((x1 + x2) / 2)
    for y, free in ((0.5, nose_free), (0.76, mouth_free)):
        assert where[round(y1 + y * (y2 - y1)), middle] != free
    assert not where[round(y1 + 0.3 * (y2 - y1)), middle]  # between the eyes


def test_a_turned_head_has_its_mask_on_the_side_of_the_nose() -> None:
    photograph = DrawnPhotograph()
    centres = []
    for x in (0.2, 0.5, 0.8):
        rng = np.random.default_rng(0)
        traits = replace(sample_traits(rng), worn="over nose and mouth", mask_tilt=0.0)
        where = paint_mask(photograph.picture, photograph.box, Nose(x, 0.64), traits, rng)[1]
        centres.append(np.nonzero(where)[1].mean())
    assert centres[0] < centres[1] - 3 < centres[2] - 6


def test_a_mask_is_as_dark_as_its_photograph() -> None:
    photograph = DrawnPhotograph()
    dark = Image.fromarray(np.asarray(photograph.picture) // 5)
    levels = []
    for picture in (photograph.picture, dark):
        rng = np.random.default_rng(0)
        traits = replace(
            sample_traits(rng), worn="over nose and mouth", mask_colour=(0.95, 0.95, 0.95)
        )
        after, where = paint_mask(picture, photograph.box, NOSE, traits, rng)
        levels.append(np.asarray(after)[where].mean())
    assert levels[1] < 0.35 * levels[0]


def test_a_mask_is_as_blurred_as_its_photograph() -> None:
    photograph = DrawnPhotograph()
    soft = photograph.picture.filter(ImageFilter.GaussianBlur(3))
    edges = []
    for picture in (photograph.picture, soft):
        rng = np.random.default_rng(0)
        traits = replace(
            sample_traits(rng),
            worn="under the nose",
            mask_pattern="plain",
            mask_colour=(0.95, 0.95, 0.95),
        )
        after, _ = paint_mask(picture, photograph.box, NOSE, traits, rng)
        step = np.abs(np.diff(np.asarray(after, np.float64).mean(axis=2), axis=0))
        edges.append(step.max())
    assert edges[1] < 0.6 * edges[0]


def test_painted_photographs_are_reproducible_and_know_their_origin() -> None:
    marks = {("a", 0): NOSE, ("b", 0): NOSE}
    originals = [DrawnPhotograph("a"), DrawnPhotograph("b"), DrawnPhotograph("c")]
    once = painted_photographs(originals, marks, 6, seed=1)
    again = painted_photographs(originals, marks, 6, seed=1)
    assert [p.open().tobytes() for p in once] == [p.open().tobytes() for p in again]
    masked = [p for p in once if p.traits.worn != "not worn"]
    assert len({p.open().tobytes() for p in masked}) == len(masked) > 1
    assert Counter(p.origin for p in once) == {"a": 3, "b": 3}
    assert len({p.name for p in once}) == 6
    assert {p.source for p in once} == {"painted_larxel"}


def test_proper_and_improper_are_painted_alike() -> None:
    found = painted_photographs([DrawnPhotograph()], {("a", 0): NOSE}, 1500, seed=0)
    labels = Counter(photograph.faces[0].label for photograph in found)
    assert 0.22 < labels["proper"] / 1500 < 0.32
    assert 0.25 < labels["none"] / 1500 < 0.35
    assert labels["improper"] + labels["proper"] + labels["none"] == 1500
    for trait in ("mask_size", "mask_slack", "mask_tilt"):
        mean = {
            label: np.mean([getattr(p.traits, trait) for p in found if p.traits.label == label])
            for label in labels
        }
        most = 1.2 if trait == "mask_tilt" else 0.05
        assert mean["proper"] == pytest.approx(mean["improper"], abs=most)
    white = {
        label: np.mean([sum(p.traits.mask_colour) > 2.7 for p in found if p.traits.label == label])
        for label in labels
    }
    assert white["proper"] == pytest.approx(white["improper"], abs=0.06)


def test_some_faces_stay_bare_to_the_bit() -> None:
    found = painted_photographs([DrawnPhotograph()], {("a", 0): NOSE}, 12, seed=0)
    bare = [p for p in found if p.traits.worn == "not worn"]
    assert bare
    for photograph in bare:
        assert photograph.faces[0].label == "none"
        assert photograph.open().tobytes() == photograph.photograph.open().tobytes()


def test_without_a_marked_bare_face_it_says_so() -> None:
    masked = DrawnPhotograph(label="proper")
    with pytest.raises(UsageError, match=r"painted: expected .* noses are marked, got 1 photog"):
        painted_photographs([masked], {("a", 0): NOSE}, 3, seed=0)
    with pytest.raises(UsageError, match="expected painted:FOLDER"):
        open_dataset("painted:", DataIssues())
    with pytest.raises(ValueError, match="expected a mask that is worn, got 'not worn'"):
        painted("not worn")


def test_noses_are_inside_their_boxes() -> None:
    marks = read_marks()
    assert len(marks) > 200
    assert all(0 < nose.x < 1 and 0.3 < nose.y < 0.8 for nose in marks.values())


@pytest.mark.parametrize("folder", ["larxel", "larxel_large"])
def test_larxels_bare_faces_are_painted(photographs: Path, folder: str) -> None:
    found = open_dataset(f"painted:{photographs / folder}:8", DataIssues())
    assert len(found) == 8
    for photograph in found:
        assert isinstance(photograph, PaintedPhotograph)
        before, after = (
            np.asarray(of.open(), np.int64) for of in (photograph.photograph, photograph)
        )
        changed = (before != after).any(axis=2)
        assert changed.mean() < 0.7
        assert changed.any() == (photograph.faces[0].label != "none")
        assert photograph.source == f"painted_{folder}"
