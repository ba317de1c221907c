"""The command `kernels check`: runs any CUDA file's kernels through the checker, without a GPU.

A small Python file beside the CUDA file says what to launch:

    import numpy as np
    from tinygrad_mask.emulator.check import Launch

    def launches(rng):
        x = rng.standard_normal(1000, dtype=np.float32)
        y = np.zeros_like(x)
        yield Launch("scale", grid=4, block=256, arguments=[x, y, np.float32(2), np.int32(1000)],
                     expected={1: 2 * x})

`rng` is a `numpy.random.Generator`. The file may also set `NAME_EXPRESSIONS` (a list of instances
of templates, such as "scale<float>"), `OPTIONS` (options of NVRTC) and `INCLUDE` (folders that have
headers, relative to the file; that of the CUDA file is always looked in).

Every launch runs in check mode with blocks and threads in forward, reverse and random order, each
time on fresh copies of its arguments; the results must be equal to the last bit, and near what is
expected.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_mask.emulator.abi import ORDERS
from tinygrad_mask.emulator.errors import EmulatorError, KernelError
from tinygrad_mask.emulator.headers import gather
from tinygrad_mask.emulator.program import Program


class CheckError(EmulatorError):
    """The description of what to launch cannot be used."""


@dataclass(frozen=True)
class Launch:
    """A launch to check.

    Args:
        kernel: Its name if it is `extern "C"`, else its name expression.
        grid: Blocks: a number, or up to three.
        block: Threads of a block: a number, or up to three.
        arguments: As `Kernel.launch` takes them: arrays for pointers, NumPy scalars for numbers.
        shared_bytes: Dynamic shared memory of a block.
        reachable: Arrays that the kernel gets at through pointers kept elsewhere.
        expected: What arguments shall hold afterwards, by number.
        rtol: How far from it they may be, relative to it.
        atol: How far from it they may be at the least.
    """

    kernel: str
    grid: int | Sequence[int]
    block: int | Sequence[int]
    arguments: Sequence[Any]
    shared_bytes: int = 0
    reachable: Sequence[np.ndarray] = ()
    expected: Mapping[int, np.ndarray] = field(default_factory=dict)
    rtol: float = 1e-5
    atol: float = 1e-6


@dataclass(frozen=True)
class Outcome:
    """What became of a launch.

    Args:
        kernel: The kernel.
        number: The launch, counted from 0.
        findings: A line for each thing that is wrong; none if all is well.
    """

    kernel: str
    number: int
    findings: tuple[str, ...]


def check_file(
    path: str | Path,
    description: str | Path | None = None,
    *,
    arch: str = "sm_90",
    seed: int = 0,
) -> Iterator[Outcome]:
    """Check the kernels of a CUDA file, launch by launch.

    Args:
        path: The CUDA file.
        description: The Python file that says what to launch; by default the one of the same name.
        arch: The architecture to compile for.
        seed: Of the generator that the description gets, and of the random order.

    Raises `CheckError` for a description that cannot be used and `EmulatorError` for what the
    emulator cannot do (a source that does not compile, an instruction that it does not know).
    """
    path = Path(path)
    if not path.is_file():
        raise CheckError(f"{path} is not there")
    script = Path(description) if description else path.with_suffix(".py")
    if not script.is_file():
        raise CheckError(f"{script} is not there: it says what to launch of {path.name}")
    settings = _load(script)
    folders = [path.parent, *(script.parent / folder for folder in settings.get("INCLUDE", ()))]
    source, headers = gather(path.read_text(), path.parent, folders[1:])
    program = Program(
        source,
        name=path.name,
        headers=headers,
        arch=arch,
        options=settings.get("OPTIONS", ("-std=c++17", "-ftz=true")),
        name_expressions=settings.get("NAME_EXPRESSIONS", ()),
    )
    launches: Callable[[np.random.Generator], Iterator[Launch]] | None = settings.get("launches")
    if launches is None:
        raise CheckError(f"{script} does not define launches(rng)")
    for number, launch in enumerate(launches(np.random.default_rng(seed))):
        if not isinstance(launch, Launch):
            raise CheckError(f"{script}: launches(rng) yields {type(launch).__name__}, not Launch")
        yield Outcome(launch.kernel, number, tuple(_check(program, launch, seed)))


def _load(script: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(f"_launches_of_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def _check(program: Program, launch: Launch, seed: int) -> Iterator[str]:
    """Yield what is wrong with a launch: the finding in each order, then with the results."""
    function = program.function(launch.kernel)
    arrays = [*launch.arguments, *launch.reachable]
    before = [a.copy() if isinstance(a, np.ndarray) and a.ndim else None for a in arrays]
    first: list[np.ndarray | None] | None = None
    found: dict[tuple[str, str, int], str] = {}
    for order in ORDERS:
        for array, saved in zip(arrays, before, strict=True):
            if saved is not None and array.flags.writeable:
                array[...] = saved
        try:
            function.launch(
                launch.grid,
                launch.block,
                launch.arguments,
                shared_bytes=launch.shared_bytes,
                reachable=launch.reachable,
                mode="check",
                order=order,
                seed=seed,
            )
        except KernelError as error:
            found.setdefault((error.kind, error.file, error.line), f"{error} [{order} order]")
            continue
        after = [None if s is None else a.copy() for a, s in zip(arrays, before, strict=True)]
        if first is None:
            first = after
            continue
        for number, (one, other) in enumerate(zip(first, after, strict=True)):
            if one is not None and other is not None and one.tobytes() != other.tobytes():
                found.setdefault(
                    ("order", "", number),
                    f"{launch.kernel}: array {number} is not the same in {order} order",
                )
    yield from found.values()
    if first is None or found:
        return
    for number, expected in launch.expected.items():
        result = first[number] if 0 <= number < len(launch.arguments) else None
        if result is None or result.shape != np.shape(expected):
            yield f"{launch.kernel}: there is nothing of shape {np.shape(expected)} in {number}"
        elif not np.allclose(result, expected, launch.rtol, launch.atol, equal_nan=True):
            away = np.nan_to_num(np.abs(result.astype(np.float64) - expected), nan=np.inf)
            at = tuple(int(i) for i in np.unravel_index(int(np.argmax(away)), away.shape))
            yield (
                f"{launch.kernel}: argument {number} is not as expected: "
                f"{result[at]} instead of {np.asarray(expected)[at]} at {at}"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command can be told."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, metavar="FILE.cu", help="the CUDA file")
    parser.add_argument(
        "--with",
        dest="description",
        type=Path,
        metavar="FILE.py",
        help="says what to launch; by default the Python file of the same name",
    )
    parser.add_argument("--arch", default="sm_90", help="architecture to compile for (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data and of the random order")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check a file, and print what was found; exit with 1 if anything was."""
    wrong = 0
    outcomes = check_file(
        arguments.file, arguments.description, arch=arguments.arch, seed=arguments.seed
    )
    for outcome in outcomes:
        wrong += bool(outcome.findings)
        print(f"{outcome.kernel} (launch {outcome.number}): {'' if outcome.findings else 'ok'}")
        for finding in outcome.findings:
            print(f"  {finding}")
    if wrong:
        sys.exit(1)
