"""The synthetic data set: reproducible, well labelled, and without a shortcut to the label."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from itertools import combinations
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from tinygrad_mask.masks.datasets.drawing import traits as drawn
from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.datasets.synthetic import (
    DAYLIGHT,
    FACE_HEIGHTS,
    FaceTraits,
    SyntheticPhotograph,
    draw_face,
    synthetic_photographs,
)
from tinygrad_mask.masks.labels import LABELS

HEIGHT = 96
WORN: tuple[drawn.Worn, ...] = get_args(drawn.Worn)
CHOICES: dict[str, Any] = {
    "worn": drawn.Worn,
    "mask": drawn.MaskKind,
    "mask_pattern": drawn.MaskPattern,
    "hair": drawn.Hair,
    "headwear": drawn.Headwear,
    "beard": drawn.Beard,
    "glasses": drawn.Glasses,
    "held": drawn.Held,
}
LOWER_FACE = tuple(worn for worn in WORN if worn != "on the forehead")


@pytest.fixture(scope="module")
def sampled() -> list[FaceTraits]:
    rng = np.random.default_rng(20)
    return [drawn.sample_traits(rng) for _ in range(4000)]


@pytest.fixture(scope="module")
def photographs() -> list[SyntheticPhotograph]:
    return synthetic_photographs(200, seed=3)


def pixels(photograph: Photograph) -> bytes:
    return photograph.open().tobytes()


def plain_face(**changes: Any) -> FaceTraits:
    """A bald face seen from the front, with nothing before it but the changes."""
    traits = drawn.sample_traits(np.random.default_rng(1))
    plain: dict[str, Any] = {
        "worn": "not worn",
        "hand": False,
        "mask": "surgical",
        "mask_pattern": "plain",
        "mask_colour": (0.55, 0.76, 0.9),
        "mask_slack": 0.5,
        "mask_size": 1.0,
        "mask_tilt": 0.0,
        "held": "nothing",
        "age": 0.3,
        "visor": False,
        "skin": 0.3,
        "yaw": 0.0,
        "pitch": 0.0,
        "roll": 0.0,
        "hair": "bald",
        "headwear": "nothing",
        "beard": "none",
        "glasses": "none",
        "scarf": False,
    }
    return replace(traits, **(plain | changes))


def drawn_pixels(traits: FaceTraits) -> NDArray[np.int64]:
    return np.asarray(draw_face(traits, HEIGHT)[0], np.int64)


def patch_of_face(traits: FaceTraits, x: float, y: float) -> NDArray[np.int64]:
    """5x5 pixels about a spot, given as fractions of the face's box."""
    image, (x1, y1, x2, y2) = draw_face(traits, HEIGHT)
    column, row = round(x1 + x * (x2 - x1)), round(y1 + y * (y2 - y1))
    return np.asarray(image, np.int64)[row - 2 : row + 3, column - 2 : column + 3]


def test_a_photograph_has_the_same_bits_each_time_and_from_any_thread() -> None:
    once = [pixels(photograph) for photograph in synthetic_photographs(6, seed=5)]
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(pixels, synthetic_photographs(6, seed=5)))
    assert once == again


def test_a_photograph_does_not_depend_on_the_count() -> None:
    assert synthetic_photographs(9, seed=5)[:4] == synthetic_photographs(4, seed=5)


def test_seeds_and_positions_give_different_photographs() -> None:
    five, six = synthetic_photographs(3, seed=5), synthetic_photographs(3, seed=6)
    assert len({pixels(photograph) for photograph in five + six}) == 6
    assert len({photograph.name for photograph in five + six}) == 6


def test_it_is_a_photograph_in_rgb_of_the_size_it_says(
    photographs: list[SyntheticPhotograph],
) -> None:
    photograph: Photograph = photographs[0]
    image = photograph.open()
    assert (image.mode, image.size) == ("RGB", photographs[0].size)
    assert photograph.source == "synthetic"
    assert photograph.ignored == ()


def test_boxes_lie_inside_their_photographs_and_apart(
    photographs: list[SyntheticPhotograph],
) -> None:
    for photograph in photographs:
        width, height = photograph.size
        boxes = [face.box for face in photograph.faces]
        assert 1 <= len(boxes) <= 3
        for x1, y1, x2, y2 in filter(None, boxes):
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert FACE_HEIGHTS[0] - 0.01 <= y2 - y1 <= FACE_HEIGHTS[1] + 0.01
        for one, other in combinations(filter(None, boxes), 2):
            assert (
                one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            )
    assert {len(photograph.faces) for photograph in photographs} == {1, 2, 3}


