"""How many blocks run on a multiprocessor: examples by hand, and what must hold of any kernel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask.emulator import EmulatorError
from tinygrad_mask.emulator.occupancy import LIMITS, limits_of, occupancy

KIB = 1024


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "blocks", "share", "limited_by"),
    [
        # CUDA C++ Best Practices Guide, "Calculating Occupancy": 65536 registers and 2048 threads.
        ("sm_80", 128, 37, 0, 12, 0.75, {"registers"}),
        ("sm_90", 320, 37, 0, 4, 0.625, {"registers"}),
        # 128 registers x 32 are 4096 a warp: 4 warps in each quarter, two blocks of 8 warps.
        ("sm_80", 256, 128, 0, 2, 0.25, {"registers"}),
        # One register more is allotted as 8 more, 4352 a warp: 3 warps in each quarter.
        ("sm_80", 256, 129, 0, 1, 0.125, {"registers"}),
        ("sm_86", 256, 40, 0, 6, 1.0, {"threads", "registers"}),
        ("sm_75", 1024, 64, 0, 1, 1.0, {"threads", "registers"}),
        ("sm_90", 1024, 64, 0, 1, 0.5, {"registers"}),
        # Small blocks: there are so many at most, and a part of a warp takes a whole one.
        ("sm_75", 32, 16, 0, 16, 0.5, {"blocks"}),
        ("sm_89", 32, 16, 0, 24, 0.5, {"blocks"}),
        ("sm_120", 33, 16, 0, 24, 1.0, {"blocks", "threads"}),
        # 48 KiB and 1 KiB that each block takes besides, of 228 KiB.
        ("sm_90", 128, 32, 48 * KIB, 4, 0.25, {"shared memory"}),
        ("sm_100", 128, 32, 227 * KIB, 1, 0.0625, {"shared memory"}),
        # On 7.5 nothing is taken besides: 64 KiB are two of 32 KiB; one byte more is 256 more.
        ("sm_75", 128, 32, 32 * KIB, 2, 0.25, {"shared memory"}),
        ("sm_75", 128, 32, 32 * KIB + 1, 1, 0.125, {"shared memory"}),
        # 24.5 KiB and 1 KiB three times in 100 KiB, not four.
        ("sm_86", 64, 32, 24 * KIB + 512, 3, 0.125, {"shared memory"}),
        ("sm_86", 64, 32, 100 * KIB, 0, 0.0, {"shared memory"}),
    ],
)
def test_examples(arch, threads, registers, shared, blocks, share, limited_by):
    found = occupancy(arch, threads=threads, registers=registers, shared_bytes=shared)
    assert (found.blocks, found.share, set(found.limited_by)) == (blocks, share, limited_by)


@given(
    capability=st.sampled_from(list(LIMITS)),
    threads=st.integers(1, 1024),
    registers=st.integers(0, 255),
    shared=st.integers(0, 64 * KIB),
    more=st.sampled_from(["threads", "registers", "shared"]),
)
def test_what_blocks_take_is_there_and_more_never_lets_more_run(
    capability, threads, registers, shared, more
):
    arch, limits = f"sm_{capability}", LIMITS[capability]
    found = occupancy(arch, threads=threads, registers=registers, shared_bytes=shared)
    assert 0 <= found.share <= 1
    assert found.limited_by
    assert found.blocks <= limits.blocks
    assert found.blocks * threads <= limits.threads
    assert found.blocks * threads * registers <= 65536
    assert found.blocks * (shared + limits.reserved_bytes) <= limits.shared_bytes
    greedier = occupancy(
        arch,
        threads=min(threads + 32 * (more == "threads"), 1024),
        registers=registers + (more == "registers"),
        shared_bytes=shared + 512 * (more == "shared"),
    )
    assert greedier.blocks <= found.blocks


@pytest.mark.parametrize("arch", ["sm_70", "sm_", "compute_90", "90", "sm_90x"])
def test_an_unknown_architecture_is_refused(arch):
    with pytest.raises(EmulatorError, match=f"the limits of {arch} are not known; those of sm_75"):
        limits_of(arch)


def test_variants_of_an_architecture_have_its_limits():
    assert limits_of("sm_90a") is LIMITS[90]
