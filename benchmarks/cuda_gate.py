"""A gate against worse CUDA kernels, on any machine: no GPU is needed, and none is used.

    python benchmarks/cuda_gate.py

Of the float32 kernels it judges what the compiler makes of them, and what the emulator counts in
the operations of `tinygrad_mask.backends.report.network`; `tinygrad-mask kernels report` prints
all figures. One line for each miss, and exit code 1 if there is any.
"""

import sys
import time

from tinygrad_mask.backends.report.counting import count_all, tile_of
from tinygrad_mask.backends.report.machine import compile_all
from tinygrad_mask.backends.report.network import BATCH, other_primitives, reference_network
from tinygrad_mask.backends.report.survey import survey
from tinygrad_mask.emulator import EmulatorError

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90")
# What is counted is the doing of the PTX, which is the same for all of these.
COUNTED_ARCHITECTURE = "sm_90"
COUNTED_IMAGES = 1

LEAST_FMA_SHARE = 0.70  # of the instructions in a convolution's hot loop
LEAST_BLOCKS = 2  # of a convolution on a multiprocessor
MOST_BANK_CONFLICTS = 1.1  # passes over the banks, to those without conflicts
MOST_TRAFFIC = 1.5  # of a convolution, to what its tiles have to move
# Each thread's elements lie side by side there, so no byte of a sector is moved in vain.
WHOLE_SECTORS = ("activation.cu", "batch_norm.cu", "optimizer.cu", "pool2d.cu")


def machine_misses(compiled):
    """What is wrong with the machine code of a kernel; see `CompiledInstance`."""
    if compiled.stack_bytes or compiled.spill_bytes or compiled.mix.local:
        yield f"{compiled.stack_bytes} bytes of local memory, {compiled.spill_bytes} bytes spilled"
    tile = tile_of(compiled.instance.kernel)
    if tile is None or tile.kind != "Tile" or not compiled.instance.function.startswith("conv2d"):
        return
    share = compiled.hot_loop.fma_share if compiled.hot_loop else 0.0
    if share < LEAST_FMA_SHARE:
        yield f"{share:.1%} FFMA in the hot loop, at least {LEAST_FMA_SHARE:.0%}"
    if compiled.occupancy.blocks < LEAST_BLOCKS:
        limits = " and ".join(compiled.occupancy.limited_by)
        yield (
            f"{compiled.occupancy.blocks} blocks a multiprocessor for want of {limits}, "
            f"at least {LEAST_BLOCKS}"
        )


def launch_misses(launch):
    """What is wrong with the memory accesses of a launch; see `CountedLaunch`."""
    moved, fewest = launch.traffic("shared")
    if moved > MOST_BANK_CONFLICTS * fewest:
        yield f"bank-conflict ratio {moved / fewest:.2f}, at most {MOST_BANK_CONFLICTS}"
    moved, fewest = launch.traffic("global")
    if launch.instance.file in WHOLE_SECTORS and moved > fewest:
        yield f"{fewest / moved:.1%} of the sectors' bytes used, all of them wanted"


def traffic_misses(counted):
    """What is wrong with the traffic of a convolution; see `CountedOperation`."""
    minimum = counted.tiles_minimum
    if counted.operation.layer.startswith("conv") and minimum:
        ratio = counted.moved_bytes / minimum
        if ratio > MOST_TRAFFIC:
            yield f"{ratio:.2f} times its tiles' minimum of traffic, at most {MOST_TRAFFIC}"


def misses():
    """Judge everything, and yield a line for each miss."""
    wanted = [(i, arch) for arch in ARCHITECTURES for i in survey(arch, double=False)]
    for compiled in compile_all(wanted):
        for miss in machine_misses(compiled):
            yield f"{compiled.arch} {compiled.instance.kernel}: {miss}"
    operations = [*reference_network(), *other_primitives()]
    for counted in count_all(operations, COUNTED_ARCHITECTURE, COUNTED_IMAGES / BATCH):
        for launch in counted.launches:
            for miss in launch_misses(launch):
                yield f"{counted.operation.name}, {launch.instance.kernel}: {miss}"
        for miss in traffic_misses(counted):
            yield f"{counted.operation.name}: {miss}"


def main():
    start = time.perf_counter()
    found = 0
    try:
        for line in misses():
            print(line, flush=True)
            found += 1
    except EmulatorError as error:
        print(f"cuda_gate: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - start
    print(f"cuda_gate: {found or 'no'} miss{'' if found == 1 else 'es'}, {seconds:.0f} s")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
