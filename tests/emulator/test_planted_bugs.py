"""The checker finds every planted bug, its kind and its line, and passes its right twin."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_mask.emulator import KernelError, empty

pytestmark = pytest.mark.usefixtures("tools")

FILE = Path(__file__).with_name("planted_bugs.cu")
SOURCE = FILE.read_text()
ORDERS = ("forward", "reverse", "random")


@dataclass(frozen=True)
class Planted:
    """How a kernel is launched, and what is found where it is wrong.

    `threads` are those that may be found at it (in x), `says` is in the message.
    """

    kind: str
    threads: Callable[[int], bool] = lambda t: True
    says: str = ""
    block: int = 64
    grid: int = 1
    n: int = 64
    x_size: int = 64
    y_size: int = 64
    shared_bytes: int = 0
    x: Callable[[], np.ndarray] | None = None
    y: Callable[[], np.ndarray] | None = None
    keep: dict[str, Any] = field(default_factory=dict)


def read_only(size: int = 64) -> np.ndarray:
    array = np.zeros(size, np.float32)
    array.flags.writeable = False
    return array


def unwritten() -> np.ndarray:
    return empty(64, np.float32)


STRUCTS = {
    "parameter_past_end": np.dtype([("values", "f4", 4)], align=True),
    "misaligned_parameter": np.dtype([("bytes", "u1", 16)], align=True),
}
UNWRITTEN = "uninitialised global memory"
OUT, RACE, MASK = "out of bounds", "race", "wrong warp mask"
COPY_OR_RACE = "asynchronous copy not waited for or race"
COPY, BARRIER = "asynchronous copy not waited for", "divergent barrier"
BUGS = {
    "read_past_end": Planted(OUT, lambda t: t == 0, "byte 256 of x (argument 0, ", grid=2),
    "write_before_begin": Planted(
        OUT, lambda t: t == 0, "write of 4 bytes at byte -4 of y (argument 1, "
    ),
    "write_into_another_array": Planted(OUT, lambda t: t > 0, "of y (argument 1, "),
    "vector_past_end": Planted(OUT, lambda t: t == 15, "16 bytes at byte 240", n=62, x_size=62),
    "null_pointer": Planted(OUT, says="a null pointer", block=1),
    "unknown_array": Planted(OUT, says="in no array of this launch", block=1),
    "shared_past_end": Planted(OUT, lambda t: t == 63, "byte 256 of shared a (256 bytes)"),
    "shared_before_begin": Planted(OUT, lambda t: t == 0, "byte -4 of shared a"),
    "dynamic_shared_past_end": Planted(
        OUT, lambda t: t == 63, "byte 256 of dynamic shared dynamic (256 bytes)", shared_bytes=256
    ),
    "local_past_end": Planted(OUT, says="byte 32 of the thread's local arrays (32 bytes)", block=2),
    "variable_past_end": Planted(OUT, lambda t: t == 8, "byte 32 of variable (32 bytes)"),
    "generic_pointer": Planted(OUT, lambda t: t == 63, "of shared a"),
    "misaligned_global": Planted("misaligned", says="of 16 bytes", block=8),
    "misaligned_shared": Planted(
        "misaligned", lambda t: t < 16, "of shared a", x_size=256, block=256
    ),
    "never_written": Planted("uninitialised shared memory", lambda t: t >= 32),
    "one_byte_never_written": Planted("uninitialised shared memory", lambda t: t == 4),
    "writes_its_input": Planted("write to read-only memory", says="argument 0", x=read_only),
    "atomic_on_its_input": Planted("write to read-only memory", says="atomic", x=read_only),
    "no_barrier_before_read": Planted(RACE, says="shared a"),
    "no_barrier_before_write": Planted(RACE),
    "no_barrier_in_loop": Planted(RACE, n=3, x_size=192),
    "all_write_one": Planted(RACE, lambda t: t < 2, "written by thread"),
    "third_reader": Planted(RACE, lambda t: t in (0, 1, 40)),
    "neighbouring_bytes": Planted(RACE, says="1 bytes"),
    "neighbouring_shorts": Planted(RACE, says="2 bytes", x=lambda: np.zeros(64, np.int16)),
    "global_within_block": Planted(RACE, says="argument 1"),
    "global_between_blocks": Planted(RACE, says="by block", grid=2, y_size=128),
    "block_reads_what_another_writes": Planted(RACE, says="by block", grid=2, y_size=128),
    "atomic_and_plain": Planted(RACE, says="atomic"),
    "shuffle_orders_nothing": Planted(RACE, block=32),
    "half_a_warp_synchronised": Planted(RACE, block=32),
    "wrong_named_barrier": Planted(RACE, block=128, x_size=128, y_size=128),
    "arrives_before_it_writes": Planted(RACE),
    "double_buffer_without_barrier": Planted(RACE, n=4, x_size=256),
    "copy_without_wait": Planted(COPY),
    "copy_waits_for_too_few": Planted(COPY, x_size=128),
    "copy_without_barrier": Planted(COPY_OR_RACE),
    "copy_over_what_is_read": Planted(COPY_OR_RACE),
    "copy_past_end": Planted(OUT, says="of x (argument 0, "),
    "half_come_to_the_barrier": Planted(
        BARRIER, lambda t: t < 32, "32 wait here, 32 have returned"
    ),
    "returns_before_the_barrier": Planted(BARRIER, lambda t: t < 60, "4 have returned"),
    "two_different_barriers": Planted(BARRIER, says="32 wait at other barriers"),
    "loops_of_different_length": Planted(BARRIER, lambda t: t % 3 > 0),
    "barrier_with_wrong_count": Planted(BARRIER, block=96, x_size=96, y_size=96),
    "lane_not_in_its_mask": Planted(MASK, lambda t: t == 0, "not in its own mask", block=32),
    "lanes_with_different_masks": Planted(MASK, says="different masks", block=32),
    "names_lanes_that_never_were": Planted(MASK, says="the block does not have", block=20),
    "lanes_at_a_barrier": Planted(
        "divergent warp operation", lambda t: t < 16, "lanes 16, 17, ", block=32
    ),
    "lanes_at_different_shuffles": Planted("divergent warp operation", block=32),
    "traps": Planted("trap", lambda t: t == 7),
    "asserts": Planted("assertion", lambda t: t == 7, "`x[0] != 0 || threadIdx.x != 7` failed"),
    "constant_far_past_end": Planted(OUT, says="byte 4000000 of constants (16 bytes)", n=1000000),
    "constant_past_end": Planted(OUT, lambda t: t == 4, "byte 16 of constants (16 bytes)"),
    "constant_before_begin": Planted(OUT, says="byte -4 of constants (16 bytes)"),
    "misaligned_constant": Planted("misaligned", says="of packed (16 bytes)"),
    "misaligned_variable": Planted("misaligned", says="of bytes (64 bytes)"),
    "parameter_past_end": Planted(OUT, lambda t: t == 4, "byte 16 of table (argument 3, 16 bytes)"),
    "misaligned_parameter": Planted("misaligned", says="of raw (argument 3, 16 bytes)"),
    "misaligned_local": Planted("misaligned", says="of the thread's local arrays"),
    "output_never_written": Planted(
        UNWRITTEN, lambda t: t >= 32, "of y (argument 1, ", y=unwritten
    ),
    "scratch_never_written": Planted(UNWRITTEN, says="of y (argument 1, ", y=unwritten),
    "one_byte_of_scratch_never_written": Planted(
        UNWRITTEN, lambda t: t == 4, "1 bytes at byte 17 of y", y=lambda: empty(64, np.uint8)
    ),
    "plain_read_before_atomic": Planted(RACE),
    "volatile_read_before_atomic": Planted(RACE, grid=2),
    "wide_read_before_atomic": Planted(RACE, grid=2, y=lambda: np.zeros(4)),
    "plain_read_after_swap": Planted(RACE),
    "shared_read_before_atomic": Planted(RACE, says="shared most"),
}


def kernels() -> dict[str, tuple[int, ...]]:
    """Return the marked lines of each kernel in the file."""
    found: dict[str, list[int]] = {}
    name = ""
    for number, line in enumerate(SOURCE.splitlines(), 1):
        if match := re.match(r"KERNEL (\w+)\(", line):
            name = match[1]
            found[name] = []
        elif name and re.search(r"//.*FOUND", line):
            found[name].append(number)
    return {name: tuple(lines) for name, lines in found.items()}


LINES = kernels()


def launch(program: Any, name: str, mode: str, order: str, seed: int = 0) -> list[np.ndarray]:
    """Run a kernel on fresh arrays and return them."""
    bug = BUGS[name]
    x = bug.x() if bug.x else np.zeros(bug.x_size, np.float32)
    y = bug.y() if bug.y else np.zeros(bug.y_size, np.float32)
    more = [np.zeros(1, STRUCTS[name])[0]] if name in STRUCTS else []
    reachable = []
    if name in ("null_pointer", "unknown_array"):
        # Of one block, far apart: an address near an array is told as that array's.
        apart = np.zeros((2, 1 << 18), np.float32)
        known, unknown = apart[0, :64], apart[1, :64]
        reachable = [known]
        bug.keep["unknown"] = unknown
        x = np.array([known.ctypes.data, unknown.ctypes.data, 0], np.uint64)
    program.function(name).launch(
        bug.grid,
        bug.block,
        [x, y, np.int32(bug.n), *more],
        shared_bytes=bug.shared_bytes,
        reachable=reachable,
        mode=mode,
        order=order,
        seed=seed,
    )
    return [x, y]


def test_every_kernel_is_launched():
    assert set(LINES) == set(BUGS)
    assert all(LINES.values())


# Compiled with -G, a parameter is copied to local memory before it is indexed.
COPIED = ("parameter_past_end", "misaligned_parameter")


def arch_of(name: str, arch: str) -> str:
    return "sm_80" if name.startswith("copy_") and arch == "sm_75" else arch


OPTIONS = ("-std=c++17", "-ftz=true")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", BUGS)
def test_bug_is_found(compiled, arch, name, order):
    check_bug(compiled(SOURCE, arch_of(name, arch), (*OPTIONS, "-DBUG")), name, order)


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_found_with_debug_information(compiled, name):
    """A finding in a function of NVIDIA's that is not inlined is told at the line of its call."""
    check_bug(compiled(SOURCE, "sm_90", (*OPTIONS, "-DBUG", "-G")), name, "forward")


