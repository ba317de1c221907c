"""The command `kernels check`: runs any CUDA file's kernels through the checker, without a GPU.

A small Python file next to the CUDA file says what to launch:

    import numpy as np
    from tinygrad_mask.emulator.check import Launch

    def launches(rng):
        x = rng.standard_normal(1000, dtype=np.float32)
        y = np.empty_like(x)
        yield Launch("scale", grid=4, block=256, arguments=[x, y, np.float32(2), np.int32(1000)],
                     expected={"y": 2 * x})

`rng` is a `numpy.random.Generator`. Arrays that `launches` makes with `np.empty` or `np.empty_like`
count as not written, as memory from `cudaMalloc` does: a kernel that reads them before it writes
them is reported. The file may also set `NAME_EXPRESSIONS` (a list of instances of templates, such
as "scale<float>"), `OPTIONS` (options of NVRTC) and `INCLUDE` (folders with headers, relative to
the file; the folder of the CUDA file is always searched).

Every launch runs in check mode with blocks and threads in forward, reverse and random order, each
time on fresh copies of its arguments and of the `__device__` variables. The results must be equal
to the last bit, except for what `unordered` names, and close to what is expected. All of it is
done twice, the second time with NVRTC's -G, which optimises nothing away (--no-debug-pass leaves
that out).

Exit code: 0 if nothing was found, 1 if something was, 2 if nothing was but something could not be
checked.
"""

import argparse
import importlib.util
import io
import json
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinygrad_mask.emulator import unwritten
from tinygrad_mask.emulator.abi import ORDERS
from tinygrad_mask.emulator.errors import CompileError, EmulatorError, KernelError
from tinygrad_mask.emulator.headers import gather
from tinygrad_mask.emulator.host_memory import check_memory
from tinygrad_mask.emulator.program import Kernel, Program

MOST_FINDINGS = 100
"""Findings after which a launch ends."""

_TOLERANCE, _SET = "tolerance", "set"


class CheckError(EmulatorError):
    """The description of what to launch cannot be used."""


