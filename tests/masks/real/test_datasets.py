from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.runs.loading import LoadedData
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import Photograph, open_dataset
from tinygrad_mask.masks.datasets.humans_in_the_loop import find_annotations
from tinygrad_mask.masks.errors import UsageError

COPIES = (
    "13/737 61/451 74/354 156/545 287/478 327/699 410/428 435/554 514/680 653/775 656/690 "
    "662/839 665/704"
)
"""The pairs of copies in Larxel's data set of which both files are here, by their numbers."""


def faces_per_label(photographs: Sequence[Photograph]) -> Counter[str]:
    return Counter(face.label for photograph in photographs for face in photograph.faces)


def photographs_per_label(photographs: Sequence[Photograph]) -> Counter[str]:
    return Counter(
        label for photograph in photographs for label in {face.label for face in photograph.faces}
    )


def test_larxel_has_the_faces_it_should(photographs: Path) -> None:
    issues = DataIssues()
    found = open_dataset(photographs / "larxel", issues)
    assert {photograph.source for photograph in found} == {"larxel"}
    assert len(found) == 683
    assert faces_per_label(found) == {"proper": 2634, "none": 588, "improper": 103}
    assert photographs_per_label(found) == {"proper": 612, "none": 231, "improper": 78}
    assert issues.counts() == {}


def test_larxels_copies_are_found_and_nothing_else(larxel: LoadedData) -> None:
    assert (len(larxel.faces), larxel.issues.counts()) == (3325, {})
    groups = larxel.groups
    found = larxel.faces.photographs
    numbers = [int(photograph.name.removeprefix("maksssksksss")) for photograph in found]
    pairs = []
    for group in np.flatnonzero(np.bincount(groups) > 1):
        members = sorted(numbers[index] for index in np.flatnonzero(groups == group))
        pairs.append("/".join(map(str, members)))
    assert sorted(pairs) == sorted(COPIES.split())


def test_humans_in_the_loop_is_refused_for_its_thumbnails(photographs: Path) -> None:
    issues = DataIssues()
    with pytest.raises(UsageError, match=r"1764 of 1764 boxes .* resized after the boxes"):
        open_dataset(photographs / "hitl", issues)
    counts = issues.counts()
    assert counts["annotation without its photograph"] == 3461 - 1764
    assert counts["object cannot be used"] == 1
    assert "photograph cannot be read" not in counts


def test_chandrikadeb7_has_the_pictures_it_should(photographs: Path) -> None:
    issues = DataIssues()
    found = open_dataset(photographs / "chandrikadeb7", issues)
    assert faces_per_label(found) == {"proper": 2101, "none": 1767}
    assert issues.counts() == {}


def test_hitl_csv_is_recognised(photographs: Path) -> None:
    assert [path.name for path in find_annotations(photographs / "hitl")] == ["train.csv"]
