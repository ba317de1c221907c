import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from tinygrad_mask.masks.datasets import Box, Face
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.splits import (
    Split,
    fold_photographs,
    load_split,
    save_split,
    split_photographs,
)

labels_and_groups = st.lists(
    st.tuples(st.lists(st.sampled_from(LABELS), max_size=3), st.integers(0, 12)), max_size=40
)


@given(labels_and_groups, st.sampled_from([0.1, 0.2, 0.5, 0.8]), st.integers(0, 5))
def test_groups_stay_together_and_nothing_is_lost(
    photographs: list[tuple[list[str], int]], validation: float, seed: int
) -> None:
    labels = [label for label, _ in photographs]
    groups = np.array([group for _, group in photographs], dtype=np.int64)
    assume(len(set().union(*labels)) > 1)
    holding = {g for label, g in photographs if label}
    assume(len(holding) > 1)
    split = split_photographs(labels, groups, validation, seed)
    both = np.concatenate([split.train, split.validation])
    assert sorted(both.tolist()) == list(range(len(photographs)))
    assert not set(groups[split.train]) & set(groups[split.validation])
    assert split.train.tolist() == sorted(split.train)
    # Where every group holds one label only, a label of two groups or more is on both sides.
    held = {g: set().union(*(lab for lab, h in photographs if h == g)) for g in holding}
    if all(len(of_group) == 1 for of_group in held.values()):
        for label in set().union(*labels):
            if sum(label in of_group for of_group in held.values()) > 1:
                for side in (split.train, split.validation):
                    assert any(label in labels[i] for i in side)
    again = split_photographs(labels, groups, validation, seed)
    np.testing.assert_array_equal(split.validation, again.validation)


def test_rare_label_has_its_share_on_either_side() -> None:
    rng = np.random.default_rng(0)
    labels = [
        ["proper"] * int(rng.integers(1, 6)) + ["improper"] * bool(i % 20 == 0) for i in range(400)
    ]
    labels += [["none"]] * 200
    for seed in range(10):
        split = split_photographs(labels, np.arange(600), 0.2, seed)
        assert len(split.validation) == 120
        assert sum("improper" in labels[i] for i in split.validation) == 4
        assert sum("none" in labels[i] for i in split.validation) == 40


def test_seeds_give_other_splits() -> None:
    labels = [["proper"], ["none"]] * 50
    splits = {
        tuple(split_photographs(labels, np.arange(100), 0.2, seed).validation) for seed in range(5)
    }
    assert len(splits) == 5


def test_label_that_is_never_the_rarest_is_on_both_sides() -> None:
    # Proper faces are seen beside improper ones only, and those of one group are all in training.
    labels = [["improper", "proper"], ["improper"], ["improper", "proper"], ["none"], ["none"]]
    for seed in range(20):
        split = split_photographs(labels, np.arange(5), 0.2, seed)
        for side in (split.train, split.validation):
            assert set().union(*(labels[i] for i in side)) == set(LABELS)


@pytest.mark.parametrize("validation", [0.0, 1.0, -0.2, float("nan")])
def test_share_out_of_bounds_is_an_error(validation: float) -> None:
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        split_photographs([["proper"], ["none"]], np.arange(2), validation, 0)


def test_one_class_no_face_and_too_few_photographs_are_errors() -> None:
    with pytest.raises(UsageError, match="at least two classes; all are 'none'"):
        split_photographs([["none"], ["none"]], np.arange(2), 0.2, 0)
    with pytest.raises(UsageError, match="at least two classes; there are none"):
        split_photographs([[], []], np.arange(2), 0.2, 0)
    with pytest.raises(UsageError, match="too few photographs to split"):
        split_photographs([["none"], ["proper"], []], np.array([0, 0, 1]), 0.2, 0)


@dataclass(frozen=True)
class Named:
    source: str
    name: str
    faces: tuple[Face, ...] = ()
    ignored: tuple[Box, ...] = ()

    def open(self) -> Image.Image:
        raise NotImplementedError


PHOTOGRAPHS = [Named("a", "1.jpg"), Named("b", "1.jpg"), Named("a", "ü/2.jpg"), Named("b", "3")]
SPLIT = Split(np.array([0, 2]), np.array([1, 3]))


def test_split_is_found_again_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    save_split(path, SPLIT, PHOTOGRAPHS)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "train": {"a": ["1.jpg", "ü/2.jpg"]},
        "validation": {"b": ["1.jpg", "3"]},
    }
    split = load_split(path, PHOTOGRAPHS[::-1])
    assert (split.train.tolist(), split.validation.tolist()) == ([1, 3], [0, 2])


def test_split_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        save_split(path, SPLIT, PHOTOGRAPHS)
    assert path.read_text() == "mine"
    with pytest.raises(UsageError, match="cannot be written"):
        save_split(tmp_path / "nowhere" / "split.json", SPLIT, PHOTOGRAPHS)


