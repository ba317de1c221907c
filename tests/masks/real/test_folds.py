"""Folds of Larxel's photographs: copies together, the few improper faces shared out."""

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.runs.cross_validation import assign_folds, sides_of_fold
from tinygrad_mask.masks.classifier.runs.loading import LoadedData
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
