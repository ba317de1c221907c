"""What the compiler makes of every instance of the kernels, for each architecture."""

import itertools
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from tinygrad_mask.backends.emulator import ADDED_OPTIONS
from tinygrad_mask.backends.launcher import OPTIONS, kernel_headers, kernel_source
from tinygrad_mask.backends.report.launchers import Instance
from tinygrad_mask.emulator.occupancy import Occupancy, occupancy
from tinygrad_mask.emulator.sass import MachineCode, Mix, machine_code

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

_NAMES_AT_ONCE = (
    8  # instances of a file that are compiled together: nvdisasm takes half a second to start
)


@dataclass(frozen=True)
class CompiledInstance:
    """An instance of a kernel, compiled.

    Args:
        instance: The instance.
        arch: The architecture that it was compiled for.
        registers: Registers of a thread.
        stack_bytes: Local memory of a thread.
        spill_bytes: What a thread stores to local memory, and loads, for want of registers.
        static_shared_bytes: Shared memory of fixed size, a block.
        mix: The kinds of its instructions.
        hot_loop: Those of its hot loop (`MachineCode.hot_loop`); None where it has no loop.
        occupancy: How many blocks run on a multiprocessor.
    """

    instance: Instance
    arch: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    static_shared_bytes: int
    mix: Mix
    hot_loop: Mix | None
    occupancy: Occupancy

    def to_json(self) -> dict[str, Any]:
        """Return it in terms of JSON."""
        data = asdict(self)
        share = self.hot_loop.fma_share if self.hot_loop else None
        return {**data.pop("instance"), **data, "hot_loop_fma_share": share}


Wanted = Sequence[tuple[Instance, str]]
"""Instances, each with an architecture to compile it for."""


@dataclass(frozen=True)
class Job:
    """Instances of one file that are compiled together, for one architecture."""

    file: str
    arch: str
    kernels: tuple[str, ...]


def jobs_of(wanted: Wanted) -> list[Job]:
    """Return what there is to compile: architecture by architecture, file by file."""
    jobs = []
    for arch in dict.fromkeys(arch for _, arch in wanted):
        by_file = sorted({(i.file, i.kernel) for i, other in wanted if other == arch})
        for file, group in itertools.groupby(by_file, lambda w: w[0]):
            names = [kernel for _, kernel in group]
            for first in range(0, len(names), _NAMES_AT_ONCE):
                jobs.append(Job(file, arch, tuple(names[first : first + _NAMES_AT_ONCE])))
    return jobs


def compile_each(wanted: Wanted) -> Iterator[list[CompiledInstance]]:
    """Yield what becomes of the instances of each job, as soon as it is known, in their order.

    On all processors, since NVRTC compiles one source at a time in a process. Raises
    `EmulatorError` where NVRTC or nvdisasm is missing, or a source has errors.
    """
    jobs = jobs_of(wanted)
    for job, codes in zip(jobs, _run(jobs), strict=True):
        yield [
            _describe(instance, arch, codes[instance.kernel])
            for instance, arch in wanted
            if arch == job.arch and instance.file == job.file and instance.kernel in job.kernels
        ]


def compile_all(wanted: Wanted) -> list[CompiledInstance]:
    """Return what becomes of instances, each for an architecture, in their order.

    Raises `EmulatorError` as `compile_each` does.
    """
    found = {(c.instance, c.arch): c for batch in compile_each(wanted) for c in batch}
    return [found[pair] for pair in wanted]


def _run(jobs: Sequence[Job]) -> Iterator[dict[str, MachineCode]]:
    workers = min(len(os.sched_getaffinity(0)), len(jobs))
    if workers <= 1:
        yield from map(_compile, jobs)
        return
    # Not forked: libraries with threads of their own, as NVRTC is, do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        yield from pool.map(_compile, jobs)


def _compile(job: Job) -> dict[str, MachineCode]:
    return machine_code(
        kernel_source(job.file),
        name=job.file,
        headers=kernel_headers(),
        arch=job.arch,
        options=(*OPTIONS, *ADDED_OPTIONS),
        name_expressions=job.kernels,
    )


def _describe(instance: Instance, arch: str, code: MachineCode) -> CompiledInstance:
    return CompiledInstance(
        instance,
        arch,
        code.registers,
        code.stack_bytes,
        code.spill_bytes,
        code.shared_bytes,
        code.mix,
        code.hot_loop,
        occupancy(
            arch,
            threads=instance.threads,
            registers=code.registers,
            shared_bytes=code.shared_bytes + instance.shared_bytes,
        ),
    )
