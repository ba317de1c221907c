"""What the tests of backends share."""

import pytest

from tinygrad_mask.backends.cpu_kernels import get_num_threads, set_num_threads


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = get_num_threads()
    yield
    set_num_threads(before)