@dataclass(frozen=True)
class Launch:
    """A launch to check.

    Arguments are referred to by number or by the name of the kernel's parameter.

    Args:
        kernel: Its name if it is `extern "C"`, else its name expression.
        grid: Blocks: a number, or up to three.
        block: Threads of a block: a number, or up to three.
        arguments: As `Kernel.launch` takes them: arrays for pointers, NumPy scalars for numbers.
        shared_bytes: Dynamic shared memory of a block.
        reachable: Arrays that the kernel gets at through pointers kept elsewhere.
        expected: What arguments, or `__device__` variables by name, shall hold afterwards.
        rtol: How far from it they may be, relative to it.
        atol: How far from it they may be at the least.
        unordered: What may depend on the order of threads, as a sum by `atomicAdd` or the result of
            a stream compaction does: a list of arguments whose values may differ within `rtol` and
            `atol`, or a mapping to "tolerance" or to "set", whose values (rows, if there are more
            axes) may come in any order.
        variables: What `__device__` and `__constant__` variables hold before the launch; the others
            hold what the source says.
    """

    kernel: str
    grid: int | Sequence[int]
    block: int | Sequence[int]
    arguments: Sequence[Any]
    shared_bytes: int = 0
    reachable: Sequence[np.ndarray] = ()
    expected: Mapping[int | str, np.ndarray] = field(default_factory=dict)
    rtol: float = 1e-5
    atol: float = 1e-6
    unordered: Mapping[int | str, str] | Collection[int | str] = ()
    variables: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a launch.

    Args:
        message: A line that says so.
        kind: One of `KINDS`, or "order" (the result depends on the order of threads), "result" (it
            is not as expected), "description" (there is no such argument).
        file: The source file; empty for a result.
        line: The line in it.
        block: `blockIdx` of the thread.
        thread: `threadIdx` of the thread.
    """

    message: str
    kind: str
    file: str = ""
    line: int = 0
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Outcome:
    """What became of a launch.

    Args:
        kernel: The kernel.
        number: The launch, counted from 0.
        findings: All that is wrong; none if all is well.
        not_checked: Why it, or a part of it, could not be checked; empty if all was.
        printed: What the kernel printed, in the first of its runs.
    """

    kernel: str
    number: int
    findings: tuple[Finding, ...] = ()
    not_checked: str = ""
    printed: str = ""


def check_file(
    path: str | Path,
    description: str | Path | None = None,
    *,
    arch: str = "sm_90",
    seed: int = 0,
    debug_pass: bool = True,
) -> Iterator[Outcome]:
    """Check the kernels of a CUDA file, launch by launch.

    Args:
        path: The CUDA file.
        description: The Python file that says what to launch; by default the one of the same name.
        arch: The architecture to compile for.
        seed: Of the generator that the description gets, and of the random order.
        debug_pass: Whether to run all of it once more, compiled with -G.

    Raises `CheckError` for a description that cannot be used, `CompileError` for a source that does
    not compile. A launch that the emulator cannot run has an `Outcome` that says why.
    """
    path = Path(path)
    if path.suffix == ".py":
        raise CheckError(
            f"{path}: expected a CUDA file, got a Python file; check {path.with_suffix('.cu')}, "
            f"next to which it says what to launch, or write FILE.cu --with {path}"
        )
    if not path.is_file():
        raise CheckError(f"{path} is not there")
    script = Path(description) if description else path.with_suffix(".py")
    if not script.is_file():
        raise CheckError(f"{script} is not there: it says what to launch of {path.name}")
    settings = _load(script)
    folders = [script.parent / folder for folder in settings.get("INCLUDE", ())]
    source, headers = gather(path.read_text(), path.parent, folders)
    options = tuple(settings.get("OPTIONS", ("-std=c++17", "-ftz=true")))
    programs = [
        Program(
            source,
            name=path.name,
            headers=headers,
            arch=arch,
            options=chosen,
            name_expressions=settings.get("NAME_EXPRESSIONS", ()),
        )
        for chosen in ([options, (*options, "-G")] if debug_pass else [options])
    ]
    launches = settings.get("launches")
    if launches is None:
        raise CheckError(f"{script} does not define launches(rng)")
    number = -1
    for number, launch in enumerate(_launches(script, launches, seed)):
        yield _check(programs, launch, number, seed)
    if number < 0:
        raise CheckError(
            f"{script}: expected launches(rng) to give at least one Launch, got none; "
            "nothing was checked"
        )


def _load(script: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(f"_launches_of_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _description_error(script, error) from error
    _track_empty_arrays(module)
    return vars(module)


def _track_empty_arrays(module: ModuleType) -> None:
    """Let the file's `np.empty` and `np.empty_like` return arrays that nobody has written."""
    replaced = {
        id(np): unwritten.TrackingNumpy(),
        id(np.empty): unwritten.empty,
        id(np.empty_like): unwritten.empty_like,
    }
    for name, value in list(vars(module).items()):
        if id(value) in replaced:
            setattr(module, name, replaced[id(value)])


def _launches(
    script: Path, launches: Callable[[np.random.Generator], Iterable[Launch]], seed: int
) -> Iterator[Launch]:
    """Yield what the description gives; raises `CheckError` for what it does wrong."""
    try:
        for launch in launches(np.random.default_rng(seed)):
            if not isinstance(launch, Launch):
                raise CheckError(
                    f"{script}: launches(rng) yields {type(launch).__name__}, not Launch"
                )
            yield launch
    except CheckError:
        raise
    except Exception as error:
        raise _description_error(script, error) from error


def _description_error(script: Path, error: Exception) -> CheckError:
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(script)
    ]
    where = f"{script}:{lines[-1]}" if lines else f"{script}"
    return CheckError(f"{where}: {type(error).__name__}: {error}")


# --- one launch -----------------------------------------------------------------------------------


