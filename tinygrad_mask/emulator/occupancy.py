"""How many blocks of a kernel run on a multiprocessor at once, from published limits.

The limits are those of the CUDA C++ Programming Guide, "Compute Capabilities", tables "Technical
Specifications per Compute Capability" and "Shared Memory Capacity per Compute Capability" (CUDA
13). In which steps a multiprocessor hands them out is what NVIDIA's occupancy calculator assumes
(`cuda_occupancy.h` of the CUDA toolkit): registers to whole warps, 256 at a time, out of the 16384
of each of the four parts of a multiprocessor; shared memory 128 bytes at a time (256 on 7.5), and
from 8.0 on another 1024 bytes to every block. All of the memory that shared memory and L1 cache
divide among themselves counts as shared, as far as that goes: the driver gives a kernel what lets
most blocks run.
"""

from dataclasses import dataclass

from tinygrad_mask.emulator.errors import EmulatorError

WARP = 32
_SUB_PARTITIONS = 4
_REGISTERS = 16384  # of a sub-partition
_REGISTER_STEP = 256  # registers of a warp are allotted so many at a time


@dataclass(frozen=True)
class Limits:
    """What a multiprocessor has, by compute capability.

    Args:
        threads: Threads that run on it at once.
        blocks: Blocks that run on it at once.
        shared_bytes: Shared memory of all blocks together.
        block_shared_bytes: Shared memory that one block may have.
        reserved_bytes: Shared memory that every block takes besides its own.
        shared_step: Shared memory is allotted so many bytes at a time.
    """

    threads: int
    blocks: int
    shared_bytes: int
    block_shared_bytes: int
    reserved_bytes: int = 1024
    shared_step: int = 128


def _limits(threads: int, blocks: int, shared_kib: int) -> Limits:
    return Limits(threads, blocks, shared_kib * 1024, (shared_kib - 1) * 1024)


LIMITS = {
    75: Limits(1024, 16, 64 * 1024, 64 * 1024, reserved_bytes=0, shared_step=256),
    80: _limits(2048, 32, 164),
    86: _limits(1536, 16, 100),
    87: _limits(1536, 16, 164),
    88: _limits(1536, 16, 164),
    89: _limits(1536, 24, 100),
    90: _limits(2048, 32, 228),
    100: _limits(2048, 32, 228),
    103: _limits(2048, 32, 228),
    110: _limits(1536, 24, 228),
    120: _limits(1536, 24, 100),
    121: _limits(1536, 24, 100),
}
"""The limits of each compute capability, 90 for 9.0."""


@dataclass(frozen=True)
class Occupancy:
    """How full a kernel's blocks make a multiprocessor.

    Args:
        blocks: Blocks that run at once; 0 if not even one does.
        share: The warps of these blocks, of all that a multiprocessor can have.
        limited_by: What there is no more of: "blocks", "threads", "registers", "shared memory".
    """

    blocks: int
    share: float
    limited_by: tuple[str, ...]


def limits_of(arch: str) -> Limits:
    """Return the limits of an architecture, "sm_90".

    Raises `EmulatorError` for one that is not in the table.
    """
    number = arch.removeprefix("sm_").rstrip("af")
    if not arch.startswith("sm_") or not number.isdigit() or int(number) not in LIMITS:
        known = ", ".join(f"sm_{capability}" for capability in LIMITS)
        raise EmulatorError(f"the limits of {arch} are not known; those of {known} are")
    return LIMITS[int(number)]


def occupancy(arch: str, *, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """Return how many blocks run on a multiprocessor at once.

    Args:
        arch: The architecture, "sm_90".
        threads: Threads of a block, 1 to 1024.
        registers: Registers of a thread.
        shared_bytes: Static and dynamic shared memory of a block.

    Raises `EmulatorError` for an unknown architecture.
    """
    limits = limits_of(arch)
    warps = _round_up(threads, WARP) // WARP
    most_warps = limits.threads // WARP
    room = {"blocks": limits.blocks, "threads": most_warps // warps}
    if registers:
        warp_registers = _round_up(registers * WARP, _REGISTER_STEP)
        room["registers"] = _REGISTERS // warp_registers * _SUB_PARTITIONS // warps
    if shared_bytes > limits.block_shared_bytes:
        room["shared memory"] = 0
    elif shared_bytes + limits.reserved_bytes:
        allotted = _round_up(shared_bytes + limits.reserved_bytes, limits.shared_step)
        room["shared memory"] = limits.shared_bytes // allotted
    blocks = min(room.values())
    return Occupancy(
        blocks, blocks * warps / most_warps, tuple(what for what, n in room.items() if n == blocks)
    )


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
