"""Pictures given with red and blue exchanged are noticed and said."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask import cli
from tinygrad_mask.masks import load_pretrained
from tinygrad_mask.masks.colour_order import (
    ColourOrderWarning,
    bgr_evidence,
    seems_exchanged,
    warn_if_exchanged,
)
from tinygrad_mask.masks.crops import CropSettings, crop_face
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs


def crops_of(photographs, size=48) -> NDArray[np.uint8]:
    settings = CropSettings(size)
    return np.stack(
        [crop_face(p.open(), face.box, settings) for p in photographs for face in p.faces]
    )


@pytest.fixture(scope="module")
def drawn() -> NDArray[np.uint8]:
    return crops_of(synthetic_photographs(80, seed=9))


def test_evidence_changes_its_sign_when_colours_are_exchanged(drawn):
    np.testing.assert_allclose(bgr_evidence(drawn[..., ::-1]), -bgr_evidence(drawn), atol=1e-12)
    np.testing.assert_allclose(bgr_evidence(drawn[:, :, ::-1]), bgr_evidence(drawn), atol=1e-12)
    grey = np.repeat(drawn[..., :1], 3, axis=3)
    np.testing.assert_array_equal(bgr_evidence(grey), 0)


def test_drawn_faces_are_told_apart(drawn):
    exchanged = [seems_exchanged(crop[None, ..., ::-1]) for crop in drawn]
    as_they_are = [seems_exchanged(crop[None]) for crop in drawn]
    assert np.mean(exchanged) > 0.75
    assert np.mean(as_they_are) < 0.05
    # Several faces together leave no doubt.
    assert seems_exchanged(drawn[:10, ..., ::-1])
    assert not seems_exchanged(drawn[:10])


def test_without_faces_or_cells_there_is_no_evidence():
    assert not seems_exchanged(np.zeros((0, 48, 48, 3), np.uint8))
    assert not seems_exchanged(np.zeros((2, 4, 4, 3), np.uint8))


@pytest.mark.parametrize("size", [6, 16, 40, 47])
def test_any_size_of_crop(size):
    skin = np.full((1, size, size, 3), (200, 150, 120), np.uint8)
    assert bgr_evidence(skin)[0] < 0 < bgr_evidence(skin[..., ::-1])[0]


def test_the_warning_names_the_argument(drawn):
    with pytest.warns(ColourOrderWarning, match="got what looks like blue, green, red; pass bgr="):
        warn_if_exchanged(drawn[:10, ..., ::-1], bgr=False)
    with pytest.warns(ColourOrderWarning, match=r"red, green, blue; leave bgr=True out"):
        warn_if_exchanged(drawn[:10, ..., ::-1], bgr=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_exchanged(drawn[:10], bgr=False)


def test_predict_warns_of_arrays_and_not_of_pictures():
    classifier = load_pretrained()
    pictures = [p.open() for p in synthetic_photographs(120, seed=2) if p.portrait][:8]
    arrays = [np.asarray(picture) for picture in pictures]
    exchanged = [array[..., ::-1] for array in arrays]
    with pytest.warns(ColourOrderWarning, match="pass bgr=True") as caught:
        classifier.predict(exchanged)
    assert caught[0].filename == __file__
    with pytest.warns(ColourOrderWarning, match="leave bgr=True out"):
        classifier.predict(arrays, bgr=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = classifier.predict(exchanged, bgr=True)
        same = classifier.predict(pictures)
    for one, other in zip(right, same, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_the_command_says_so_on_standard_error(tmp_path: Path, capsys):
    pictures = [p.open() for p in synthetic_photographs(120, seed=2) if p.portrait][:8]
    for name, step in (("right", 1), ("exchanged", -1)):
        for k, picture in enumerate(pictures):
            pixels = np.ascontiguousarray(np.asarray(picture)[..., ::step])
            Image.fromarray(pixels).save(tmp_path / f"{name}{k}.png")
        assert cli.main(["predict", *map(str, sorted(tmp_path.glob(f"{name}*.png")))]) == 0
        said = "red and blue seem to be exchanged" in capsys.readouterr().err
        assert said == (name == "exchanged")


def test_real_faces_are_told_apart(photographs: Path):
    found = [p for p in open_dataset(photographs / "larxel", DataIssues()) if len(p.faces) < 3]
    crops = crops_of(found[:200])
    exchanged = [seems_exchanged(crop[None, ..., ::-1]) for crop in crops]
    as_they_are = [seems_exchanged(crop[None]) for crop in crops]
    assert np.mean(exchanged) > 0.6
    assert np.mean(as_they_are) < 0.03