def check_bug(program: Any, name: str, order: str) -> None:
    bug = BUGS[name]
    with pytest.raises(KernelError) as caught:
        launch(program, name, "check", order)
    error = caught.value
    assert error.kind in bug.kind, str(error)
    assert error.file == "test.cu"
    assert error.line in LINES[name], str(error)
    assert error.kernel == name
    assert bug.threads(error.thread[0]), str(error)
    assert bug.says in error.detail or ("-G" in program.options and name in COPIED), str(error)
    assert str(error).startswith(f"test.cu:{error.line}: {error.kind} in {name}, block (")


@pytest.mark.parametrize("name", BUGS)
def test_right_twin_passes(compiled, arch, name):
    program = compiled(SOURCE, arch_of(name, arch))
    check_twin(program, name, ORDERS)


@pytest.mark.parametrize("name", BUGS)
def test_right_twin_passes_with_debug_information(compiled, name):
    check_twin(compiled(SOURCE, "sm_90", (*OPTIONS, "-G")), name, ("reverse",))


def check_twin(program: Any, name: str, orders: tuple[str, ...]) -> None:
    results = [launch(program, name, "fast", "forward")]
    for order in orders:
        results.append(launch(program, name, "check", order))
    results.append(launch(program, name, "count", "forward"))
    if name in ("null_pointer", "unknown_array"):  # x has addresses
        results = [arrays[1:] for arrays in results]
    for arrays in results[1:]:
        for one, other in zip(results[0], arrays, strict=True):
            assert one.tobytes() == other.tobytes()
