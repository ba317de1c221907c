"""The command `kernels`: which kernels are in use here, and why; what a GPU would make of the CUDA
kernels (`report`); a check of any CUDA file (`check`).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from tinygrad_mask.backends import get_backend
from tinygrad_mask.backends.cpu import CpuBackend
from tinygrad_mask.backends.cpu_kernels import (
    INSTRUCTION_SETS,
    KERNELS_VARIABLE,
    THREADS_VARIABLE,
    get_num_threads,
    unavailable_instruction_sets,
)
from tinygrad_mask.backends.cuda import CudaBackend
from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.interface import OPERATIONS, Backend, DeviceError
from tinygrad_mask.backends.report.commands import add_report_arguments
from tinygrad_mask.emulator import CompileError, EmulatorError, check

DEVICES: dict[str, type[Backend]] = {
    "cpu": CpuBackend,
    "cuda": CudaBackend,
    "emulator": GpuBackend,
}


def add_kernels_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command can be told."""
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument(
        "--table", action="store_true", help="print what computes each operation on each device"
    )
    parser.set_defaults(run=kernels_command)
    subcommands = parser.add_subparsers(metavar="[COMMAND]")
    report = subcommands.add_parser("report", help="say what a GPU would make of the CUDA kernels")
    add_report_arguments(report)
    _refuse_in_one_line(report)
    checker = subcommands.add_parser(
        "check", help="run a CUDA file's kernels, checked, on the host"
    )
    check.add_arguments(checker)
    _refuse_in_one_line(checker)


def _refuse_in_one_line(parser: argparse.ArgumentParser) -> None:
    """Have what the emulator cannot do said as other errors of the command line are."""
    command: Callable[[argparse.Namespace], None] = parser.get_default("run")

    def run(arguments: argparse.Namespace) -> None:
        try:
            command(arguments)
        except CompileError as error:  # many lines, of which none should be lost
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except EmulatorError as error:
            raise DeviceError(str(error)) from error

    parser.set_defaults(run=run)


def kernels_command(arguments: argparse.Namespace) -> None:
    """Print which kernels the device `cpu` uses, or what each device uses per operation."""
    if arguments.table:
        _print_table(arguments.json)
        return
    found = describe_kernels()
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    if found["in_use"] == "reference":
        print("cpu: the NumPy kernels (the reference; much slower than compiled ones)")
    else:
        print(
            f"cpu: compiled kernels for {found['in_use']}, {found['vector_bits']} bits, "
            f"{found['threads']} threads"
        )
    print(f"  can run here:   {', '.join(found['available']) or 'none'}")
    for why in found["unavailable"].values():
        print(f"  {why}")
    for variable, value in found["environment"].items():
        print(f"  {variable}: {'not set' if value is None else value}")
    print("next: tinygrad-mask kernels check --help, to check CUDA kernels here", file=sys.stderr)


def implementations() -> dict[str, dict[str, str]]:
    """Return for each device what computes each operation, and for which arguments not."""
    return {
        device: {
            name: backend.implementations[name].value
            + (f" ({backend.exceptions[name]})" if name in backend.exceptions else "")
            for name in OPERATIONS
        }
        for device, backend in DEVICES.items()
    }


def _print_table(as_json: bool) -> None:
    """Print what computes each operation on each device, exceptions as notes below the table."""
    if as_json:
        print(json.dumps(implementations(), indent=1))
        return
    print(f"{'operation':24}" + "".join(f"{device:20}" for device in DEVICES).rstrip())
    notes: list[str] = []
    for name in OPERATIONS:
        cells = []
        for backend in DEVICES.values():
            cell = backend.implementations[name].value
            if note := backend.exceptions.get(name):
                if note not in notes:
                    notes.append(note)
                cell += f" [{notes.index(note) + 1}]"
            cells.append(f"{cell:20}")
        print(f"{name:24}{''.join(cells).rstrip()}")
    for number, note in enumerate(notes, 1):
        print(f"[{number}] {note}")
    print("A reference formula runs in NumPy, on a GPU in CuPy. Without compiled kernels, cpu uses")
    print("nothing else. The emulator runs the kernels of cuda.")


def describe_kernels() -> dict[str, Any]:
    """Return what the command prints, by name."""
    backend = get_backend("cpu")
    compiled = backend if isinstance(backend, CpuBackend) else None
    unavailable = unavailable_instruction_sets()
    return {
        "in_use": compiled.instruction_set if compiled else "reference",
        "vector_bits": 8 * compiled.kernels.vector_bytes() if compiled else None,
        "threads": get_num_threads() if compiled else 1,
        "available": [name for name in INSTRUCTION_SETS if name not in unavailable],
        "unavailable": unavailable,
        "environment": {v: os.environ.get(v) for v in (KERNELS_VARIABLE, THREADS_VARIABLE)},
    }