def test_the_label_says_how_the_mask_is_worn(photographs: list[SyntheticPhotograph]) -> None:
    for photograph in photographs:
        labels = [face.label for face in photograph.faces]
        assert labels == [person.traits.label for person in photograph.people]
    assert {worn: plain_face(worn=worn).label for worn in WORN} == {
        "over nose and mouth": "proper",
        "under the nose": "improper",
        "under the mouth": "improper",
        "on the chin": "improper",
        "under the chin": "improper",
        "from one ear": "improper",
        "on the forehead": "improper",
        "not worn": "none",
    }


@pytest.mark.parametrize("yaw", [-60.0, 0.0, 35.0])
@pytest.mark.parametrize("roll", [-20.0, 10.0])
def test_the_box_holds_the_face_and_little_else(yaw: float, roll: float) -> None:
    light, dark = (plain_face(hair="short", skin=skin, yaw=yaw, roll=roll) for skin in (0.0, 1.0))
    skin = np.abs(drawn_pixels(light) - drawn_pixels(dark)).sum(axis=2) > 60
    x1, y1, x2, y2 = draw_face(light, HEIGHT)[1]
    # Between the brow and the chin there is no neck beside the face, only ears.
    rows = skin[round(y1 + 0.25 * HEIGHT) : round(y1 + 0.6 * HEIGHT)]
    columns = np.flatnonzero(rows.any(axis=0))
    slack = 0.2 * (x2 - x1)
    assert x1 - slack <= columns[0] <= x1 + slack
    assert x2 - slack <= columns[-1] <= x2 + slack
    assert skin[round(y1) : round(y2), round(x1) : round(x2)].mean() > 0.6


def test_labels_are_balanced(sampled: list[FaceTraits]) -> None:
    labels = [traits.label for traits in sampled]
    for label in LABELS:
        assert labels.count(label) / len(labels) == pytest.approx(1 / 3, abs=0.03)


def test_every_choice_of_every_trait_occurs(sampled: list[FaceTraits]) -> None:
    for name, options in CHOICES.items():
        assert {getattr(traits, name) for traits in sampled} == set(get_args(options)), name
    assert {traits.hand for traits in sampled} == {False, True}
    assert {traits.scarf for traits in sampled} == {False, True}
    assert any(abs(traits.yaw) > 60 for traits in sampled)


def test_a_hand_at_a_mask_leaves_its_middle_visible() -> None:
    for worn in ("over nose and mouth", "under the nose"):
        alone, held = plain_face(worn=worn), plain_face(worn=worn, hand=True)
        assert np.array_equal(patch_of_face(alone, 0.5, 0.74), patch_of_face(held, 0.5, 0.74))
        assert (drawn_pixels(alone) != drawn_pixels(held)).mean() > 0.02


@pytest.mark.parametrize("worn", ["not worn", "under the chin", "from one ear"])
def test_a_cup_is_at_bare_lips_only(worn: drawn.Worn) -> None:
    bare, drinking = plain_face(worn=worn), plain_face(worn=worn, held="cup")
    assert np.abs(patch_of_face(bare, 0.5, 0.8) - patch_of_face(drinking, 0.5, 0.8)).mean() > 5
    masked = [plain_face(worn="over nose and mouth", held=held) for held in ("nothing", "cup")]
    upper, lower = (patch_of_face(traits, 0.5, 0.8) for traits in masked)
    assert np.array_equal(upper, lower)


def categories(values: list[Any]) -> NDArray[np.int64]:
    """Values as small whole numbers: what has many (numbers, colours' brightness) in thirds."""
    if isinstance(values[0], tuple):
        values = [sum(value) for value in values]
    distinct, codes = np.unique(np.array(values), return_inverse=True)
    if len(distinct) > 6:
        codes = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), np.array(values))
    return codes.astype(np.int64)


@pytest.mark.parametrize(
    "trait", [field.name for field in fields(FaceTraits) if field.name != "worn"]
)
def test_no_trait_gives_the_label_away(trait: str, sampled: list[FaceTraits]) -> None:
    values = categories([getattr(traits, trait) for traits in sampled])
    labels = categories([traits.label for traits in sampled])
    table = np.zeros((values.max() + 1, labels.max() + 1))
    np.add.at(table, (values, labels), 1)
    table = table[table.any(axis=1)]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / len(sampled)
    chi_square = ((table - expected) ** 2 / expected).sum()
    # Cramer's V; of independent traits it comes to about 0.03 for this many faces.
    assert np.sqrt(chi_square / len(sampled) / min(table.shape[0] - 1, 2)) < 0.06


def test_the_light_does_not_give_the_label_away(photographs: list[SyntheticPhotograph]) -> None:
    exposures = {
        label: [p.light.exposure for p in photographs for f in p.faces if f.label == label]
        for label in LABELS
    }
    means = [np.mean(exposures[label]) for label in LABELS]
    assert max(means) - min(means) < 0.1


