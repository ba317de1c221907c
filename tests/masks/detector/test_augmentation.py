"""Augmentation keeps the boxes on the faces: painted rectangles are where the boxes say."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tinygrad_mask.masks.detector.training import augmentation
from tinygrad_mask.masks.detector.training.augmentation import (
    DetectorAugmentation,
    PhotographView,
    TrainingImage,
    draw_image,
    mirror,
    random_crop,
)

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def painted(scale=1):
    """A grey photograph with three rectangles of plain colour, one per label."""
    boxes = np.array([[20, 30, 60, 80], [90, 40, 130, 100], [150, 20, 180, 60]]) * scale
    image = Image.new("RGB", (200 * scale, 130 * scale), (114, 114, 114))
    for box, colour in zip(boxes, COLOURS, strict=True):
        left, top, right, bottom = (int(v) for v in box)
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=colour)
    return PhotographView(
        image, boxes.astype(np.float32), np.arange(3), np.zeros((0, 4), np.float32)
    )


def assert_boxes_on_rectangles(image):
    for box, label in zip(image.boxes, image.labels, strict=True):
        others = [k for k in range(3) if k != label]
        colour = image.pixels[..., label] - image.pixels[..., others].max(axis=-1)
        x = np.arange(image.pixels.shape[1])
        y = np.arange(image.pixels.shape[0])
        near = (
            (x[None] >= box[0] - 4)
            & (x[None] < box[2] + 4)
            & (y[:, None] >= box[1] - 4)
            & (y[:, None] < box[3] + 4)
        )
        rows, columns = np.nonzero((colour > 127) & near)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert found == pytest.approx(box, abs=1.6), (label, box)


@pytest.mark.parametrize("scale", [1, 3])
def test_crops_move_boxes_with_the_pixels(scale):
    photograph = painted(scale)
    rng = np.random.default_rng(0)
    faces = 0
    for _ in range(200):
        crop = random_crop(photograph, 128, (120, 500), rng)
        if (crop.pixels == crop.pixels[:1, :1]).all():
            continue
        assert ((crop.boxes >= 0) & (crop.boxes <= 128)).all()
        assert_boxes_on_rectangles(crop)
        faces += len(crop.boxes)
    assert faces > 200


def test_mirroring_moves_boxes_with_the_pixels_and_undoes_itself():
    rng = np.random.default_rng(1)
    crop = random_crop(painted(), 128, (200, 200), rng)
    mirrored = mirror(crop)
    assert_boxes_on_rectangles(mirrored)
    assert mirror(mirrored).boxes == pytest.approx(crop.boxes, abs=1e-4)
    assert (mirror(mirrored).pixels == crop.pixels).all()


def test_mosaics_hold_the_faces_of_four_crops_where_they_are():
    photograph = painted()
    rng = np.random.default_rng(2)
    drawing = DetectorAugmentation(size=256, long_side=(140, 140), mosaic=1.0)
    quarters = set()
    for _ in range(40):
        image = draw_image([photograph], drawing, rng)
        assert image.pixels.shape == (256, 256, 3)
        assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
        centres = (image.boxes[:, :2] + image.boxes[:, 2:]) / 2 // 128
        quarters |= {tuple(c) for c in centres.tolist()}
        # No box crosses into another quarter.
        assert (image.boxes[:, :2] // 128 == np.ceil(image.boxes[:, 2:] / 128) - 1).all()
    assert len(quarters) == 4


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_every_training_image_has_its_boxes_on_the_faces(seed, mosaic):
    drawing = DetectorAugmentation(size=256, long_side=(120, 600), mosaic=mosaic)
    with mock.patch.object(augmentation, "_change_colours", lambda pixels, rng: pixels):
        image = draw_image([painted(), painted(2)], drawing, np.random.default_rng(seed))
    # The other crops of a mosaic may have the same colour next to a box.
    side = 128 if mosaic else 256
    for top in range(0, 256, side):
        for left in range(0, 256, side):
            boxes = image.boxes - np.array([left, top, left, top], np.float32)
            inside = ((boxes >= 0) & (boxes <= side)).all(axis=1)
            assert_boxes_on_rectangles(
                TrainingImage(
                    image.pixels[top : top + side, left : left + side],
                    boxes[inside],
                    image.labels[inside],
                    image.ignored,
                )
            )


def test_faces_cut_in_half_are_ignored_not_background():
    photograph = painted()
    rng = np.random.default_rng(3)
    for _ in range(200):
        crop = random_crop(photograph, 64, (200, 200), rng)
        assert len(crop.boxes) + len(crop.ignored) <= 3
        for region in crop.ignored:
            assert region.min() == 0 or region.max() == 64


def test_equal_generators_draw_equal_images():
    photographs = [painted(), painted(2)]
    first, second = (
        draw_image(photographs, DetectorAugmentation(), np.random.default_rng(5)) for _ in range(2)
    )
    assert (first.pixels == second.pixels).all()
    assert first.pixels.dtype == np.float32
    assert 0 <= first.pixels.min() <= first.pixels.max() <= 255
