"""What the tests on real photographs share: Larxel's faces, cut once."""

from pathlib import Path

import pytest

from tinygrad_mask.masks.classifier.runs.loading import LoadedData, load
from tinygrad_mask.masks.crops import CropSettings


@pytest.fixture(scope="session")
def larxel(photographs: Path) -> LoadedData:
    return load(
        [str(photographs / "larxel")],
        CropSettings(),
        min_face=0,
        classes=None,
        other_coverings=None,
        seed=0,
    )