@pytest.mark.parametrize("seed", range(8))
def test_how_the_mask_is_worn_changes_the_lower_face_only(seed: int) -> None:
    traits = drawn.sample_traits(np.random.default_rng(seed))
    traits = replace(traits, hand=False, held="nothing", roll=0.0)
    faces = [replace(traits, worn=worn) for worn in LOWER_FACE]
    top = draw_face(faces[0], HEIGHT)[1][1]
    for one, other in combinations(faces, 2):
        changed = (drawn_pixels(one) != drawn_pixels(other)).any(axis=(1, 2))
        rows = (np.flatnonzero(changed) - top) / HEIGHT
        assert rows.size > 0.04 * HEIGHT
        # The loops reach up to the ears; the mask itself starts below the eyes.
        assert rows.min() > 0.2


@pytest.mark.parametrize(
    ("worn", "nose_free", "mouth_free", "chin_free"),
    [
        ("over nose and mouth", False, False, False),
        ("under the nose", True, False, False),
        ("under the mouth", True, True, False),
        ("on the chin", True, True, False),
        ("on the forehead", True, True, True),
        ("from one ear", True, True, True),
    ],
)
def test_what_the_mask_leaves_free(
    worn: drawn.Worn, nose_free: bool, mouth_free: bool, chin_free: bool
) -> None:
    bare, masked = plain_face(), plain_face(worn=worn)
    for y, free in ((0.55, nose_free), (0.74, mouth_free), (0.94, chin_free)):
        change = np.abs(patch_of_face(bare, 0.5, y) - patch_of_face(masked, 0.5, y)).mean()
        assert change == 0 if free else change > 20


@pytest.mark.parametrize("worn", [worn for worn in WORN if worn != "not worn"])
def test_every_way_to_wear_a_mask_shows(worn: drawn.Worn) -> None:
    bare, masked = drawn_pixels(plain_face()), drawn_pixels(plain_face(worn=worn))
    assert (bare != masked).any(axis=2).mean() > 0.01


def test_a_portrait_is_one_face_as_large_as_its_picture(
    photographs: list[SyntheticPhotograph],
) -> None:
    portraits = [photograph for photograph in photographs if photograph.portrait]
    assert 0.15 < len(portraits) / len(photographs) < 0.35
    for photograph in portraits:
        (person,) = photograph.people
        assert photograph.faces[0].box is None
        assert (person.box[3] - person.box[1]) / photograph.size[1] > 0.45


def test_against_the_light_the_background_is_brighter_than_the_face() -> None:
    bright = [p for p in synthetic_photographs(400, seed=1) if p.light.behind > 1.3]
    assert len(bright) > 30
    assert all(photograph.light.exposure <= 0.75 for photograph in bright)


@pytest.mark.parametrize(
    "changes",
    [
        {"skin": 0.9},
        {"beard": "full"},
        {"glasses": "thick"},
        {"headwear": "hijab"},
        {"hair": "long"},
        {"mask_pattern": "checks"},
        {"mask": "folded"},
        {"mask_colour": (0.1, 0.1, 0.12)},
        {"scarf": True, "scarf_height": 0.5},
        {"visor": True},
        {"age": 0.9},
        {"held": "phone"},
    ],
)
def test_every_trait_shows(changes: dict[str, Any]) -> None:
    plain = drawn_pixels(plain_face(worn="under the nose"))
    changed = drawn_pixels(plain_face(worn="under the nose", **changes))
    assert ((plain - changed) != 0).mean() > 0.005


def test_a_hand_covers_the_mouth() -> None:
    bare, covered = plain_face(), plain_face(hand=True)
    assert np.abs(patch_of_face(bare, 0.5, 0.76) - patch_of_face(covered, 0.5, 0.76)).mean() > 10
    assert np.array_equal(patch_of_face(bare, 0.5, 0.3), patch_of_face(covered, 0.5, 0.3))


def test_low_light_is_dark() -> None:
    day = np.asarray(draw_face(plain_face(), HEIGHT)[0])
    night = np.asarray(draw_face(plain_face(), HEIGHT, replace(DAYLIGHT, exposure=0.4))[0])
    assert night.mean() < 0.8 * day.mean()


def test_bad_arguments_are_reported() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels, got 7"):
        draw_face(plain_face(), 7)
    with pytest.raises(ValueError, match="from 0 on, got -1 and 0"):
        synthetic_photographs(-1, 0)
    with pytest.raises(ValueError, match="from 0 on, got 1 and -2"):
        synthetic_photographs(1, -2)
