"""Finds the host's C++ compiler, and compiles the runtime and translated kernels with it."""

import ctypes
import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tinygrad_mask.emulator.cache import cached, digest
from tinygrad_mask.emulator.errors import EmulatorError

COMPILER_VARIABLE = "CXX"
"""The environment variable that names the C++ compiler, with arguments if need be."""

_RUNTIME = Path(__file__).with_name("runtime")
_WARNINGS_OFF = ["-w"]
_COMMON = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-g0", "-fno-math-errno"]
_COMMON += ["-fno-trapping-math", "-ffp-contract=off", "-fno-strict-aliasing", "-fwrapv"]
_RUNTIME_FLAGS = [*_COMMON, "-O2", "-Wall", "-Wextra"]
_KERNEL_FLAGS = {
    "fast": [*_COMMON, *_WARNINGS_OFF, "-O2"],
    "check": [*_COMMON, *_WARNINGS_OFF, "-O1"],
    "count": [*_COMMON, *_WARNINGS_OFF, "-O1"],
}


@functools.cache
def compiler() -> tuple[tuple[str, ...], str]:
    """Return the command of the C++ compiler and the version it reports.

    The command has several words if `CXX` has, as in `CXX="ccache g++"`. Raises `EmulatorError` if
    no compiler is found, and on hosts that the emulator does not run on.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise EmulatorError(
            f"the emulator runs on Linux on x86-64 and aarch64; this is {sys.platform} "
            f"on {platform.machine()}"
        )
    named = os.environ.get(COMPILER_VARIABLE)
    for name, *arguments in [_words(named)] if named else [["g++"], ["clang++"], ["c++"]]:
        if path := shutil.which(name):
            command = (path, *arguments)
            try:
                version = subprocess.run(
                    [*command, "--version"], capture_output=True, text=True, check=True
                ).stdout
            except (OSError, subprocess.CalledProcessError) as error:
                shown = shlex.join(command)
                raise EmulatorError(f"the C++ compiler {shown} does not run: {error}") from error
            return command, version
    looked_for = f"{COMPILER_VARIABLE}={named}" if named else "g++, clang++, c++"
    raise EmulatorError(
        f"no C++ compiler was found ({looked_for}): the emulator needs one, such as g++ "
        f"(apt install g++); {COMPILER_VARIABLE} names another"
    )


def _words(command: str) -> list[str]:
    """Split the value of `CXX` as a shell does."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise EmulatorError(
            f"{COMPILER_VARIABLE}: expected a command, got {command!r} ({error}); "
            "close the quotation marks"
        ) from error
    return words or ["g++"]


@functools.cache
def _host_flags() -> tuple[str, ...]:
    """Return the flags for what this processor can do beyond the least of its kind."""
    if platform.machine() != "x86_64":
        return ()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    has = set(line.split())
    wanted = {"sse4_1": "-msse4.1", "avx": "-mavx", "avx2": "-mavx2", "fma": "-mfma"}
    wanted |= {"bmi1": "-mbmi", "bmi2": "-mbmi2", "abm": "-mlzcnt", "popcnt": "-mpopcnt"}
    return tuple(flag for name, flag in wanted.items() if name in has)


_TRANSLATOR = [
    *("ptx", "ptx_parser", "emitter", "instructions", "conversions", "memory", "control", "kinds"),
    "translate",
]


@functools.cache
def _runtime_digest() -> str:
    """Return a name for the contents of the runtime."""
    files = sorted(f for f in _RUNTIME.iterdir() if f.suffix in (".h", ".cpp"))
    return digest(*(part for f in files for part in (f.name, f.read_bytes())))


@functools.cache
def _translator_digest() -> str:
    """Return a name for what translated kernels are made from beside their PTX."""
    files = [_RUNTIME / f"{name}.h" for name in ("abi", "types", "floats", "integers", "device")]
    files += [Path(__file__).with_name(f"{name}.py") for name in _TRANSLATOR]
    return digest(*(f.read_bytes() for f in files))


def _run(arguments: list[str], what: str) -> None:
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise EmulatorError(f"{arguments[0]} did not compile {what}:\n{result.stderr[-4000:]}")


@functools.cache
def load_runtime() -> ctypes.CDLL:
    """Return the runtime, compiled if it is not yet."""
    command, version = compiler()
    sources = sorted(_RUNTIME.glob("*.cpp"))

    def make() -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:

            def compile_one(source: Path) -> str:
                output = str(Path(folder, source.stem + ".o"))
                _run([*command, *_RUNTIME_FLAGS, "-c", str(source), "-o", output], source.name)
                return output

            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                objects = list(pool.map(compile_one, sources))
            library = Path(folder, "runtime.so")
            _run([*command, "-shared", *objects, "-o", str(library), "-pthread"], "the runtime")
            return {"runtime.so": library.read_bytes()}

    key = digest("runtime", _runtime_digest(), *command, version, *_RUNTIME_FLAGS)
    return ctypes.CDLL(str(cached(key, make)["runtime.so"]))


def kernel_key(*parts: str, mode: str) -> str:
    """Return the name of a kernel's entry in the cache."""
    command, version = compiler()
    flags = [*_KERNEL_FLAGS[mode], *_host_flags()]
    return digest("kernel", _translator_digest(), *command, version, *flags, mode, *parts)


def compile_kernel(source: str, mode: str) -> bytes:
    """Return the shared library of a translated kernel."""
    command, _ = compiler()
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        file.write_text(source)
        flags = [*_KERNEL_FLAGS[mode], *_host_flags(), f"-I{_RUNTIME}"]
        _run(
            [*command, *flags, "-shared", str(file), "-o", str(library), "-lm"],
            "a translated kernel",
        )
        return library.read_bytes()
