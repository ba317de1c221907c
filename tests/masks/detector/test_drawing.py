"""Drawn faces: they can be read on any background, and no caption hides another face."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tinygrad_mask.masks.detector.network.detector import TOO_SMALL, UNSURE, DetectedFace
from tinygrad_mask.masks.detector.report import drawing
from tinygrad_mask.masks.detector.report.drawing import COLOURS, draw_faces, legible_scale
from tinygrad_mask.masks.labels import LABELS

ANSWERS = [*LABELS, UNSURE, TOO_SMALL]


def face(left, top, width, height, answer="proper", score=0.9):
    label = answer if answer in LABELS else "proper"
    box = (left, top, left + width, top + height)
    return DetectedFace(box, score, label, 0.97, {}, answer)


def luminance(colour):
    """The relative luminance of the Web Content Accessibility Guidelines 2.1."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("answer", ANSWERS)
def test_lines_and_symbols_stand_out_from_their_black_ground(answer):
    """The guidelines ask for a contrast of 3 for graphics and of 4.5 for text."""
    assert (luminance(COLOURS[answer]) + 0.05) / 0.05 >= 4.5


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("ground", ["black", "white", (0, 190, 140), (128, 128, 128)])
def test_a_box_has_its_colour_and_black_on_both_sides_of_it(answer, ground):
    image = Image.new("RGB", (640, 480), ground)
    pixels = np.asarray(draw_faces(image, [face(200, 200, 100, 100, answer)]))
    across = pixels[250:262, 180:200].reshape(-1, 3).tolist()  # the left edge
    assert list(COLOURS[answer]) in across
    assert [0, 0, 0] in across
    assert pixels[210:290, 210:290].reshape(-1, 3).tolist() == (
        np.asarray(image)[210:290, 210:290].reshape(-1, 3).tolist()
    )


def test_answers_differ_without_colour(monkeypatch):
    monkeypatch.setattr(drawing, "COLOURS", dict.fromkeys(ANSWERS, (200, 200, 200)))
    # Too little room for a word: the symbol tells.
    image = Image.new("RGB", (60, 60), (90, 90, 90))
    drawn = [np.asarray(draw_faces(image, [face(20, 20, 20, 20, answer)])) for answer in ANSWERS]
    for first, second in itertools.combinations(drawn, 2):
        assert (first != second).any()


def test_captions_hide_no_face():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (600, 800, 3), dtype=np.uint8))
    faces = [
        face(30 + 95 * column, 40 + 90 * row, 36, 44, ANSWERS[(row + column) % 5])
        for row in range(6)
        for column in range(8)
    ]
    before, after = np.asarray(image), np.asarray(draw_faces(image, faces, range(1, 49)))
    for drawn in faces:
        left, top, right, bottom = map(int, drawn.box)
        inside = np.s_[top + 1 : bottom, left + 1 : right]
        np.testing.assert_array_equal(after[inside], before[inside])
    np.testing.assert_array_equal(before, np.asarray(image))  # it is a copy


def test_in_a_crowd_without_room_each_face_keeps_its_symbol():
    image = Image.new("RGB", (120, 60), (90, 90, 90))
    faces = [face(20 * column, 20 * row, 20, 20, "none") for row in range(3) for column in range(6)]
    pixels = np.asarray(draw_faces(image, faces))
    for drawn in faces:
        _, top, right, _ = map(int, drawn.box)
        # Further inside than the lines of this box and its neighbours reach.
        corner = pixels[top + 4 : top + 14, right - 14 : right - 4].reshape(-1, 3).tolist()
        assert list(COLOURS["none"]) in corner


def test_small_photographs_are_enlarged_so_that_captions_have_room():
    assert [legible_scale(size) for size in ((400, 267), (640, 480), (1200, 900))] == [3, 2, 1]
    assert legible_scale((4000, 3000)) == 1
    assert legible_scale((10, 10)) == 3
    image = Image.new("RGB", (100, 80), (90, 90, 90))
    drawn = np.asarray(draw_faces(image, [face(40, 40, 20, 20)], scale=3))
    assert drawn.shape == (240, 300, 3)
    rows, columns = np.nonzero((drawn == COLOURS["proper"]).all(axis=2) & (np.arange(300) < 195))
    assert columns.min() == pytest.approx(120, abs=3)
    assert rows.max() == pytest.approx(180, abs=3)


def test_the_number_of_a_person_is_part_of_the_caption():
    image = Image.new("RGB", (640, 480), (90, 90, 90))
    without, one, two = (
        np.asarray(draw_faces(image, [face(200, 200, 60, 60)], numbers))
        for numbers in (None, [1], [2])
    )
    assert (without != one).any()
    assert (one != two).any()


boxes = st.tuples(*[st.floats(-50, 250)] * 2, *[st.floats(0, 300)] * 2)


@given(st.lists(st.tuples(boxes, st.sampled_from(ANSWERS)), max_size=12), st.integers(1, 3))
@settings(max_examples=40)
def test_faces_of_any_size_at_any_place_can_be_drawn(found, scale):
    image = Image.new("RGB", (200, 150), (90, 90, 90))
    faces = [face(*box, answer) for box, answer in found]
    drawn = draw_faces(image, faces, list(range(len(faces))), scale=scale)
    assert drawn.size == (200 * scale, 150 * scale)
