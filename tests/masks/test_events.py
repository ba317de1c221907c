"""Photographs of one event are found, stay together, and never straddle folds."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.classifier.runs.cross_validation import assign_folds, sides_of_fold
from tinygrad_mask.masks.classifier.runs.loading import load
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.datasets import records
from tinygrad_mask.masks.events import (
    SERIES_SIZE,
    Appearance,
    event_groups,
    looks_alike,
    origin_groups,
)


@dataclass(frozen=True)
class Scene:
    """A photograph of a room of its own colours, one for each person in it."""

    name: str
    room: int
    person: int = 0
    size: tuple[int, int] = (120, 90)
    source: str = "larxel"
    ignored: tuple[records.Box, ...] = ()

    @property
    def faces(self) -> tuple[records.Face, ...]:
        return (records.Face(("proper", "improper", "none")[self.person % 3], (10, 10, 40, 40)),)

    def open(self) -> Image.Image:
        palette = np.random.default_rng(self.room).integers(0, 256, (6, 3))
        # The camera has moved: the same colours, in other places.
        places = np.random.default_rng([self.room, self.person]).permutation(108) % 6
        pixels = palette[places].astype(np.uint8).reshape(9, 12, 3)
        return Image.fromarray(pixels).resize(self.size, Image.Resampling.NEAREST)


def alone(count: int) -> NDArray[np.int64]:
    return np.arange(count)


def test_photographs_of_one_room_are_one_event_whoever_is_in_it() -> None:
    scenes = [Scene(f"{room}-{person}", room, person) for room in range(8) for person in range(3)]
    groups = event_groups(scenes, alone(len(scenes)))
    np.testing.assert_array_equal(groups, np.repeat(np.arange(8), 3))


def test_groups_that_are_copies_already_stay_joined() -> None:
    scenes = [Scene("a", 1), Scene("b", 2), Scene("c", 1, 2)]
    np.testing.assert_array_equal(event_groups(scenes, np.array([0, 0, 1])), [0, 0, 0])


def test_what_was_made_of_one_original_stays_with_it() -> None:
    @dataclass(frozen=True)
    class Painted(Scene):
        origin: str = ""

    photographs = [
        Scene("a", 1),
        Scene("b", 2),
        Scene("a", 1, source="larxel_large"),
        Painted("b#7", 3, source="painted_larxel", origin="b"),
        Painted("a#0", 4, source="painted_larxel_large", origin="a"),
        Scene("a", 5, source="elsewhere"),
    ]
    groups = origin_groups(photographs, alone(6))
    np.testing.assert_array_equal(groups, [0, 1, 0, 1, 0, 2])


def test_larxels_self_portraits_are_one_event_and_others_of_that_size_are_not() -> None:
    portraits = [Scene(f"p{k}", 20 + k, size=SERIES_SIZE) for k in range(3)]
    others = [Scene(f"o{k}", 30 + k, size=SERIES_SIZE, source="other") for k in range(2)]
    groups = event_groups([*portraits, *others], alone(5))
    np.testing.assert_array_equal(groups, [0, 0, 0, 1, 2])


def test_a_look_does_not_depend_on_size_or_mirroring_of_its_colours() -> None:
    image = Scene("a", 5).open()
    large = image.resize((360, 270), Image.Resampling.NEAREST)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert looks_alike([Appearance(image), Appearance(large), Appearance(mirrored)]).all()
    other = Appearance(Scene("b", 6).open())
    assert not looks_alike([Appearance(image), other])[0, 1]
    plain = Appearance(Image.new("RGB", (20, 20), "white"))
    assert looks_alike([plain, plain]).all()


def test_planted_events_never_straddle_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six photographs of each of 12 rooms, with larger copies that are only trained on."""
    scenes = [Scene(f"{room}-{person}", room, person) for room in range(12) for person in range(6)]
    larger = [
        Scene(s.name, s.room, s.person, (240, 180), "larxel_large") for s in scenes if s.person < 4
    ]
    by_path = {"scenes": scenes, "larger": larger}
    monkeypatch.setattr(
        "tinygrad_mask.masks.classifier.runs.loading.open_datasets",
        lambda paths, *_, **__: [photograph for path in paths for photograph in by_path[path]],
    )

    def rooms_on_both_sides(group_by: str) -> int:
        data = load(
            ["scenes"],
            CropSettings(8),
            extra=["larger"],
            min_face=0,
            classes=None,
            other_coverings=None,
            seed=0,
            group_by=group_by,
        )
        folds = assign_folds(data, 4, 0)
        found = 0
        for fold in range(4):
            train, judged = (
                {data.faces.photographs[k].room for k in data.faces.photograph[side]}
                for side in sides_of_fold(data, folds, fold, 0)
            )
            assert judged
            found += len(train & judged)
        return found

    assert rooms_on_both_sides("photograph") > 10
    assert rooms_on_both_sides("event") == 0
