"""Persons over the frames of a video."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_mask.masks.tracking import Tracker, pairwise_iou

PROPER, IMPROPER, NONE = np.eye(3) * 0.97 + 0.01


def boxes(*corners):
    return np.array(corners, np.float32).reshape(-1, 4)


def test_two_persons_who_pass_each_other_keep_their_numbers():
    tracker = Tracker()
    for frame in range(40):
        left, right = 10 + 8 * frame, 330 - 8 * frame
        faces = tracker.update(
            boxes([left, 20, left + 40, 70], [right, 45, right + 40, 95]),
            np.array([PROPER, NONE]),
        )
        assert [face.track for face in faces] == [1, 2], frame
        assert [face.label for face in faces] == [0, 2]
    assert tracker.counts() == {"proper": 1, "improper": 0, "none": 1}


def test_a_person_who_was_hidden_for_a_moment_comes_back():
    tracker = Tracker(patience=5)
    for frame in range(10):
        tracker.update(boxes([5 * frame, 0, 5 * frame + 40, 50]), np.array([PROPER]))
    for _ in range(4):
        assert tracker.update(boxes(), np.zeros((0, 3))) == []
    [face] = tracker.update(boxes([70, 0, 110, 50]), np.array([PROPER]))
    assert face.track == 1
    for _ in range(6):
        tracker.update(boxes(), np.zeros((0, 3)))
    [face] = tracker.update(boxes([70, 0, 110, 50]), np.array([PROPER]))
    assert face.track == 2
    assert tracker.counts() == {"proper": 1, "improper": 0, "none": 0}  # the new one is not certain


def test_a_single_wrong_frame_does_not_change_the_label_and_many_do():
    tracker = Tracker()
    place = boxes([0, 0, 40, 50])
    labels = [tracker.update(place, np.array([PROPER]))[0].label for _ in range(10)]
    labels.append(tracker.update(place, np.array([NONE]))[0].label)
    labels.append(tracker.update(place, np.array([PROPER]))[0].label)
    assert labels == [0] * 12
    later = [tracker.update(place, np.array([IMPROPER]))[0].label for _ in range(10)]
    assert later[0] == 0
    assert later[-1] == 1
    assert sorted(later) == later  # it changes once


def test_what_was_seen_once_is_not_counted():
    tracker = Tracker(patience=0)
    tracker.update(boxes([0, 0, 40, 50]), np.array([PROPER]))
    tracker.update(boxes(), np.zeros((0, 3)))
    assert sum(tracker.counts().values()) == 0


def test_persons_say_when_they_were_seen_and_how_large():
    tracker = Tracker(patience=2)
    for frame in range(12):
        at_door = [[0, 0, 20 + frame, 40]] if 3 <= frame < 8 else []
        passing = [[200, 0, 230, 30]] if frame >= 5 else []
        labels = [PROPER] * len(at_door) + [NONE] * len(passing)
        tracker.update(boxes(*at_door, *passing), np.array(labels).reshape(-1, 3))
    [gone] = tracker.departed()
    assert (gone.track, gone.label, gone.first, gone.last) == (1, 0, 3, 7)
    assert (gone.frames, gone.size) == (5, 27.0)
    assert tracker.departed() == []  # told once
    [there] = tracker.present()
    assert (there.track, there.label, there.first, there.last, there.frames) == (2, 2, 5, 11, 7)
    assert tracker.counts() == {"proper": 1, "improper": 0, "none": 1}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_no_two_faces_of_a_frame_are_one_person(seed):
    rng = np.random.default_rng(seed)
    tracker = Tracker()
    seen = 0
    for _ in range(15):
        count = int(rng.integers(0, 6))
        corner = rng.uniform(0, 50, (count, 2))
        frame = np.concatenate([corner, corner + rng.uniform(1, 60, (count, 2))], axis=1)
        faces = tracker.update(frame, rng.dirichlet([1, 1, 1], count))
        assert [face.detection for face in faces] == list(range(count))
        assert len({face.track for face in faces}) == count
        seen = max([seen, *(face.track for face in faces)])
    assert sum(tracker.counts().values()) <= seen


def test_pairwise_iou_of_boxes_worked_out_by_hand():
    got = pairwise_iou(boxes([0, 0, 10, 10], [5, 5, 5, 5]), boxes([0, 0, 10, 10], [5, 0, 15, 10]))
    assert got == pytest.approx(np.array([[1, 1 / 3], [0, 0]]))


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="smoothing"):
        Tracker(smoothing=1.0)
