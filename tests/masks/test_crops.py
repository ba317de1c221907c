import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.crops import (
    CropSettings,
    clip_box,
    crop_face,
    crop_with_border,
    face_size,
)


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


sizes = st.integers(1, 40)
# Eighths of a pixel are exact in floating point, whatever is added to them.
eighths = st.integers(0, 8 * 60).map(lambda n: n / 8)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x1, x2 = sorted(draw(st.lists(eighths, min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(draw(st.lists(eighths, min_size=2, max_size=2, unique=True)))
    return x1, y1, x2, y2


@given(sizes, st.integers(1, 5), st.integers(12, 30), st.integers(12, 30))
def test_square_inside_equals_pillows_own_resize(
    size: int, factor: int, left: int, top: int
) -> None:
    photograph = Image.fromarray(noise(260, 240))
    box = (left, top, left + size * factor, top + size * factor)
    expected = photograph.resize((size, size), Image.Resampling.BICUBIC, box=box)
    np.testing.assert_array_equal(crop_face(photograph, box, CropSettings(size, 0)), expected)


def test_box_of_the_crops_own_size_is_copied_bit_for_bit() -> None:
    pixels = noise(30, 20)
    crop = crop_face(Image.fromarray(pixels), (5, 3, 17, 15), CropSettings(12, 0))
    np.testing.assert_array_equal(crop, pixels[3:15, 5:17])


@given(boxes(), sizes, st.sampled_from([0.0, 0.125, 0.25, 1.0]), st.data())
def test_crop_at_the_border_equals_that_of_the_padded_photograph(
    box: tuple[float, float, float, float], size: int, margin: float, data: st.DataObject
) -> None:
    pixels = noise(60, 60)
    beyond = 160 + data.draw(st.integers(0, 3))
    padded = np.pad(pixels, ((beyond, beyond), (beyond, beyond), (0, 0)), mode="edge")
    moved = tuple(corner + beyond for corner in box)
    settings = CropSettings(size, margin)
    np.testing.assert_array_equal(
        crop_face(Image.fromarray(pixels), box, settings),
        crop_face(Image.fromarray(padded), moved, settings),  # type: ignore[arg-type]
    )


@given(boxes(), sizes, st.integers(0, 50), st.integers(0, 50))
def test_moving_photograph_and_box_together_changes_nothing(
    box: tuple[float, float, float, float], size: int, right: int, down: int
) -> None:
    face = noise(140, 140)
    here = np.pad(face, ((0, 80), (0, 80), (0, 0)))
    there = np.roll(here, (down, right), axis=(0, 1))
    box = (box[0] + 40, box[1] + 40, box[2] + 40, box[3] + 40)
    moved = (box[0] + right, box[1] + down, box[2] + right, box[3] + down)
    settings = CropSettings(max(size, 8), 0)
    np.testing.assert_array_equal(
        crop_face(Image.fromarray(here), box, settings),
        crop_face(Image.fromarray(there), moved, settings),
    )


@given(boxes(), sizes)
def test_mirrored_photograph_gives_the_mirrored_crop(
    box: tuple[float, float, float, float], size: int
) -> None:
    pixels = noise(60, 60)
    mirrored = (60 - box[2], box[1], 60 - box[0], box[3])
    settings = CropSettings(size + 8, 0.2)
    # Pillow filters rows, then columns, and rounds after each. A half may round to either side in
    # the first pass; the second multiplies that by at most 1.25, the sum of the bicubic kernel's
    # absolute weights, and rounds again.
    np.testing.assert_allclose(
        crop_face(Image.fromarray(pixels), box, settings)[:, ::-1].astype(int),
        crop_face(Image.fromarray(pixels[:, ::-1].copy()), mirrored, settings).astype(int),
        atol=2,
    )


def test_edge_pixels_are_repeated_beyond_the_photograph() -> None:
    pixels = np.full((40, 20, 3), 200, np.uint8)
    crop = crop_face(Image.fromarray(pixels), (0, 0, 20, 40), CropSettings(16, 0.5))
    assert np.unique(crop).tolist() == [200]


def test_margin_is_added_on_every_side_of_the_longer_side() -> None:
    pixels = noise(100, 100)
    # 20 high, margin 5 on either side: a square of 30 about (50, 50).
    crop = crop_face(Image.fromarray(pixels), (45, 40, 55, 60), CropSettings(30, 0.25))
    np.testing.assert_array_equal(crop, pixels[35:65, 35:65])


def test_without_a_box_the_whole_picture_is_made_square_by_its_edges() -> None:
    pixels = noise(10, 6)
    crop = crop_face(Image.fromarray(pixels), None, CropSettings(10, 0.2))
    np.testing.assert_array_equal(crop, np.pad(pixels, ((2, 2), (0, 0), (0, 0)), mode="edge"))


def test_box_is_clipped_before_it_grows() -> None:
    photograph = Image.fromarray(noise(50, 50))
    settings = CropSettings(16, 0.2)
    np.testing.assert_array_equal(
        crop_face(photograph, (30, 30, 58, 51), settings),
        crop_face(photograph, (30, 30, 50, 50), settings),
    )


@pytest.mark.parametrize("shape", [(200_000, 1), (1, 200_000)])
def test_very_long_picture_costs_no_square_of_its_length(shape: tuple[int, int]) -> None:
    crop = crop_face(Image.new("RGB", shape, (1, 2, 3)), None, CropSettings(8, 0))
    assert np.unique(crop.reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]


def test_averaging_a_huge_face_first_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:1500, :1500]
    waves = (127 + 60 * np.sin(x / 90) + 60 * np.cos(y / 70)).astype(np.uint8)
    photograph = Image.fromarray(np.stack([waves, waves.T, waves], axis=-1))
    box = (3.5, 7.25, 1403.5, 1407.25)
    exact = crop_face(photograph, box, CropSettings(16, 0.1))
    monkeypatch.setattr("tinygrad_mask.masks.crops._LARGEST_WINDOW", 256)
    averaged = crop_face(photograph, box, CropSettings(16, 0.1))
    assert not np.array_equal(averaged, exact)
    assert np.abs(averaged.astype(int) - exact).max() <= 6


@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 10, 20),
        (20, 10, 10, 20),
        (50, 0, 60, 10),
        (-9, 0, 0, 10),
        (0, 0, float("nan"), 10),
        (0, 0, float("inf"), 10),
    ],
)
def test_box_without_area_inside_is_an_error(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="has no area inside the photograph, 50 x 40"):
        crop_face(Image.new("RGB", (50, 40)), box, CropSettings())


