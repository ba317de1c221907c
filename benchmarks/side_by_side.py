"""Measure several libraries side by side: a process each, turn by turn.

Each side lives in a process of its own, because the threads of two libraries disturb each other in
one. The sides take turns, in an order shuffled every round, so that whatever else the machine does
meets all of them alike; while one works the others wait at their pipe. Each turn begins with a call
that is not timed (the caches hold what the last side left in them) and is followed by a pause until
the threads of its pool are asleep: they go on spinning after their work, ours for 3 ms, OpenMP's
for some 10 ms, those of OpenBLAS for 100 ms, and would take the next side's processors.

A side is a class derived from `Side` that its process imports by name, so that no library is
loaded where it is not measured.
"""

import argparse
import ctypes
import gc
import importlib
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

LONGEST_PAUSE = 1.0
"""Seconds after which a side that still spins is waited for no longer."""

LEAST = 0.02
"""Seconds that a timed block takes at least, unless told otherwise."""

# A checkout can be measured without being installed.
sys.path.append(str(Path(__file__).resolve().parents[1]))


# --- in the workers' processes --------------------------------------------------------------------


class Side:
    """What is measured in one process: a call, `self.run`, that `prepare` chooses."""

    run: Callable[[], Any]

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def version(self) -> str:
        """Say what is measured."""
        raise NotImplementedError

    def prepare(self, task: Any) -> None:
        """Set `self.run`."""
        raise NotImplementedError

    def around(self) -> AbstractContextManager[Any]:
        """Return the context in which the call is made."""
        return nullcontext()

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""

    def measure(self, repeats: int, blocks: int) -> list[float]:
        """Return the seconds of a call, the mean of each of `blocks` times `repeats` calls."""
        run, times = self.run, []
        with self.around():
            run()
            for _ in range(blocks):
                self.synchronize()
                start = time.perf_counter()
                for _ in range(repeats):
                    run()
                self.synchronize()
                times.append((time.perf_counter() - start) / repeats)
        return times

    def rest(self) -> None:
        """Wait until no thread of this process works any more."""
        end = time.perf_counter() + LONGEST_PAUSE
        while time.perf_counter() < end:
            before = time.process_time()
            time.sleep(0.005)
            if time.process_time() - before < 0.001:
                return

    def calibrate(self, least: float) -> int:
        """Return how many calls take at least that many seconds."""
        repeats = 1
        while True:
            took = min(self.measure(repeats, 2)) * repeats
            if took >= least:
                return repeats
            repeats = math.ceil(repeats * min(max(1.2 * least / max(took, 1e-9), 1.5), 100))