class _Results:
    """The arrays and variables of a launch: as they were before it, and what they are called."""

    def __init__(self, kernel: Kernel, launch: Launch) -> None:
        self.kernel, self.launch = kernel, launch
        self.arrays = [
            a
            for a in (*launch.arguments, *launch.reachable)
            if isinstance(a, np.ndarray) and a.ndim
        ]
        check_memory(kernel.name, 3 * sum(a.nbytes for a in self.arrays))
        self.before = [(a.copy(), unwritten.snapshot(a)) for a in self.arrays]

    def reset(self) -> None:
        """Give arrays and variables the contents that they had before."""
        for array, (contents, mask) in zip(self.arrays, self.before, strict=True):
            if array.flags.writeable:
                array[...] = contents
                unwritten.restore(array, mask)
        self.kernel.program.reset_variables()
        for name, value in self.launch.variables.items():
            memory = self.kernel.program.variable(name)
            contents = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            if contents.nbytes != memory.nbytes:
                raise EmulatorError(
                    f"variable {name}: expected {memory.nbytes} bytes, got {contents.nbytes}"
                )
            memory[:] = contents

    def current(self) -> dict[str, np.ndarray]:
        """Return copies of all that the kernel may have written, by what it is called."""
        found: dict[str, np.ndarray] = {}
        for number, argument in enumerate(self.launch.arguments):
            if isinstance(argument, np.ndarray) and argument.ndim:
                found[self.label(number)] = argument.copy()
        for number, array in enumerate(self.launch.reachable):
            found[f"reachable array {number}"] = array.copy()
        for name, (memory, read_only) in self.kernel.program.variables.items():
            if not read_only:
                found[f"variable {name}"] = memory.copy()
        return found

    def label(self, key: int | str) -> str:
        """Return what an argument is called in messages, given its number or its name."""
        names = [p.name for p in self.kernel.parameters or ()]
        if isinstance(key, str):
            if key not in names:
                return f"variable {key}"
            key = names.index(key)
        if 0 <= key < len(names) and names[key]:
            return f"{names[key]} (argument {key})"
        return f"argument {key}"

    def unordered(self) -> dict[str, str]:
        """Return how what depends on the order of threads is compared, by what it is called."""
        given = self.launch.unordered
        ways = given if isinstance(given, Mapping) else dict.fromkeys(given, _TOLERANCE)
        for key, way in ways.items():
            if way not in (_TOLERANCE, _SET):
                raise EmulatorError(
                    f"unordered: expected '{_TOLERANCE}' or '{_SET}' for {key!r}, got {way!r}"
                )
        labelled = {self.label(key): way for key, way in ways.items()}
        if unknown := [key for key in ways if self.label(key) not in self.current()]:
            raise EmulatorError(f"unordered: {self.kernel.name} has no array {unknown[0]!r}")
        return labelled


def _check(programs: Sequence[Program], launch: Launch, number: int, seed: int) -> Outcome:
    """Check a launch, as each program has it."""
    found: dict[object, Finding] = {}
    not_checked, printed = "", io.StringIO()
    results: _Results | None = None
    for position, program in enumerate(programs):
        debug = " [-G]" if position else ""
        try:
            kernel = program.function(launch.kernel)
            results = results or _Results(kernel, launch)
            results.kernel = kernel
            for key, finding in _run(results, seed, debug, None if position else printed):
                found.setdefault(key, finding)
        except CompileError:
            raise
        except MemoryError:
            not_checked = f"there is not enough memory for copies of its arrays{debug}"
        except EmulatorError as error:
            not_checked = f"{error}{debug}"
        if not_checked:
            break
    return Outcome(launch.kernel, number, tuple(found.values()), not_checked, printed.getvalue())


def _run(
    results: _Results, seed: int, debug: str, printed: io.StringIO | None
) -> Iterator[tuple[object, Finding]]:
    """Yield what is wrong: the findings in each order, then what is wrong with the results.

    Each with a key that is the same for the same fault in another order or build.
    """
    launch, kernel, ways = results.launch, results.kernel, results.unordered()
    first: dict[str, np.ndarray] = {}
    clean = True
    for order in ORDERS:
        results.reset()
        try:
            kernel.launch(
                launch.grid,
                launch.block,
                launch.arguments,
                shared_bytes=launch.shared_bytes,
                reachable=launch.reachable,
                mode="check",
                order=order,
                seed=seed,
                stop_after=MOST_FINDINGS,
                output=printed if printed is not None and not first and clean else io.StringIO(),
            )
        except KernelError as error:
            clean = False
            for each in error.findings:
                yield _key(each), _finding(each, f"{each} [{order} order]{debug}")
            continue
        after = results.current()
        first = first or after
        for label, one in first.items():
            if not _same(one, after[label], ways.get(label, ""), launch):
                clean = False
                yield (
                    ("order", label),
                    Finding(
                        f"{launch.kernel}: {label} is not the same in {order} order{debug}", "order"
                    ),
                )
    if not clean:
        return
    for key, expected in launch.expected.items():
        label = results.label(key)
        result = first.get(label)
        if result is not None and label.startswith("variable "):
            same_size = result.nbytes == np.asarray(expected).nbytes
            result = result.view(np.asarray(expected).dtype) if same_size else result
            result = result.reshape(np.shape(expected)) if same_size else result
        if result is None or result.shape != np.shape(expected):
            message = f"{launch.kernel}: there is nothing of shape {np.shape(expected)} in {key}"
            yield ("result", label), Finding(message, "description")
        elif away := _deviation(result, np.asarray(expected), ways.get(label, ""), launch):
            message = f"{launch.kernel}: {label} is not as expected: {away}{debug}"
            yield ("result", label), Finding(message, "result")