def test_clip_box_and_face_size() -> None:
    assert clip_box((-1, 5, 401, 30), 400, 300) == (0, 5, 400, 30)
    assert face_size((0, 5, 400, 30)) == 25


@pytest.mark.parametrize(("size", "margin"), [(0, 0.2), (48, -0.1), (48, float("nan"))])
def test_impossible_settings_are_refused(size: int, margin: float) -> None:
    with pytest.raises(ValueError, match=r"crop .* expects"):
        CropSettings(size, margin)


@given(boxes(), st.integers(4, 30), st.integers(0, 9), st.floats(0, 0.5))
def test_middle_of_a_cut_with_a_border_is_the_crop_to_the_bit(
    box: tuple[float, float, float, float], size: int, border: int, margin: float
) -> None:
    photograph = Image.fromarray(noise(60, 60))
    settings = CropSettings(size, margin)
    cut = crop_with_border(photograph, box, settings, border)
    assert cut.shape == (size + 2 * border, size + 2 * border, 3)
    middle = cut[border : border + size, border : border + size]
    np.testing.assert_array_equal(middle, crop_face(photograph, box, settings))


def test_border_is_of_the_photograph_in_the_crops_scale() -> None:
    pixels = noise(100, 100)
    # A square of 30 about (50, 50), and 7 more on each side.
    photograph, box = Image.fromarray(pixels), (45.0, 40.0, 55.0, 60.0)
    cut = crop_with_border(photograph, box, CropSettings(30, 0.25), 7)
    np.testing.assert_array_equal(cut, pixels[28:72, 28:72])
    smooth = np.repeat(np.arange(100, dtype=np.uint8)[:, None], 100, axis=1)
    photograph = Image.fromarray(np.stack([smooth, smooth.T, smooth], axis=-1))
    cut = crop_with_border(photograph, box, CropSettings(15, 0.25), 5)  # two pixels a pixel
    expected = 25 + 2 * np.arange(25) + 0.5
    np.testing.assert_allclose(cut[:, 12, 0], expected, atol=0.5)
    np.testing.assert_allclose(cut[12, :, 1], expected, atol=0.5)


@pytest.mark.parametrize(
    ("mode", "as_array"),
    [
        *((mode, False) for mode in ("RGB", "RGBA", "L", "LA", "P")),
        *((mode, True) for mode in ("RGB", "RGBA", "L")),
    ],
)
def test_pictures_of_other_modes_are_cut_as_their_rgb_is(mode: str, as_array: bool) -> None:
    settings, box = CropSettings(8, 0.25), (3.0, 2.0, 20.0, 30.0)
    picture = Image.fromarray(noise(32, 40)).convert(mode)
    given_as = np.asarray(picture) if as_array else picture
    expected = crop_face(picture.convert("RGB"), box, settings)
    assert crop_face(given_as, box, settings).shape == (8, 8, 3)
    np.testing.assert_array_equal(crop_face(given_as, box, settings), expected)
    assert crop_with_border(given_as, box, settings, 2).shape == (12, 12, 3)
    assert crop_face(given_as, None, settings).shape == (8, 8, 3)
