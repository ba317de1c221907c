"""What the application's tests share: one thread for small networks, and pictures left undrawn."""

from collections.abc import Iterator

import pytest

from tinygrad_mask.backends import get_num_threads, set_num_threads
from tinygrad_mask.backends.cpu_kernels import THREADS_VARIABLE
from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.report.plots import course, faces, judgement
from tinygrad_mask.masks.report import tiles


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


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a run's pictures written as empty files: for tests that look at none of them."""
    for module in (course, faces, judgement, tiles):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: write_file(path, b""))