def test_split_of_other_photographs_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    save_split(path, SPLIT, PHOTOGRAPHS)
    with pytest.raises(UsageError, match=r"not in the data: 2, the first is a/1.jpg"):
        load_split(path, PHOTOGRAPHS[1::2])
    with pytest.raises(UsageError, match=r"does not name photographs of the data: 1, .* c/9"):
        load_split(path, [*PHOTOGRAPHS, Named("c", "9")])
    path.write_text('{"train": {"a": ["1.jpg"]}, "validation": {"a": ["1.jpg"]}}')
    with pytest.raises(UsageError, match=r"twice: 1, the first is a/1.jpg"):
        load_split(path, PHOTOGRAPHS[:1])


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"train": []}', '{"train": {"a": 1}, "validation": {}}']
)
def test_unreadable_split_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.json"
    with pytest.raises(UsageError, match="cannot be read"):
        load_split(path, PHOTOGRAPHS)
    path.write_text(content)
    with pytest.raises(UsageError, match="not a split"):
        load_split(path, PHOTOGRAPHS)


@given(labels_and_groups, st.integers(2, 5), st.integers(0, 5))
def test_folds_keep_groups_together(
    photographs: list[tuple[list[str], int]], folds: int, seed: int
) -> None:
    labels = [label for label, _ in photographs]
    groups = np.array([group for _, group in photographs], dtype=np.int64)
    try:
        fold = fold_photographs(labels, groups, folds, seed)
    except UsageError:
        # Too few groups with faces, of which not every division is tried, or a fold without which
        # one label is left.
        with_faces = {g for label, g in photographs if label}
        apart = {
            name: {g for label, g in photographs if name in label} for name in set().union(*labels)
        }
        rare = sum(len(of_label) > 1 for of_label in apart.values()) < 2
        assert len(with_faces) < 2 * folds or rare
        return
    assert fold.shape == (len(photographs),)
    assert len({(g, f) for g, f in zip(groups, fold, strict=True)}) == len(set(groups))
    for k in range(folds):
        inside, outside = (
            {name for i in np.flatnonzero(chosen) for name in labels[i]}
            for chosen in (fold == k, fold != k)
        )
        assert len(inside) >= 1
        assert len(outside) >= 2
    np.testing.assert_array_equal(fold, fold_photographs(labels, groups, folds, seed))


def test_folds_share_out_the_faces_of_the_rare_label() -> None:
    rng = np.random.default_rng(0)
    labels = [
        ["proper"] * int(rng.integers(1, 6)) + ["improper"] * int(rng.integers(1, 4) * (i < 70))
        for i in range(600)
    ]
    labels += [["none"] * int(rng.integers(1, 4)) for _ in range(200)]
    for seed in range(5):
        fold = fold_photographs(labels, np.arange(800), 5, seed)
        counts = np.zeros((5, len(LABELS)), int)
        for of_photograph, k in zip(labels, fold, strict=True):
            for label in of_photograph:
                counts[k, LABELS.index(label)] += 1
        assert np.ptp(counts[:, LABELS.index("improper")]) <= 1
        assert np.ptp(counts[:, LABELS.index("none")]) <= 1
        assert np.ptp(np.bincount(fold)) <= 60
    assert (fold != fold_photographs(labels, np.arange(800), 5, 0)).any()


def test_too_few_folds_and_too_few_photographs_are_errors() -> None:
    with pytest.raises(UsageError, match="at least 2 folds, got 1"):
        fold_photographs([["proper"], ["none"]], np.arange(2), 1, 0)
    with pytest.raises(UsageError, match="too few photographs with faces for 3 folds"):
        fold_photographs([["proper"], ["none"], [], []], np.arange(4), 3, 0)
    with pytest.raises(UsageError, match=r"without fold \d of 2, all are 'proper'"):
        fold_photographs([["proper"], ["proper", "none"]], np.arange(2), 2, 0)


def test_data_that_were_exchanged_are_noticed(tmp_path):
    path = tmp_path / "split.json"
    prints = [f"print-{k}" for k in range(len(PHOTOGRAPHS))]
    save_split(path, SPLIT, PHOTOGRAPHS, prints)
    assert len(load_split(path, PHOTOGRAPHS[::-1], prints[::-1]).train) == len(SPLIT.train)
    changed = int(SPLIT.train[0])
    others = [*prints[:changed], "another", *prints[changed + 1 :]]
    with pytest.raises(
        UsageError, match="not those that the run began with: 1, the first"
    ) as error:
        load_split(path, PHOTOGRAPHS, others)
    assert str(error.value).endswith(PHOTOGRAPHS[changed].name)
