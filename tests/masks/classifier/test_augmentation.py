"""Crops varied at random."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask.masks.classifier.augmentation import augment


def crops(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


@given(st.integers(0, 5), st.integers(1, 40), st.integers(0, 99))
def test_shape_dtype_and_input_stay(n, size, seed):
    given_crops = crops(n, size)
    before = given_crops.copy()
    result = augment(given_crops, np.random.default_rng(seed))
    assert result.shape == before.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(given_crops, before)


def test_is_seeded():
    same = [augment(crops(8, 16), np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert (augment(crops(8, 16), np.random.default_rng(2)) != same[0]).any()


def test_each_crop_is_varied_by_itself_and_stays_itself():
    # A ramp to the right and one downwards: which way they point tells what was mirrored.
    ramp = np.linspace(60, 180, 32)
    crop = np.stack([ramp[None, :] + 0 * ramp[:, None], ramp[:, None] + 0 * ramp[None, :]], axis=-1)
    crop = np.concatenate([crop, crop[..., :1]], axis=-1).astype(np.uint8)
    result = augment(np.tile(crop, (200, 1, 1, 1)), np.random.default_rng(0)).astype(float)
    to_the_right = np.sign(result[:, 16, 24, 0] - result[:, 16, 8, 0])
    assert 70 < (to_the_right > 0).sum() < 130
    assert (result[:, 24, 16, 1] > result[:, 8, 16, 1]).all()  # never upside down
    means = result.mean(axis=(1, 2, 3)) - crop.mean()
    assert means.min() < -10
    assert means.max() > 10
    assert abs(means).max() < 25 + 2 * 4 + 1  # the light, and a shift of two pixels along a ramp
