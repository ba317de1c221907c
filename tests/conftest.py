"""What every test shares: Hypothesis profiles and the real photographs."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("few", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs: larxel/, hitl/, chandrikadeb7/; skips where it is not."""
    folder = os.environ.get("TINYGRAD_MASK_DATA")
    if not folder:
        pytest.skip("TINYGRAD_MASK_DATA is not set: no real photographs here")
    return Path(folder)