class Machine(Side):
    """What the machine can do: NumPy's matrix product and NumPy's copy."""

    def version(self) -> str:
        """Say what is measured."""
        return f"NumPy {np.__version__}"

    def prepare(self, task: tuple[str, int]) -> None:
        """Get ready for ("sgemm", rows and columns) or ("copy", bytes read and written)."""
        what, size = task
        if what == "sgemm":
            rng = np.random.default_rng(0)
            a, b = rng.standard_normal((2, size, size), dtype=np.float32)
            product = np.empty_like(a)
            self.run = lambda: np.matmul(a, b, out=product)
        else:
            source = np.ones(max(size // 8, 1), np.float32)
            target = np.ones_like(source)
            self.run = lambda: np.copyto(target, source)


def serve(connection: Connection, side: str, threads: int) -> None:
    """Make a side, `module.Class`, and do what comes through the pipe until it closes."""
    try:
        module, name = side.rsplit(".", 1)
        served = getattr(importlib.import_module(module), name)(threads)
        connection.send((None, served.version()))
        while True:
            method, arguments = connection.recv()
            connection.send((None, getattr(served, method)(*arguments)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        connection.send((f"{type(error).__name__}: {error}", None))


# --- memory of a process, on Linux ----------------------------------------------------------------


def memory_status() -> dict[str, int]:
    """Return the bytes of `VmRSS` (now resident), `VmHWM` (at most) and `RssFile` (from files)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith(("VmRSS", "VmHWM", "RssFile")))
    return {name.rstrip(":"): int(kilobytes) << 10 for name, kilobytes, _ in fields}


class PeakMemory:
    """How far the memory of this process rises above what it holds when this is made.

    Counted is the resident memory without that of mapped files, which is the libraries' own code
    as it comes to be used. What was freed before is given back to the system first, so that no
    side starts with some in hand. Raises `OSError` where the system does not tell.
    """

    def __init__(self) -> None:
        self.reset()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
        status = memory_status()
        if len(status) < 3:
            raise OSError("/proc/self/status does not tell VmRSS, VmHWM and RssFile")
        self.before = status["VmRSS"] - status["RssFile"]
        self.reset()

    def reset(self) -> None:
        """Forget the peak there was."""
        Path("/proc/self/clear_refs").write_text("5")

    def __call__(self) -> int:
        """Return the bytes since the last reset."""
        status = memory_status()
        return status["VmHWM"] - status["RssFile"] - self.before


class TrainingSide(Side):
    """A network in training: `step` makes a step and returns the loss."""

    def step(self) -> Any:
        """Make a training step."""
        raise NotImplementedError

    def first_steps(self, count: int) -> tuple[list[float], dict[str, int]]:
        """Return the losses of the first steps, and the peak memory in them and in as many more.

        The memory is that beyond what model and data took before the first step; empty where the
        system does not tell.
        """
        try:
            peak = PeakMemory()
        except OSError:
            return [self.step().item() for _ in range(count)], {}
        losses = [self.step().item() for _ in range(count)]
        memory = {"first_steps": peak()}
        peak.reset()
        for _ in range(count):
            self.step()
        memory["later_steps"] = peak()
        return losses, memory

    def scores(self) -> np.ndarray:
        """Return what `run` says of each image."""
        raise NotImplementedError


# --- in the parent --------------------------------------------------------------------------------


class Worker:
    """A side in a process of its own, with a given number of threads."""

    def __init__(self, name: str, side: str, threads: int) -> None:
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = str(threads)  # the new process inherits it
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, other = context.Pipe()
        process = context.Process(target=serve, args=(other, side, threads), daemon=True)
        process.start()
        other.close()
        self.version: str = self._answer()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the side and return what it returns."""
        self.connection.send((method, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            error, result = self.connection.recv()
        except EOFError:
            error = "the process ended (out of memory?)"
        if error:
            raise SystemExit(f"error: {self.name}: {error}")
        return result


def take_turns(
    workers: Mapping[str, Worker], rounds: int, *, blocks: int = 1, least: float = LEAST
) -> dict[str, list[float]]:
    """Return each worker's times of a call, `blocks` from each round.

    A block repeats the call until it takes at least `least` seconds.
    """
    repeats = {}
    for name, worker in workers.items():
        repeats[name] = worker.call("calibrate", least)
        worker.call("rest")
    times: dict[str, list[float]] = {name: [] for name in workers}
    order, shuffle = list(workers), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            times[name] += workers[name].call("measure", repeats[name], blocks)
            workers[name].call("rest")
    return times


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each list."""
    return {name: statistics.median(values) for name, values in times.items()}


def spread(times: Sequence[float]) -> str:
    """Return the quartiles, in milliseconds."""
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return f"{1e3 * low:.4g} .. {1e3 * high:.4g}"


# --- the command line and what is printed ---------------------------------------------------------


def argument_parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that the scripts share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--against",
        choices=("torch", "none"),
        help="the other side (default: torch where it is installed)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=available_processors(),
        help="threads of each side (default: the processors that there are, %(default)s)",
    )
    parser.add_argument(
        "--rounds", type=positive, default=rounds, help="turns of each side (default: %(default)s)"
    )
    parser.add_argument(
        "--json", type=writable_file, metavar="FILE", help="also write the figures there"
    )
    return parser


def writable_file(text: str) -> Path:
    """Return a path given on the command line that can be written to."""
    path = Path(text)
    try:
        path.open("a").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def positive(text: str) -> int:
    """Return a positive integer given on the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def available_processors() -> int:
    """Return how many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_rival(against: str | None) -> bool:
    """Say whether PyTorch is measured too; raises `SystemExit` where it is wanted but missing."""
    if against == "none":
        return False
    if importlib.util.find_spec("torch"):
        return True
    if against == "torch":
        raise SystemExit("error: --against torch: PyTorch is not installed (pip install torch)")
    print("PyTorch is not installed (pip install torch): this side alone is measured\n")
    return False


def processor_name() -> str:
    """Return what the system calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def describe_run(workers: Iterable[Worker], threads: int) -> dict[str, Any]:
    """Print what is measured where, and return it."""
    versions = list(dict.fromkeys(worker.version for worker in workers))
    print(f"{processor_name()}, {threads} threads; {'; '.join(versions)}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(f"The machine was not idle at the start: {load:.2f} processes ran in the last minute")
    print()
    return {
        "processor": processor_name(),
        "threads": threads,
        "versions": versions,
        "load_at_start": load,
    }


def compare(times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return medians, `ours_ms` and `peer_ms` by configuration, and `ratio`, to the peer's best.

    `ratio_of_fastest` is that of the fastest times instead, which says less of what a user waits
    and more of the code where a machine is shared with others.
    """
    peers = [name for name in ("contiguous", "channels_last") if name in times]
    middle = {name: 1e3 * statistics.median(times[name]) for name in ("ours", *peers)}
    fastest = {name: 1e3 * min(times[name]) for name in ("ours", *peers)}
    figures: dict[str, Any] = {
        "ours_ms": middle["ours"],
        "peer_ms": {name: middle[name] for name in peers},
        "ratio": None,
        "ratio_of_fastest": None,
    }
    if peers:
        figures["ratio"] = middle["ours"] / min(middle[name] for name in peers)
        figures["ratio_of_fastest"] = fastest["ours"] / min(fastest[name] for name in peers)
    return figures


def verdict(value: float | None, must: float, aim: float, *, at_least: bool = False) -> str:
    """Say of a figure whether it is what it must be, or even what it should be."""
    if value is None:
        return ""
    target = f"(must {must:.2f}, aim {aim:.2f})"
    sign = -1 if at_least else 1
    if sign * value > sign * must:
        return f"{target}: MISSED"
    return f"{target}: {'aim reached' if sign * value <= sign * aim else 'reached'}"


def formatted(value: float | None, digits: int = 4) -> str:
    """Return a number for a table, `-` where there is none."""
    if value is None:
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        places = max(digits - 1 - math.floor(math.log10(abs(value) or 1)), 0)
        return f"{value:.{places}f}"
    return f"{value:.{digits - 1}g}"


def percent(value: float | None) -> str:
    """Return a share for a table, `-` where there is none."""
    return "-" if value is None else f"{100 * value:.0f} %"


class Table:
    """A table printed row by row, so that what was measured is seen at once."""

    def __init__(self, first: int, *columns: str) -> None:
        self.first, self.widths = first, [max(len(column), 9) for column in columns]
        self.row("", *columns)

    def row(self, label: str, *cells: str) -> None:
        """Print a row."""
        fields = (f"{cell:>{width}}" for cell, width in zip(cells, self.widths, strict=True))
        print(f"{label:<{self.first}}  {'  '.join(fields)}", flush=True)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write the figures, if there is a path."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")
