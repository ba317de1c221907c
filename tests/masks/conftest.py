"""What the application's tests share: one thread for networks too small to share out."""

from collections.abc import Iterator

import pytest

from tinygrad_mask.backends import get_num_threads, set_num_threads
from tinygrad_mask.backends.cpu import THREADS_VARIABLE


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Has kernels use one thread, in the processes that tests start too.

    On crops of a few pixels a second thread saves nothing, and where another program has its
    processor, each step waits for it.
    """
    before = get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(THREADS_VARIABLE, "1")
        set_num_threads(1)
        yield
        set_num_threads(before)
