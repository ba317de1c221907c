"""What users complain about, by name: that the slices show it, and what the shipped model makes
of it."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask.masks import load_pretrained
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics
from tinygrad_mask.masks.classifier.evaluation.slices import (
    CHANGED_SLICES,
    DRAWN_SLICES,
    FAR_FACE,
    drawn_pair,
    from_farther_away,
    in_bgr,
    in_low_light,
    judge_slice,
)
from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED_FILE
from tinygrad_mask.masks.crops import CropSettings, crop_face, face_size
from tinygrad_mask.masks.images import read_image

FIGURES = Path(__file__).parents[4] / "docs" / "model_card.json"
PAIRS = 12


def draw_pairs(name):
    return [drawn_pair(name, index, seed=3) for index in range(PAIRS)]


pairs_of = cache(draw_pairs)


def crops_of(name):
    """The crops of a slice's pairs, (PAIRS, 2, s, s, 3), and their labels."""
    settings = CropSettings(48, 0.0)
    crops = [
        [crop_face(face.picture, face.box, settings) for face in pair] for pair in pairs_of(name)
    ]
    return np.array(crops, np.float64), [face.label for face, _ in pairs_of(name)]


@pytest.mark.parametrize("name", DRAWN_SLICES)
def test_pairs_have_one_label_and_the_same_bits_each_time(name):
    for first, second in zip(pairs_of(name), draw_pairs(name), strict=True):
        for face, again in zip(first, second, strict=True):
            assert face.picture.tobytes() == again.picture.tobytes()
            assert (face.box, face.label) == (again.box, again.label)
        assert first[0].label == first[1].label
    labels = {face.label for face, _ in pairs_of(name)}
    expected = {"none"} if name == "hand before the mouth" else {"proper", "improper", "none"}
    assert labels == expected


@pytest.mark.parametrize("name", ["black mask", "patterned mask"])
def test_bare_faces_are_alike_in_both_halves_of_a_slice_of_masks(name):
    crops, labels = crops_of(name)
    for (one, other), label in zip(crops, labels, strict=True):
        assert (one == other).all() == (label == "none")


def test_dark_skin():
    crops, _ = crops_of("dark skin")
    # About the eyes, which no mask hides.
    bright = crops[:, :, 12:20, 10:38].mean(axis=(2, 3, 4))
    assert (bright[:, 0] < 0.75 * bright[:, 1]).mean() > 0.9


def test_beard():
    crops, labels = crops_of("beard")
    for (one, other), label in zip(crops, labels, strict=True):
        differs = np.abs(one - other).max(axis=-1) > 8
        assert not differs[:16].any()  # nothing but the lower half of the face
        if label == "none":
            assert differs[30:].mean() > 0.05


def test_black_mask():
    crops, labels = crops_of("black mask")
    for (one, other), label in zip(crops, labels, strict=True):
        if label == "proper":
            assert one[30:40, 16:32].mean() < 0.5 * other[30:40, 16:32].mean()


def test_patterned_mask():
    crops, labels = crops_of("patterned mask")
    spread = crops[:, :, 28:42, 14:34].std(axis=(2, 3)).mean(axis=-1)
    masked = np.array(labels) == "proper"
    assert (spread[masked, 0] > spread[masked, 1]).mean() > 0.9


def test_a_hand_before_the_mouth():
    crops, _ = crops_of("hand before the mouth")
    differs = np.abs(crops[:, 0] - crops[:, 1]).max(axis=-1) > 2
    # A hand is of the face's own colour, so not every pixel of it differs.
    assert (differs[:, 30:44, 12:36].mean(axis=(1, 2)) > 0.3).mean() > 0.8
    assert differs[:, :12].mean() < 0.05


def test_profile_view():
    for turned, straight in pairs_of("profile view"):
        # A head turned aside shows what is behind the ear: its box is as high, and not as wide.
        widths = [(face.box[2] - face.box[0]) for face in (turned, straight)]
        assert widths[0] != widths[1]
    crops, _ = crops_of("profile view")
    lopsided = np.abs(crops - crops[:, :, :, ::-1]).mean(axis=(2, 3, 4))
    assert lopsided[:, 0].mean() > 1.3 * lopsided[:, 1].mean()


def test_low_light(photographs):
    picture = read_image(photographs / "larxel" / "images" / "maksssksksss0.jpg")
    box = (79.0, 105.0, 109.0, 142.0)
    dark, same = in_low_light(picture, box, np.random.default_rng(0))
    assert same == box
    before, after = (np.asarray(image, np.float64) for image in (picture, dark))
    assert after.mean() == pytest.approx(0.2 * before.mean(), rel=0.1)
    smooth = np.abs(np.diff(after, axis=0)).mean() / np.abs(np.diff(before, axis=0)).mean()
    assert smooth > 0.25  # it is grainier than it is dark


@pytest.mark.parametrize("size", [(100, 80), (37, 300)])
def test_small_faces(size):
    picture = Image.new("RGB", size, "red")
    box = (5.0, 10.0, 35.0, 70.0)
    small, there = from_farther_away(picture, box, np.random.default_rng(0))
    assert face_size(there) == pytest.approx(FAR_FACE, rel=0.05)
    assert small.width == pytest.approx(size[0] * FAR_FACE / 30, abs=1)
    # The face covers the same part of the picture.
    for corner, before, side, now in zip(there, box, size * 2, small.size * 2, strict=True):
        assert corner / now == pytest.approx(before / side)


def test_rgb_against_bgr(tmp_path):
    """Pictures are RGB wherever they come from; red in a file is red in a crop."""
    Image.new("RGB", (20, 20), (250, 40, 10)).save(tmp_path / "red.png")
    picture = read_image(tmp_path / "red.png")
    crop = crop_face(picture, None, CropSettings(8))
    assert crop[4, 4].tolist() == [250, 40, 10]
    swapped, box = in_bgr(picture, (1.0, 2.0, 3.0, 4.0), np.random.default_rng(0))
    assert np.asarray(swapped)[4, 4].tolist() == [10, 40, 250]
    assert box == (1.0, 2.0, 3.0, 4.0)
    assert len(CHANGED_SLICES) == 3


@pytest.mark.parametrize("name", DRAWN_SLICES)
def test_the_shipped_model_makes_of_it_what_its_card_says(name):
    if not (PRETRAINED_FILE.exists() and FIGURES.exists()):
        pytest.skip("this copy of the package has no trained weights, or no model card")
    slices = json.loads(FIGURES.read_text())["slices"]
    pairs = [drawn_pair(name, k, slices["drawn_seed"]) for k in range(slices["drawn_pairs"])]
    classifier = load_pretrained()
    for half, faces in zip(("with", "without"), zip(*pairs, strict=True), strict=True):
        said = Metrics.from_json(slices["drawn"][name][half])
        assert judge_slice(classifier, faces).accuracy == pytest.approx(said.accuracy, abs=0.02)
