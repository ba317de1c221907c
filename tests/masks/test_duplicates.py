import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinygrad_mask.masks.duplicates import (
    HASH_WORDS,
    MAX_DISTANCE,
    copies_of,
    duplicate_groups,
    perceptual_hash,
)


def scene(seed: int) -> Image.Image:
    """Blurred blobs: smooth like a photograph, and different for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)


def distance(a: Image.Image, b: Image.Image) -> int:
    return int(np.bitwise_count(perceptual_hash(a) ^ perceptual_hash(b)).sum())


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


def test_copies_are_near_and_others_far() -> None:
    for seed in range(20):
        image = scene(seed)
        assert distance(image, recompressed(image)) <= MAX_DISTANCE
        assert distance(image, image.resize((160, 120), Image.Resampling.LANCZOS)) <= MAX_DISTANCE
        assert distance(image, image.resize((200, 200), Image.Resampling.BICUBIC)) <= MAX_DISTANCE
        assert distance(image, scene(seed + 100)) > 2 * MAX_DISTANCE
        assert distance(image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > MAX_DISTANCE


def test_plain_colours_hash_alike_whatever_their_size() -> None:
    for size in ((1, 1), (3, 500), (640, 480)):
        hashed = perceptual_hash(Image.new("RGB", size, (size[0] % 256, 80, 9)))
        assert hashed.dtype == np.uint64
        assert hashed.tolist() == [0] * HASH_WORDS


@given(st.integers(0, 3), st.lists(st.integers(0, 255), max_size=40), st.integers(0, 6))
def test_groups_are_the_connected_components(
    shift: int, values: list[int], max_distance: int
) -> None:
    hashes = np.zeros((len(values), HASH_WORDS), dtype=np.uint64)
    hashes[:, shift] = np.array(values, dtype=np.uint64) << np.uint64(50)
    expected: list[int] = [-1] * len(values)
    number = 0
    for start in range(len(values)):
        if expected[start] < 0:
            reached = [start]
            for a in reached:
                expected[a] = number
                for b, value in enumerate(values):
                    if b not in reached and (values[a] ^ value).bit_count() <= max_distance:
                        reached.append(b)
            number += 1
    assert duplicate_groups(hashes, max_distance).tolist() == expected


def test_a_group_reaches_over_many_blocks() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, (1000, HASH_WORDS), dtype=np.uint64)
    hashes[[3, 300, 999]] = hashes[3]
    groups = duplicate_groups(hashes)
    assert groups[3] == groups[300] == groups[999] == 3
    assert len(np.unique(groups)) == 998


def test_copies_of_others_are_told_by_their_distance() -> None:
    rng = np.random.default_rng(0)
    others = rng.integers(0, 2**64, (300, HASH_WORDS), np.uint64)
    hashes = others[rng.integers(0, 300, 600)]
    bits = rng.permuted(np.tile(np.arange(256), (600, 1)), axis=1)
    flipped = rng.integers(0, 40, 600)
    for row, (order, count) in enumerate(zip(bits, flipped, strict=True)):
        for bit in order[:count].tolist():
            hashes[row, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    np.testing.assert_array_equal(copies_of(hashes, others), flipped <= MAX_DISTANCE)
    assert not copies_of(hashes, others[:0]).any()
    assert copies_of(hashes[:0], others).shape == (0,)
