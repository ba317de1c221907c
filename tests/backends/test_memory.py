"""The pool of memory: what is freed is used again, and nothing is lost or kept for ever."""

import gc
import mmap
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.backends import set_num_threads
from tinygrad_mask.backends.cpu import CpuBackend
from tinygrad_mask.backends.cpu_kernels import available_instruction_sets

BACKENDS = {name: CpuBackend(name) for name in available_instruction_sets()}

pytestmark = pytest.mark.skipif(not BACKENDS, reason="no kernels were compiled here")
each_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
best_backend = pytest.mark.parametrize("backend", [*BACKENDS.values()][:1], ids=[*BACKENDS][:1])


@pytest.fixture(autouse=True)
def one_thread(same_threads_afterwards):
    """Memory is the same for any number, but threads that wait for each other take long."""
    set_num_threads(1)


BIG = 1 << 20  # bytes: the pool keeps what is large, and leaves the small to malloc


def training(backend):
    """Return a function that makes one step of training a small network."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, rng=rng),
        nn.BatchNorm(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1, rng=rng),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 3, rng=rng),
    ).to(backend)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x = Tensor(rng.standard_normal((4, 16, 16, 3)).astype(np.float32), device=backend)
    target = rng.integers(3, size=4)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()

    return step


def held(backend):
    """All that the pool has from the system."""
    use = backend.kernels.memory_use()
    return use["used"] + use["unused"]


def resident():
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this system")
@best_backend
def test_memory_does_not_grow_over_a_thousand_steps(backend):
    step = training(backend)
    for _ in range(100):
        step()
    gc.collect()
    before, pool = resident(), held(backend)
    for _ in range(900):
        step()
    gc.collect()
    assert held(backend) <= pool
    # A single activation that each step lost would be 900 times 128 KiB.
    assert resident() - before < 4 << 20


@each_backend
def test_a_second_step_takes_no_more_memory_from_the_system(backend):
    step = training(backend)
    step()
    step()
    pool, used = held(backend), backend.kernels.memory_use()["used"]
    for _ in range(5):
        step()
        assert held(backend) == pool
        assert backend.kernels.memory_use()["used"] == used


@each_backend
def test_the_pool_never_holds_much_more_than_was_in_use_at_one_time(backend):
    rng = np.random.default_rng(0)
    arrays = []
    for _ in range(300):
        with backend.computing():
            arrays.append(np.empty(int(rng.integers(1, 4 * BIG)), np.uint8))
        if rng.random() < 0.5:
            arrays.pop(int(rng.integers(len(arrays))))
        if len(arrays) > 20:
            del arrays[:15]
        use = backend.kernels.memory_use()
        assert use["used"] + use["unused"] <= 1.25 * use["peak"] + 4 * BIG
        assert use["used"] >= sum(array.nbytes for array in arrays if array.nbytes >= BIG)


@each_backend
def test_what_is_freed_is_handed_out_again(backend):
    with backend.computing():
        first = np.empty(BIG, np.uint8)
    place, pool = first.ctypes.data, held(backend)
    del first
    assert held(backend) == pool
    with backend.computing():
        assert np.empty(BIG, np.uint8).ctypes.data == place
    assert held(backend) == pool


@each_backend
def test_arrays_are_aligned_for_vectors(backend):
    with backend.computing():
        for size in (1, 1000, BIG):
            assert np.empty(size, np.uint8).ctypes.data % 64 == 0


def wish_for_huge_pages(place):
    """Say whether the system notes of this address that huge pages were asked for."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("VmFlags") and inside:
            return "hg" in line.split()
        bounds = line.split()[0].split("-")
        if len(bounds) == 2:
            inside = int(bounds[0], 16) <= place < int(bounds[1], 16)
    raise LookupError(f"nothing lies at {place:#x}")


