"""The command `kernels report`: what a GPU would make of the CUDA kernels."""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from tinygrad_mask.backends.report.counting import CountedOperation, count_each
from tinygrad_mask.backends.report.gpus import GPUS
from tinygrad_mask.backends.report.machine import (
    ARCHITECTURES,
    CompiledInstance,
    compile_each,
    jobs_of,
)
from tinygrad_mask.backends.report.network import (
    BATCH,
    other_primitives,
    reference_network,
)
from tinygrad_mask.backends.report.survey import launched, survey
from tinygrad_mask.emulator import nvrtc, sass
from tinygrad_mask.emulator.occupancy import limits_of

_COUNTED_ARCH = "sm_90"
_IMAGES = 1

_DESCRIPTION = f"""\
What a GPU would make of the CUDA kernels, found out without one.

For every kernel and architecture, from its machine code: threads of a block, registers, bytes of
local memory and bytes spilled to it of a thread, shared memory of a block (static + dynamic), how
many blocks run on a multiprocessor, how full their warps make it and what there is no more of; of
the hot loop the number of instructions, the share of fused multiplications and additions (FMA), and
loads from global and from shared memory, all and those of 128 bits. Rows come as they are known.

For the layers of the reference network at a batch of {BATCH}, and for other primitives, counted by
the emulator: operations of the definition, how many times as many are done, the fewest bytes
possible and the bytes moved in sectors of 32, their ratio, the ratio to what tiles of this shape
need at the least, the share of moved sectors that accesses need, and bank conflicts (1: none).
Then the time that GPUs need at the least, from their published bandwidth and rate of float32.

docs/cuda_report.md explains it all."""


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command can be told."""
    parser.description = _DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--arch",
        type=_architectures,
        default=ARCHITECTURES,
        metavar="sm_75,sm_80,...",
        help=f"architectures (default: {','.join(ARCHITECTURES)}); operations are counted for "
        f"{_COUNTED_ARCH}, or for the first if that is not among them",
    )
    parser.add_argument(
        "--kernel",
        type=_pattern,
        metavar="REGEX",
        help="only kernels that match it, and operations that launch one",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=_IMAGES,
        choices=range(1, BATCH + 1),
        metavar="N",
        help=f"run the blocks of N images of the {BATCH}, and scale (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print all of it as JSON, at the end, instead of tables",
    )
    parser.set_defaults(run=report_command)


def _architectures(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in ARCHITECTURES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ARCHITECTURES)}")
    return names


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def report_command(arguments: argparse.Namespace) -> None:
    """Print the report, row by row as it becomes known, or all of it as JSON."""
    pattern = arguments.kernel or re.compile("")
    tables = not getattr(arguments, "json", False)
    wanted = [
        (instance, arch)
        for arch in arguments.arch
        for instance in survey(arch)
        if pattern.search(instance.kernel)
    ]
    missing = set(arguments.arch) - {arch for _, arch in wanted}
    if missing:
        sys.exit(f"error: no kernel matches {pattern.pattern!r}")
    arch = _COUNTED_ARCH if _COUNTED_ARCH in arguments.arch else arguments.arch[0]
    operations = [
        operation
        for operation in (*reference_network(), *other_primitives())
        if any(pattern.search(instance.kernel) for instance in launched(operation, arch))
    ]
    nvrtc.identity()
    sass.disassembler()  # what is missing should be known before the work
    jobs = jobs_of(wanted)
    print(
        f"{len(wanted)} instances of kernels to compile, for {len(arguments.arch)} architectures, "
        f"and {len(operations)} operations to count; all of it takes several minutes, "
        "--arch and --kernel ask for less",
        file=sys.stderr,
    )
    compiled: list[CompiledInstance] = []
    counted: list[CountedOperation] = []
    with tqdm(total=len(jobs) + len(operations), desc="report", unit="part") as bar:
        title = ""
        for batch in compile_each(wanted):
            bar.update()
            if tables and batch[0].arch != title:
                print_lines([*([""] if title else []), *machine_head(batch[0].arch)])
                title = batch[0].arch
            if tables:
                print_lines([line for c in batch for line in machine_row(c)])
            compiled += batch
        for operation in count_each(operations, arch, arguments.images / BATCH):
            bar.update()
            counted.append(operation)
    if not tables:
        print(json.dumps(_to_json(compiled, counted, arch), indent=1))
    elif counted:
        print_lines(["", *traffic_table(arch, arguments.images, counted)])
        print_lines(["", *roofline_table(counted)])


def print_lines(lines: Sequence[str]) -> None:
    """Print lines, above the progress bar if there is one."""
    for line in lines:
        tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def _to_json(
    compiled: Sequence[CompiledInstance], counted: Sequence[CountedOperation], arch: str
) -> dict[str, Any]:
    return {
        "kernels": [c.to_json() for c in compiled],
        "counted_arch": arch,
        "operations": [c.to_json() for c in counted],
        "gpus": [asdict(gpu) for gpu in GPUS],
    }


# --- tables ---------------------------------------------------------------------------------------


WIDTH = 100
"""Columns that a line may have."""


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table, columns under each other: to the right, those of `left` not.

    A last cell that does not fit into a line is broken, and goes on under itself.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        line = "  ".join(
            cell.ljust(width) if k in left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        start = sum(widths[:-1]) + 2 * len(widths[:-1])
        if len(line) > WIDTH:
            first, *rest = textwrap.wrap(row[-1], WIDTH - start)
            line = "\n".join([line[:start] + first, *(" " * start + more for more in rest)])
        lines += line.split("\n")
    return lines


_MACHINE_COLUMNS = (
    ("threads", 7), ("regs", 4), ("local", 5), ("spilled", 7), ("shared", 11), ("blocks", 6),
    ("full", 4), ("loop", 4), ("FMA", 4), ("global/128", 10), ("shared/128", 10),
    ("limited by", 13),
)  # fmt: skip


def machine_head(arch: str) -> list[str]:
    """Return the lines above those of kernels, for one architecture."""
    limits = limits_of(arch)
    title = (
        f"{arch}: {limits.threads} threads, {limits.blocks} blocks and {limits.shared_bytes >> 10} "
        "KiB of shared memory a multiprocessor"
    )
    return [title, _machine_line([name for name, _ in _MACHINE_COLUMNS])]


def _machine_line(cells: Sequence[str]) -> str:
    return " ".join(
        cell.rjust(width) for cell, (_, width) in zip(cells, _MACHINE_COLUMNS, strict=True)
    )


def machine_row(c: CompiledInstance) -> list[str]:
    """Return the lines that say what became of a kernel: its name, then the figures."""
    shared = str(c.static_shared_bytes)
    if c.instance.shared_bytes:
        shared += f"+{c.instance.shared_bytes}"
    hot, others = c.hot_loop, len(c.occupancy.limited_by) - 1
    figures = (
        str(c.instance.threads),
        str(c.registers),
        str(c.stack_bytes),
        str(c.spill_bytes),
        shared,
        str(c.occupancy.blocks),
        f"{c.occupancy.share:.0%}",
        str(hot.total) if hot else "-",
        f"{hot.fma_share:.0%}" if hot else "-",
        f"{hot.global_loads}/{hot.global_loads_128}" if hot else "-",
        f"{hot.shared_loads}/{hot.shared_loads_128}" if hot else "-",
        c.occupancy.limited_by[0] + (f" +{others}" if others else ""),
    )
    return [
        *textwrap.wrap(c.instance.kernel, WIDTH, subsequent_indent="  "),
        _machine_line(figures),
    ]


def traffic_table(arch: str, images: int, counted: Sequence[CountedOperation]) -> list[str]:
    """Return the lines that say what operations do."""
    title = (
        f"Operations at a batch of {BATCH}, from the blocks of {images} "
        f"image{'s' if images > 1 else ''}, {arch}"
    )
    head = (
        "operation", "GFLOP", "done", "fewest MB", "moved MB", "/fewest", "/tiles'",
        "needed", "banks", "kernels",
    )  # fmt: skip
    rows = [head, *map(_traffic_row, counted)]
    return [title, *aligned(rows, left=(0, 9))]


def _traffic_row(c: CountedOperation) -> tuple[str, ...]:
    minimum = c.tiles_minimum
    return (
        c.operation.name,
        f"{c.flops / 1e9:.3f}",
        f"{c.arithmetic / c.flops:.2f}" if c.flops else "-",
        f"{c.fewest_bytes / 1e6:.2f}",
        f"{c.moved_bytes / 1e6:.2f}",
        f"{c.moved_bytes / c.fewest_bytes:.2f}",
        f"{c.moved_bytes / minimum:.2f}" if minimum else "-",
        f"{c.sector_efficiency:.1%}",
        f"{c.bank_conflicts:.2f}",
        ", ".join(dict.fromkeys(launch.instance.function for launch in c.launches)),
    )


def roofline_table(counted: Sequence[CountedOperation]) -> list[str]:
    """Return the lines that say what time GPUs would need at the least."""
    rows = [("operation", *(gpu.name for gpu in GPUS))]
    for c in counted:
        rows.append((c.operation.name, *_times([c], fewest=True)))
    step = [c for c in counted if c.operation.in_step]
    rows.append(("sum of those in a step", *_times(step, fewest=True)))
    rows.append(("the same without caches", *_times(step, fewest=False)))
    title = "Microseconds at the least: fewest bytes at full bandwidth, or arithmetic at full rate"
    return [title, *aligned(rows, left=(0,))]


def _times(counted: Sequence[CountedOperation], *, fewest: bool) -> list[str]:
    return [f"{sum(1e6 * c.seconds(gpu, fewest=fewest) for c in counted):.1f}" for gpu in GPUS]
