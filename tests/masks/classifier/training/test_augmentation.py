"""Crops varied at random."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinygrad_mask.masks.classifier.training import augmentation as module
from tinygrad_mask.masks.classifier.training.augmentation import Augmentation, augment

NONE = Augmentation(**{field.name: 0 for field in dataclasses.fields(Augmentation)})


def only(**changes):
    return dataclasses.replace(NONE, **changes)


def noise(n, side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def ramp(side, count):
    """Crops whose red grows to the right and whose green grows downwards, blue as red."""
    right = np.tile(np.linspace(60, 180, side), (side, 1))
    return np.tile(np.stack([right, right.T, right], axis=-1).astype(np.uint8), (count, 1, 1, 1))


shares = st.floats(0, 1)
augmentations = st.builds(
    Augmentation,
    rotation=st.floats(0, 180),
    **{f.name: shares for f in dataclasses.fields(Augmentation) if f.name != "rotation"},
)


class TestAll:
    @given(st.integers(0, 5), st.integers(1, 40), st.integers(0, 9), augmentations)
    def test_shape_and_dtype_and_what_was_given_stay(self, n, size, border, augmentation):
        cuts = noise(n, size + 2 * border)
        before = cuts.copy()
        result = augment(cuts, size, augmentation, np.random.default_rng(0))
        assert result.shape == (n, size, size, 3)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(cuts, before)

    @given(st.integers(1, 20), st.integers(0, 9))
    def test_none_is_the_crop_in_the_middle(self, size, border):
        cuts = noise(3, size + 2 * border)
        middle = cuts[:, border : border + size, border : border + size]
        np.testing.assert_array_equal(augment(cuts, size, NONE, np.random.default_rng(0)), middle)

    def test_is_seeded(self):
        def result(seed):
            return augment(noise(8, 24), 16, Augmentation(), np.random.default_rng(seed))

        np.testing.assert_array_equal(result(1), result(1))
        assert (result(1) != result(2)).mean() > 0.5

    def test_crops_of_a_batch_are_varied_each_by_itself(self):
        result = augment(ramp(32, 50), 32, Augmentation(), np.random.default_rng(0))
        assert len(np.unique(result.reshape(50, -1), axis=0)) == 50

    def test_a_plain_colour_between_black_and_white_stays_plain(self):
        plain = np.full((40, 24, 24, 3), (90, 120, 150), np.uint8)
        augmentation = dataclasses.replace(Augmentation(), erase=0)
        result = augment(plain, 16, augmentation, np.random.default_rng(0))
        spread = result.reshape(40, -1, 3).astype(int)
        assert (spread.max(axis=1) - spread.min(axis=1)).max() <= 1  # a rounding of the blur

    @pytest.mark.parametrize(
        ("field", "value"), [("mirror", 1.5), ("rotation", 181.0), ("erase", -0.1), ("cast", 2.0)]
    )
    def test_what_cannot_be_done_is_refused(self, field, value):
        with pytest.raises(ValueError, match=f"expected {field} from 0 to"):
            Augmentation(**{field: value})

    @pytest.mark.parametrize("side", [15, 19])
    def test_a_cut_must_be_the_crop_and_a_border(self, side):
        with pytest.raises(ValueError, match=f"expected cuts of 16 pixels .* got {side}"):
            augment(noise(1, side), 16, NONE, np.random.default_rng(0))

    def test_a_border_is_kept_only_for_what_moves(self):
        assert Augmentation(border=0.25).border_pixels(40) == 10
        assert only(mirror=0.5, border=0.25).border_pixels(40) == 0


class TestPlace:
    def test_mirrors_about_half_to_the_pixel(self):
        cuts = noise(200, 9)
        result = augment(cuts, 9, only(mirror=0.5), np.random.default_rng(0))
        mirrored = (result == cuts[:, :, ::-1]).all(axis=(1, 2, 3))
        assert ((result == cuts).all(axis=(1, 2, 3)) ^ mirrored).all()
        assert 70 < mirrored.sum() < 130

    def test_never_upside_down(self):
        result = augment(ramp(32, 200), 32, Augmentation(erase=0), np.random.default_rng(0))
        assert (result[:, 28, 16, 1].astype(int) > result[:, 4, 16, 1]).all()

    def test_moves_by_no_more_than_the_shift(self):
        cuts = ramp(61, 300)  # two grey levels a pixel
        result = augment(cuts, 41, only(shift=0.1, border=0.25), np.random.default_rng(0))
        moved = (result[:, 20, 20, :2].astype(float) - 120) / 2
        assert 3.5 < abs(moved).max() <= 4.1 + 0.25  # of a pixel, by rounding to grey levels
        assert abs(moved.mean(axis=0)).max() < 0.5

    def test_turns_by_no_more_than_the_rotation(self):
        cuts = ramp(61, 300)
        result = augment(cuts, 41, only(rotation=20, border=0.25), np.random.default_rng(0))
        red = result[..., 0].astype(float)
        right, down = red[:, 20, 40] - red[:, 20, 0], red[:, 40, 20] - red[:, 0, 20]
        angle = np.degrees(np.arctan2(down, right))
        assert 18 < abs(angle).max() < 20.5
        np.testing.assert_allclose(np.hypot(right, down), 80, atol=2)

    def test_makes_larger_and_smaller_by_no_more_than_the_scale(self):
        cuts = ramp(61, 300)
        result = augment(cuts, 41, only(scale=0.25, border=0.25), np.random.default_rng(0))
        factor = 80 / (result[:, 20, 40, 0].astype(float) - result[:, 20, 0, 0])
        assert 1 / 1.28 < factor.min() < 1 / 1.2
        assert 1.2 < factor.max() < 1.28

    @given(st.integers(0, 99))
    def test_pixels_between_others_are_bilinear_and_the_edge_is_repeated(self, seed):
        rng = np.random.default_rng(seed)
        images = noise(3, 7, seed)
        x, y = rng.uniform(-3, 10, (2, 3, 5, 4))
        result = module._sample(images, x, y)
        fine_x, fine_y = np.rint(x * 16) / 16, np.rint(y * 16) / 16
        for index in np.ndindex(result.shape):
            image, channel = images[index[0], :, :, index[3]].astype(float), index[3]
            px, py = fine_x[index[:3]].clip(0, 6), fine_y[index[:3]].clip(0, 6)
            along_x = [np.interp(px, np.arange(7), row) for row in image]
            expected = np.interp(py, np.arange(7), along_x)
            assert abs(result[index] - expected) <= 0.5 + 1e-9, (index, channel)


class TestFocus:
    def test_softens_about_its_share_and_keeps_the_mean(self):
        cuts = noise(300, 24)
        result = augment(cuts, 24, only(soften=0.3), np.random.default_rng(0))
        changed = (result != cuts).any(axis=(1, 2, 3))
        assert 60 < changed.sum() < 120
        detail, before = (
            np.abs(np.diff(crops.astype(float), axis=2)).mean(axis=(1, 2, 3))[changed]
            for crops in (result, cuts)
        )
        assert (detail < before).all()
        assert np.median(detail) < 0.5 * np.median(before)
        means = result[changed].mean(axis=(1, 2, 3)) - cuts[changed].mean(axis=(1, 2, 3))
        assert abs(means).max() < 3

    @given(st.integers(1, 50))
    def test_a_plain_row_stays_what_it_is(self, size):
        matrices = module._softening_matrices(size)
        assert (matrices >= 0).all()
        np.testing.assert_allclose(matrices.sum(axis=2), 1, rtol=1e-5)

    def test_rows_and_columns_are_softened_alike(self):
        cuts = noise(20, 16)
        turned = cuts.transpose(0, 2, 1, 3).copy()
        softened = augment(cuts, 16, only(soften=1), np.random.default_rng(0))
        other = augment(turned, 16, only(soften=1), np.random.default_rng(0))
        np.testing.assert_allclose(softened.astype(int), other.transpose(0, 2, 1, 3), atol=1)


class TestLight:
    def test_brightness(self):
        cuts = np.full((200, 4, 4, 3), 100, np.uint8)
        result = augment(cuts, 4, only(brightness=0.2), np.random.default_rng(0)).astype(int)
        assert np.ptp(result, axis=(1, 2, 3)).max() == 0
        assert 45 < abs(result - 100).max() <= 51

    def test_contrast_keeps_the_mean(self):
        cuts = ramp(16, 200)
        result = augment(cuts, 16, only(contrast=0.5), np.random.default_rng(0)).astype(float)
        assert abs(result.mean(axis=(1, 2, 3)) - cuts.mean(axis=(1, 2, 3))).max() < 1
        factors = result.std(axis=(1, 2, 3)) / cuts.std(axis=(1, 2, 3))
        assert 0.49 < factors.min() < 0.55
        assert 1.45 < factors.max() < 1.51

    def test_saturation_keeps_grey_and_the_luma(self):
        grey = np.repeat(noise(50, 6)[..., :1], 3, axis=-1)
        result = augment(grey, 6, only(saturation=0.9), np.random.default_rng(0))
        np.testing.assert_array_equal(result, grey)
        colours = noise(50, 6) // 4 + 96  # so that nothing is cut off
        result = augment(colours, 6, only(saturation=0.9), np.random.default_rng(0))
        luma = [np.asarray(c, float) @ [0.299, 0.587, 0.114] for c in (result, colours)]
        np.testing.assert_allclose(*luma, atol=0.6)

    def test_cast_is_a_factor_of_each_colour(self):
        cuts = np.full((100, 2, 2, 3), 200, np.uint8)
        result = augment(cuts, 2, only(cast=0.2), np.random.default_rng(0)).astype(float)
        factors = result[:, 0, 0] / 200
        assert factors.min() >= 0.795
        assert factors.max() <= 1.205
        assert abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.35


class TestErasing:
    def test_paints_one_rectangle_of_one_colour(self):
        cuts = np.zeros((300, 20, 20, 3), np.uint8)
        result = augment(cuts, 20, only(erase=0.4), np.random.default_rng(0))
        painted = result.any(axis=3)
        erased = np.flatnonzero(painted.any(axis=(1, 2)))
        assert 80 < len(erased) < 160
        for crop, mask in zip(result[erased], painted[erased], strict=True):
            rows, columns = mask.any(axis=1), mask.any(axis=0)
            np.testing.assert_array_equal(mask, rows[:, None] & columns[None, :])
            assert 1 <= rows.sum() <= 8
            assert 1 <= columns.sum() <= 8
            assert len(np.unique(crop[mask], axis=0)) == 1


class TestFarAndDark:
    def test_reduces_to_few_pixels_and_keeps_the_mean(self):
        cuts = noise(60, 48)
        result = augment(cuts, 48, only(reduce=1), np.random.default_rng(0)).astype(float)
        detail = result.std(axis=(1, 2)).mean(axis=1) / cuts.astype(float).std()
        assert detail.min() < 0.12  # the mean of a sixth of the pixels each way
        assert detail.max() > 0.3
        np.testing.assert_allclose(result.mean(axis=(1, 2)), cuts.mean(axis=(1, 2)), atol=4)

    def test_a_reduced_crop_is_what_a_distant_face_becomes(self):
        """Against Pillow: reduced to k pixels by their means, and enlarged linearly."""
        picture = Image.fromarray(noise(1, 48)[0])
        by_hand = picture.resize((12, 12), Image.Resampling.BOX)
        by_hand = by_hand.resize((48, 48), Image.Resampling.BILINEAR)
        matrix = module._reduction(48, 0.25)
        matrix = matrix / matrix.sum(axis=1, keepdims=True)
        pixels = np.asarray(picture, float)
        ours = np.einsum("yh,xw,hwc->yxc", matrix, matrix, pixels)
        np.testing.assert_allclose(ours, np.asarray(by_hand, float), atol=2)  # it rounds twice

    def test_night_is_dark_and_grainy(self):
        plain = np.full((200, 16, 16, 3), 200, np.uint8)
        result = augment(plain, 16, only(night=1), np.random.default_rng(0)).astype(float)
        level = result.mean(axis=(1, 2, 3))
        assert 0.10 * 200 < level.min() < 40
        assert 100 < level.max() < 0.62 * 200
        grain = result.std(axis=(1, 2)).mean(axis=1)
        assert 0.5 < grain.min() < 2
        assert 7 < grain.max() < 10

    def test_only_the_share_is_darkened(self):
        plain = np.full((400, 8, 8, 3), 200, np.uint8)
        result = augment(plain, 8, only(night=0.25), np.random.default_rng(0))
        assert 60 < (result.mean(axis=(1, 2, 3)) < 190).sum() < 140

    def test_pictures_that_end_at_the_face_repeat_their_edges(self):
        cuts = noise(300, 48)
        result = augment(cuts, 48, only(cut_off=1), np.random.default_rng(0))
        columns = (result == result[:, :, :1]).all(axis=(1, 3)).sum(axis=1)
        rows = (result == result[:, -1:]).all(axis=(2, 3)).sum(axis=1)
        assert 8 < columns.max() <= 0.2 * 48 + 1
        assert 4 < rows.max() <= 0.12 * 48 + 1  # no nearer than the chin
        assert 0.2 < (columns > 1).mean() < 0.5
        inner = slice(17, 31)  # the face itself stays
        np.testing.assert_array_equal(result[:, inner, inner], cuts[:, inner, inner])
