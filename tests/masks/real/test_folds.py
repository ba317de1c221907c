"""Folds of Larxel's photographs: copies together, the few improper faces shared out."""

from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.masks.classifier.cross_validation import assign_folds, sides_of_fold
from tinygrad_mask.masks.classifier.loading import LoadedData, load
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.labels import LABELS

FOLDS = 5


@pytest.fixture(scope="module")
def data(photographs: Path) -> LoadedData:
    return load(
        [str(photographs / "larxel")],
        CropSettings(8),
        min_face=0,
        classes=None,
        other_coverings=None,
        seed=0,
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_every_face_is_judged_once_and_no_copy_is_trained_on(data: LoadedData, seed: int) -> None:
    folds = assign_folds(data, FOLDS, seed)
    photograph = data.faces.photograph
    times_judged = np.zeros(len(data.faces), int)
    for fold in range(FOLDS):
        train, judged = sides_of_fold(data, folds, fold, 0)
        times_judged[judged] += 1
        assert not set(data.groups[photograph[train]]) & set(data.groups[photograph[judged]])
        assert len(train) + len(judged) == len(data.faces) == 3325
        counts = np.bincount(data.faces.labels[judged], minlength=len(LABELS))
        assert counts[LABELS.index("improper")] in (20, 21)
        assert abs(counts[LABELS.index("none")] - 588 / FOLDS) < 5
        assert abs(counts[LABELS.index("proper")] - 2634 / FOLDS) < 100
    assert (times_judged == 1).all()
