"""What every test shares: Hypothesis profiles, the option `--device` and the real photographs."""

import os
from pathlib import Path

import devices
import pytest
from hypothesis import settings

from tinygrad_mask.backends import DeviceError, get_backend

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("few", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=devices.NAMES,
        help="run the suites of kernels and gradients on this device alone, with all examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    devices.chosen = config.getoption("--device")
    if devices.chosen is not None:
        try:
            get_backend(devices.chosen)
        except DeviceError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def emulator() -> None:
    """Skips where the emulator cannot run."""
    missing = devices.emulator_is_missing()
    if missing is not None:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs: larxel/, hitl/, chandrikadeb7/; skips where it is not."""
    folder = os.environ.get("TINYGRAD_MASK_DATA")
    if not folder:
        pytest.skip("TINYGRAD_MASK_DATA is not set: no real photographs here")
    return Path(folder)
