"""The command `kernels report`: what a GPU would make of the CUDA kernels."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinygrad_mask.backends.report.counting import CountedOperation, count_all
from tinygrad_mask.backends.report.gpus import GPUS
from tinygrad_mask.backends.report.machine import ARCHITECTURES, CompiledInstance, compile_all
from tinygrad_mask.backends.report.network import (
    BATCH,
    other_primitives,
    reference_network,
)
from tinygrad_mask.backends.report.survey import launched, survey
from tinygrad_mask.emulator.occupancy import limits_of

_COUNTED_ARCH = "sm_90"
_IMAGES = 1

_DESCRIPTION = f"""\
What a GPU would make of the CUDA kernels, found out without one.

For every kernel and architecture, from its machine code: threads of a block, registers, bytes of
local memory and bytes spilled to it of a thread, shared memory of a block (static + dynamic), how
many blocks run on a multiprocessor, how full their warps make it and what there is no more of; of
the hot loop the number of instructions, the share of fused multiplications and additions (FMA), and
loads from global and from shared memory, all and those of 128 bits.

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
    parser.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write it all")
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
    """Print the report, and write it as JSON."""
    pattern = arguments.kernel or re.compile("")
    file = arguments.json_file
    if file:
        file.open("a").close()  # what cannot be written should be known before the work
    compiled = []
    for arch in arguments.arch:
        instances = [i for i in survey(arch) if pattern.search(i.kernel)]
        if not instances:
            sys.exit(f"error: no kernel matches {pattern.pattern!r}")
        found = compile_all([(instance, arch) for instance in instances])
        print_lines(machine_table(arch, found))
        compiled += found
    arch = _COUNTED_ARCH if _COUNTED_ARCH in arguments.arch else arguments.arch[0]
    operations = [
        operation
        for operation in (*reference_network(), *other_primitives())
        if any(pattern.search(instance.kernel) for instance in launched(operation, arch))
    ]
    counted = count_all(operations, arch, arguments.images / BATCH)
    if counted:
        print_lines(traffic_table(arch, arguments.images, counted))
        print_lines(roofline_table(counted))
    if file:
        file.write_text(json.dumps(_to_json(compiled, counted, arch), indent=1))


def print_lines(lines: Sequence[str]) -> None:
    """Print lines, and an empty one after them."""
    print(*lines, "", sep="\n", flush=True)


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


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> list[str]:
    """Return a line for each row, columns under each other: to the right, those of `left` not."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if k in left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def machine_table(arch: str, compiled: Sequence[CompiledInstance]) -> list[str]:
    """Return the lines that say what became of kernels for one architecture."""
    limits = limits_of(arch)
    title = (
        f"{arch}: {limits.threads} threads, {limits.blocks} blocks and {limits.shared_bytes >> 10} "
        "KiB of shared memory a multiprocessor"
    )
    rows = [_MACHINE_HEAD, *map(_machine_row, compiled)]
    return [title, *aligned(rows, left=(7, 12))]


_MACHINE_HEAD = (
    "threads", "registers", "local", "spilled", "shared", "blocks", "full", "limited by",
    "hot loop", "FMA", "global/128", "shared/128", "kernel",
)  # fmt: skip


def _machine_row(c: CompiledInstance) -> tuple[str, ...]:
    shared = str(c.static_shared_bytes)
    if c.instance.shared_bytes:
        shared += f"+{c.instance.shared_bytes}"
    hot = c.hot_loop
    return (
        str(c.instance.threads),
        str(c.registers),
        str(c.stack_bytes),
        str(c.spill_bytes),
        shared,
        str(c.occupancy.blocks),
        f"{c.occupancy.share:.0%}",
        ", ".join(c.occupancy.limited_by),
        str(hot.total) if hot else "-",
        f"{hot.fma_share:.0%}" if hot else "-",
        f"{hot.global_loads}/{hot.global_loads_128}" if hot else "-",
        f"{hot.shared_loads}/{hot.shared_loads_128}" if hot else "-",
        c.instance.kernel,
    )


def traffic_table(arch: str, images: int, counted: Sequence[CountedOperation]) -> list[str]:
    """Return the lines that say what operations do."""
    title = (
        f"Operations at a batch of {BATCH}, from the blocks of {images} "
        f"image{'s' if images > 1 else ''}, {arch}"
    )
    head = (
        "operation", "GFLOP", "done", "fewest MB", "moved MB", "of fewest", "of tiles'",
        "needed", "bank conflicts", "kernels",
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
