"""Folds of Larxel's photographs: copies together, the few improper faces shared out."""

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.runs.cross_validation import assign_folds, sides_of_fold
from tinygrad_mask.masks.classifier.runs.loading import LoadedData
from tinygrad_mask.masks.events import event_groups
from tinygrad_mask.masks.labels import LABELS

FOLDS = 5


@pytest.mark.parametrize("seed", [0, 1])
def test_every_face_is_judged_once_and_no_copy_is_trained_on(larxel: LoadedData, seed: int) -> None:
    folds = assign_folds(larxel, FOLDS, seed)
    photograph = larxel.faces.photograph
    times_judged = np.zeros(len(larxel.faces), int)
    for fold in range(FOLDS):
        train, judged = sides_of_fold(larxel, folds, fold, 0)
        times_judged[judged] += 1
        assert not set(larxel.groups[photograph[train]]) & set(larxel.groups[photograph[judged]])
        assert len(train) + len(judged) == len(larxel.faces) == 3325
        counts = np.bincount(larxel.faces.labels[judged], minlength=len(LABELS))
        assert counts[LABELS.index("improper")] in (20, 21)
        assert abs(counts[LABELS.index("none")] - 588 / FOLDS) < 5
        assert abs(counts[LABELS.index("proper")] - 2634 / FOLDS) < 100
    assert (times_judged == 1).all()


def test_larxels_events(larxel: LoadedData) -> None:
    events = event_groups(larxel.faces.photographs, larxel.groups)
    numbers = [int(p.name.removeprefix("maksssksksss")) for p in larxel.faces.photographs]
    event = dict(zip(numbers, events.tolist(), strict=True))
    sizes = np.sort(np.bincount(events))[::-1]
    assert sizes[0] == 157  # the self-portraits
    assert (sizes > 1).sum() > 25
    assert sizes[1] < 10
    # Seen to be of one event, as pairs of photographs that are no copies; and two that are not.
    for one, other in ((432, 785), (293, 466), (309, 658), (154, 217), (62, 243)):
        assert event[one] == event[other]
    assert event[421] != event[427]