def _key(error: KernelError) -> object:
    """Return what tells one fault from another: of a race both of its lines, in any order."""
    own = (error.file, error.line)
    return error.kind, frozenset((own, error.other)) if error.other else own


def _finding(error: KernelError, message: str) -> Finding:
    return Finding(message, error.kind, error.file, error.line, error.block, error.thread)


def _same(one: np.ndarray, other: np.ndarray, way: str, launch: Launch) -> bool:
    if one.tobytes() == other.tobytes():
        return True
    if way == _SET:
        return _sorted(one).tobytes() == _sorted(other).tobytes()
    return way == _TOLERANCE and bool(
        np.allclose(one, other, launch.rtol, launch.atol, equal_nan=True)
    )


def _sorted(array: np.ndarray) -> np.ndarray:
    """Return the values of an array, or its rows, in ascending order."""
    if array.ndim == 1:
        return np.sort(array)
    return array[np.lexsort(array.reshape(len(array), -1).T[::-1])]


def _deviation(result: np.ndarray, expected: np.ndarray, way: str, launch: Launch) -> str:
    """Say where a result is farthest from what is expected; an empty text if it is near."""
    if way == _SET:
        result, expected = _sorted(result), _sorted(expected)
    if np.allclose(result, expected, launch.rtol, launch.atol, equal_nan=True):
        return ""
    away = np.abs(np.subtract(result, expected, dtype=np.float64))
    away[np.isnan(away) & ~(np.isnan(result) & np.isnan(expected))] = np.inf
    at = tuple(int(i) for i in np.unravel_index(int(np.nanargmax(away)), away.shape))
    order = ", both sorted" if way == _SET else ""
    return f"{result[at]} instead of {expected[at]} at {at}{order}"


# --- the command ----------------------------------------------------------------------------------


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
    parser.add_argument(
        "--no-debug-pass",
        dest="debug_pass",
        action="store_false",
        help="do not run everything once more, compiled with -G: half the time",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,  # `kernels --json check` says it too
        help="print the outcomes as JSON",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check a file and print what was found; exit with 1 for findings, else 2 for gaps."""
    outcomes: list[Outcome] = []
    error, as_json = "", getattr(arguments, "json", False)
    try:
        for outcome in check_file(
            arguments.file,
            arguments.description,
            arch=arguments.arch,
            seed=arguments.seed,
            debug_pass=arguments.debug_pass,
        ):
            outcomes.append(outcome)
            if not as_json:
                _print(outcome)
    except EmulatorError as raised:
        error = str(raised)
    if as_json:
        found = {"file": str(arguments.file), "error": error or None}
        print(json.dumps({**found, "launches": [asdict(o) for o in outcomes]}, indent=1))
    if error:
        print(f"error: {error}", file=sys.stderr)
    if any(outcome.findings for outcome in outcomes):
        sys.exit(1)
    if error or any(outcome.not_checked for outcome in outcomes):
        sys.exit(2)


def _print(outcome: Outcome) -> None:
    said = "" if outcome.findings or outcome.not_checked else "ok"
    print(f"{outcome.kernel} (launch {outcome.number}): {said}".rstrip())
    for line in outcome.printed.splitlines():
        print(f"  | {line}")
    for finding in outcome.findings:
        print(f"  {finding}")
    if outcome.not_checked:
        print(f"  not checked: {outcome.not_checked}")
    sys.stdout.flush()