def notes_wishes():
    """Whether this system does, which one without huge pages or an emulated one may not."""
    try:
        array = np.frombuffer(mapped := mmap.mmap(-1, 8 * BIG), np.uint8)
        mapped.madvise(mmap.MADV_HUGEPAGE)
        return wish_for_huge_pages(array.ctypes.data)
    except (AttributeError, OSError):
        return False


@pytest.mark.skipif(not notes_wishes(), reason="this system does not note who wants huge pages")
@each_backend
def test_large_arrays_are_to_lie_in_huge_pages(backend):
    with backend.computing():
        array = np.empty(8 * BIG, np.uint8)
    assert wish_for_huge_pages(array.ctypes.data)


@each_backend
def test_only_arrays_that_are_made_while_computing_come_from_the_pool(backend):
    used = backend.kernels.memory_use()["used"]
    outside = np.empty(BIG, np.uint8)
    assert backend.kernels.memory_use()["used"] == used
    with backend.computing():
        inside = np.empty(BIG, np.uint8)
    assert backend.kernels.memory_use()["used"] >= used + BIG
    again = np.empty(BIG, np.uint8)
    del inside
    assert backend.kernels.memory_use()["used"] == used
    del outside, again


@each_backend
def test_the_allocator_is_put_back_after_an_error_and_of_contexts_within_each_other(backend):
    used = backend.kernels.memory_use()["used"]
    with pytest.raises(RuntimeError), backend.computing():
        raise RuntimeError
    with backend.computing():
        with backend.computing():
            pass
        inside = np.empty(BIG, np.uint8)
        assert backend.kernels.memory_use()["used"] >= used + BIG
    del inside
    outside = np.empty(BIG, np.uint8)
    assert backend.kernels.memory_use()["used"] == used
    del outside


@each_backend
def test_other_threads_take_their_arrays_from_where_they_did(backend):
    used = backend.kernels.memory_use()["used"]
    with backend.computing(), ThreadPoolExecutor(1) as pool:
        array = pool.submit(np.empty, BIG, np.uint8).result()
        assert backend.kernels.memory_use()["used"] == used
    del array


@each_backend
@pytest.mark.parametrize("size", [10, BIG])
def test_arrays_outlive_the_context_they_were_made_in(backend, size):
    with backend.computing():
        array = np.arange(size)
        zeros = np.zeros(size)
    assert not zeros.any()
    # Out of the context NumPy must still know to whom the memory belongs.
    for length in (2 * size, 3, 5 * size):
        kept = min(len(array), length)
        expected = np.zeros(length, array.dtype)
        expected[:kept] = array[:kept]
        array.resize(length, refcheck=False)
        np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), array)
    copy = array.copy()
    expected = array.tolist()
    del array
    assert copy.tolist() == expected


@each_backend
def test_zeros_are_zeros_in_memory_that_was_used_before(backend):
    with backend.computing():
        for _ in range(3):
            ones = np.full(BIG, 1, np.uint8)
            del ones
            assert not np.zeros(BIG, np.uint8).any()


@each_backend
def test_arrays_may_be_freed_in_other_threads(backend):
    used = backend.kernels.memory_use()["used"]

    def make():
        with backend.computing():
            return [np.full(BIG, k, np.uint8) for k in range(10)]

    made = []
    makers = [threading.Thread(target=lambda: made.extend(make())) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert all(np.all(array == k % 10) for k, array in enumerate(made))
    assert backend.kernels.memory_use()["used"] >= used + 40 * BIG

    def drop():
        while made:
            made.pop()

    dropper = threading.Thread(target=drop)
    dropper.start()
    dropper.join()
    assert backend.kernels.memory_use()["used"] == used


@each_backend
def test_more_than_there_is_raises_and_changes_nothing(backend):
    before = backend.kernels.memory_use()
    for size in (2**50, 2**62, 2**63 - 1):
        with pytest.raises((MemoryError, ValueError)), backend.computing():
            np.empty(size, np.uint8)
    after = backend.kernels.memory_use()
    # Unused blocks may have been given back to make room.
    assert (after["used"], after["peak"]) == (before["used"], before["peak"])
