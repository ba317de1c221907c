"""Programs and their kernels: compile, cache, launch."""

import ctypes
import functools
import json
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO, overload

import numpy as np

from tinygrad_mask.emulator import headers as standard
from tinygrad_mask.emulator import nvrtc
from tinygrad_mask.emulator.abi import (
    MODES,
    ORDERS,
    CBuffer,
    CExtent,
    CFinding,
    CLaunch,
    CPointer,
    CResult,
)
from tinygrad_mask.emulator.arguments import pack
from tinygrad_mask.emulator.cache import cached, digest
from tinygrad_mask.emulator.counts import Counts, collect
from tinygrad_mask.emulator.errors import EmulatorError
from tinygrad_mask.emulator.findings import kernel_error
from tinygrad_mask.emulator.host_memory import check_memory
from tinygrad_mask.emulator.ptx import PtxModule, PtxVariable
from tinygrad_mask.emulator.ptx_parser import parse_module
from tinygrad_mask.emulator.signatures import KernelParameter, parameters
from tinygrad_mask.emulator.toolchain import compile_kernel, kernel_key, load_runtime
from tinygrad_mask.emulator.translate import RED_ZONE, Description, translate

MOST_LOCAL_BYTES = 512 * 1024
"""Local memory that a thread may have, on every architecture."""

Dimensions = tuple[int, int, int]

_SHARED_LIMITS = {
    70: 96, 72: 96, 75: 64, 80: 163, 86: 99, 87: 163, 88: 163, 89: 99, 90: 227,
    100: 227, 101: 227, 103: 227, 110: 227, 120: 99, 121: 99,
}  # fmt: skip
"""KiB of shared memory that a block may ask for, by compute capability."""


@dataclass(frozen=True)
class Attributes:
    """What the PTX tells of a kernel; a bound that it does not set is None.

    Args:
        static_shared_bytes: Shared memory of fixed size, a block.
        max_threads: `__launch_bounds__`: threads that a block may have.
        required_block: The only size that a block may have.
        min_blocks: Blocks that shall fit on a multiprocessor.
        max_registers: Registers that a thread may use.
    """

    static_shared_bytes: int
    max_threads: int | None
    required_block: Dimensions | None
    min_blocks: int | None
    max_registers: int | None


class Program:
    """A CUDA source, compiled for an architecture.

    Args:
        source: CUDA C++.
        name: What the file is called in messages.
        headers: Contents of what it includes, by name.
        arch: "sm_75", "sm_90", ...
        options: Options of NVRTC; line information is always added. With "-G" nothing is
            optimised away, and nothing is inlined.
        name_expressions: Instances of templates to make, such as `scale<float, 4>`; kernels that
            are `extern "C"` need none.

    Standard headers such as `<stdint.h>` and `<cassert>` need not be given, nor those of CUDA, such
    as `<cuda_fp16.h>`, where the wheels that have them are installed.

    Compilation is put off until a function is asked for, and what it gives is cached on disk.
    """

    def __init__(
        self,
        source: str,
        *,
        name: str = "kernel.cu",
        headers: Mapping[str, str] | None = None,
        arch: str = "sm_90",
        options: Sequence[str] = ("-std=c++17", "-ftz=true"),
        name_expressions: Sequence[str] = (),
    ) -> None:
        if not re.fullmatch(r"sm_\d+[af]?", arch):
            raise EmulatorError(f"arch is such as 'sm_90', not {arch!r}")
        self.source = source
        self.name = name
        self.headers = dict(headers or {})
        self.arch = arch
        self.options = tuple(options)
        self.name_expressions = tuple(name_expressions)
        self._functions: dict[str, Kernel] = {}
        self._variables: dict[str, tuple[np.ndarray, bool]] | None = None

    @functools.cached_property
    def _compiled(self) -> tuple[str, dict[str, str]]:
        """The PTX and the symbols of the name expressions."""
        lines = [] if {"-G", "--device-debug"} & set(self.options) else ["-lineinfo"]
        options = [*lines, *(o for o in self.options if o != "-lineinfo")]
        names = {
            n for text in (self.source, *self.headers.values()) for n in standard.included(text)
        }
        headers, environment = dict(self.headers), ""
        if names - set(headers):
            headers |= {n: t for n, t in standard.STANDARD_HEADERS.items() if n not in headers}
            options += [f"-I{folder}" for folder in standard.include_folders()]
            environment = standard.identity()

        def make() -> dict[str, bytes]:
            compiled = nvrtc.compile_source(
                self.source,
                name=self.name,
                arch=self.arch.replace("sm_", "compute_"),
                headers=headers,
                options=options,
                name_expressions=self.name_expressions,
            )
            ptx = self._with_plain_names(compiled.ptx)
            return {
                "kernels.ptx": ptx.encode(),
                "names.json": json.dumps(compiled.names).encode(),
            }

        parts = [nvrtc.identity(), environment, self.arch, self.name, self.source, *self.options]
        parts += [part for item in headers.items() for part in item]
        parts += ["name expressions", *self.name_expressions]
        files = cached(digest("ptx", *parts), make)
        return files["kernels.ptx"].read_text(), json.loads(files["names.json"].read_text())

    def _with_plain_names(self, ptx: str) -> str:
        """Return PTX with the names of its files as they were given."""
        plain = [self.name, *self.headers]

        def shorten(match: re.Match[str]) -> str:
            path = match[2]
            for name in plain:
                if path == name or path.endswith(f"/{name}"):
                    return f'{match[1]}"{name}"'
            return match[0]

        return re.sub(r'(\.file\s+\d+\s+)"([^"]*)"', shorten, ptx)

    @property
    def ptx(self) -> str:
        """What NVRTC made of the source."""
        return self._compiled[0]

    @functools.cached_property
    def module(self) -> PtxModule:
        """The PTX, read."""
        return parse_module(self.ptx)

    def function(self, name: str) -> "Kernel":
        """Return a kernel by its name expression, or by its name if it is `extern "C"`.

        Raises `EmulatorError` if there is none of the name, `CompileError` if the source is wrong.
        """
        if name not in self._functions:
            symbol = self._compiled[1].get(name, name)
            if not re.search(rf"\.entry\s+{re.escape(symbol)}\s*\(", self.ptx):
                has = sorted({*self._compiled[1], *self._plain_kernels()})
                raise EmulatorError(
                    f"{self.name} has no kernel {name}; it has {', '.join(has) or 'none'}"
                )
            self._functions[name] = Kernel(self, name, symbol)
        return self._functions[name]

    def _plain_kernels(self) -> list[str]:
        symbols = re.findall(r"\.entry\s+([\w$]+)", self.ptx)
        return [s for s in symbols if s not in self._compiled[1].values()]

    def variable(self, name: str) -> np.ndarray:
        """Return the memory of a `__device__` or `__constant__` variable, to read and to write.

        Its bytes (uint8), as all kernels of the program see them. Raises `EmulatorError` if there
        is none of the name.
        """
        if name not in self.variables:
            raise EmulatorError(
                f"{self.name} has no variable {name}; it has {', '.join(self.variables) or 'none'}"
            )
        return self.variables[name][0]

    @property
    def variables(self) -> dict[str, tuple[np.ndarray, bool]]:
        """Memory of each variable outside of functions, and whether kernels may only read it."""
        if self._variables is None:
            self._variables = {}
            if re.search(r"^\s*(\.\w+\s+)*\.(global|const)\s", self.ptx, re.M):
                for name, (space, variable) in self.module.variables.items():
                    if space != "shared":
                        self._variables[name] = (_aligned_bytes(variable), space == "const")
                self.reset_variables()
        return self._variables

    def reset_variables(self) -> None:
        """Give each variable outside of functions the value that it begins with."""
        for name, (array, _) in self.variables.items():
            array[:] = _initial_bytes(self.module.variables[name][1])


def _aligned_bytes(variable: PtxVariable) -> np.ndarray:
    """Return memory for a variable: aligned to what it declares, and to no more."""
    size = max(variable.bytes, 1)
    memory = np.zeros(size + 1024, np.uint8)
    align = max(variable.align, 1)
    start = (align if align < 256 else 0) - memory.ctypes.data
    start %= max(256, align)
    return memory[start : start + size]


def _initial_bytes(variable: PtxVariable) -> np.ndarray:
    array = np.zeros(max(variable.bytes, 1), np.uint8)
    if variable.initial:
        items = variable.initial.strip("{} \n").split(",")
        width = variable.bytes // max(1, variable.count)
        for i, item in enumerate(items):
            text = item.strip()
            if match := re.fullmatch(r"0[fFdD]([0-9a-fA-F]+)", text):
                value = int(match[1], 16)
            elif re.fullmatch(r"-?\w+", text) and not re.match(r"[A-Za-z_$]", text):
                value = int(text.rstrip("uU"), 0)
            else:
                raise EmulatorError(f"the initial value of {variable.name} has an address in it")
            value &= (1 << 8 * width) - 1
            array[i * width : (i + 1) * width] = list(value.to_bytes(width, "little"))
    return array


class Kernel:
    """A kernel of a program."""

    def __init__(self, program: Program, name: str, symbol: str) -> None:
        self.program = program
        self.name = name
        self.symbol = symbol
        self._loaded: dict[str, tuple[Description, int, ctypes.CDLL]] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def attributes(self) -> Attributes:
        """What the PTX tells of the kernel."""
        function = self.program.module.functions[self.symbol]
        directives = function.directives
        described = translate(self.program.module, self.symbol, "fast")[1]

        def single(name: str) -> int | None:
            return directives[name][0] if name in directives else None

        required = directives.get("reqntid")
        most = directives.get("maxntid", required)
        return Attributes(
            static_shared_bytes=described.static_bytes,
            max_threads=int(np.prod(most)) if most else None,
            required_block=_three(required) if required else None,
            min_blocks=single("minnctapersm"),
            max_registers=single("maxnreg"),
        )

    @functools.cached_property
    def parameters(self) -> tuple[KernelParameter, ...] | None:
        """Names and types of the parameters as the source declares them; None if not found."""
        program = self.program
        count = len(program.module.functions[self.symbol].parameters)
        return parameters(self.name, [program.source, *program.headers.values()], count)

    def _load(self, mode: str) -> tuple[Description, int, ctypes.CDLL]:
        """Return what a launch in a mode needs, compiled if it is not yet."""
        with self._lock:
            if mode not in self._loaded:

                def make() -> dict[str, bytes]:
                    source, description = translate(self.program.module, self.symbol, mode)
                    return {
                        "kernel.cpp": source.encode(),
                        "kernel.so": compile_kernel(source, mode),
                        "description.json": json.dumps(description.to_json()).encode(),
                    }

                files = cached(kernel_key(self.program.ptx, self.symbol, mode=mode), make)
                data = json.loads(files["description.json"].read_text())
                library = ctypes.CDLL(str(files["kernel.so"]))
                entry = ctypes.cast(library.emulator_kernel, ctypes.c_void_p).value
                assert entry is not None
                self._loaded[mode] = (Description.from_json(data), entry, library)
            return self._loaded[mode]

    @overload
    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        arguments: Sequence[Any],
        *,
        shared_bytes: int = ...,
        reachable: Sequence[np.ndarray] = ...,
        mode: Literal["fast", "check"] = ...,
        order: str = ...,
        seed: int = ...,
        stop_after: int = ...,
        output: TextIO | None = ...,
    ) -> None: ...
    @overload
    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        arguments: Sequence[Any],
        *,
        shared_bytes: int = ...,
        reachable: Sequence[np.ndarray] = ...,
        mode: Literal["count"],
        order: str = ...,
        seed: int = ...,
        stop_after: int = ...,
        output: TextIO | None = ...,
    ) -> Counts: ...
    @overload
    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        arguments: Sequence[Any],
        *,
        shared_bytes: int = ...,
        reachable: Sequence[np.ndarray] = ...,
        mode: str,
        order: str = ...,
        seed: int = ...,
        stop_after: int = ...,
        output: TextIO | None = ...,
    ) -> Counts | None: ...
    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        arguments: Sequence[Any],
        *,
        shared_bytes: int = 0,
        reachable: Sequence[np.ndarray] = (),
        mode: str = "fast",
        order: str = "forward",
        seed: int = 0,
        stop_after: int = 1,
        output: TextIO | None = None,
    ) -> Counts | None:
        """Run the kernel over a grid, to its end.

        Args:
            grid: Blocks in x, y and z, or in x alone.
            block: Threads of a block, likewise.
            arguments: One for each parameter: a C-contiguous array (the kernel gets a pointer to
                its first element), None (a null pointer), a NumPy scalar (by value), or a scalar
                of a structured dtype with `align=True` (a struct by value). Arrays that are not
                writeable may only be read.
            shared_bytes: Dynamic shared memory of a block.
            reachable: Arrays that the kernel gets at through pointers kept elsewhere.
            mode: "fast" runs, on all processors; "check" tests every access; "count" counts.
            order: In which order blocks and threads get their turns: "forward", "reverse" or
                "random".
            seed: Of the random order.
            stop_after: In check mode the launch ends after so many findings; each kind is reported
                once at each instruction. What stops a block ends the launch at once.
            output: Where to write what the kernel prints; by default `sys.stdout`.

        Returns what was counted in mode "count". Raises `KernelError` for what the kernel does
        wrong (the first; its `findings` are all), `EmulatorError` for a launch that could not
        begin. After a `KernelError` the variables of the program are what they were before.
        """
        if mode not in MODES or order not in ORDERS:
            raise EmulatorError(f"mode is one of {list(MODES)}, order one of {list(ORDERS)}")
        description, entry, _ = self._load(mode)
        grid_size, block_size = self._check_sizes(description, grid, block, shared_bytes)
        variables = self.program.variables
        packed = pack(
            self.name,
            description.parameters,
            self.parameters,
            arguments,
            reachable,
            variables,
            checked=mode == "check",
        )
        if mode == "check":
            check_memory(self.name, sum(buffer.bytes for buffer in packed.buffers))
        before = {name: array.copy() for name, (array, _) in variables.items()}
        launch = CLaunch()
        parameters = ctypes.create_string_buffer(packed.parameters, len(packed.parameters) + 1)
        buffers = (CBuffer * len(packed.buffers))(*packed.buffers)
        pointers = (CPointer * len(packed.pointers))(*packed.pointers)
        extents = (CExtent * len(description.parameters))(
            *(CExtent(p.offset, p.bytes) for p in description.parameters)
        )
        shared = (CExtent * len(description.shared))(
            *(CExtent(s.offset, shared_bytes if s.dynamic else s.bytes) for s in description.shared)
        )
        counters = np.zeros(len(description.pieces) if mode == "count" else 0, np.uint64)
        memory = np.zeros((len(description.sites) if mode == "count" else 0, 5), np.uint64)
        sectors = np.zeros(2, np.uint64)
        launch.entry = entry
        launch.parameters = ctypes.addressof(parameters)
        launch.parameter_bytes = len(packed.parameters)
        launch.pointers, launch.pointer_count = ctypes.addressof(pointers), len(pointers)
        launch.buffers, launch.buffer_count = ctypes.addressof(buffers), len(buffers)
        launch.variable_count = len(variables)
        launch.parameter_extents = ctypes.addressof(extents)
        launch.parameter_count = len(extents)
        launch.shared, launch.shared_count = ctypes.addressof(shared), len(shared)
        launch.counters, launch.counter_count = counters.ctypes.data, len(counters)
        launch.sectors = sectors.ctypes.data
        launch.memory, launch.site_count = memory.ctypes.data, len(description.sites)
        launch.grid, launch.block = grid_size, block_size
        launch.arena_bytes = description.shared_end + shared_bytes + RED_ZONE
        launch.dynamic_bytes, launch.stack_bytes = shared_bytes, description.stack_bytes
        launch.mode, launch.order, launch.seed = MODES[mode], ORDERS[order], seed & 0xFFFFFFFF
        launch.workers = len(os.sched_getaffinity(0))
        launch.suspends, launch.partial = description.suspends, description.partial
        launch.flush, launch.warp_accesses = description.flush, 1024
        launch.interruptible = threading.current_thread() is threading.main_thread()
        found = (CFinding * max(stop_after, 1))()
        result = CResult(found, len(found))
        code = load_runtime().emulator_launch(ctypes.byref(launch), ctypes.byref(result))
        if result.printed:
            text = ctypes.string_at(result.printed, result.printed_bytes)
            load_runtime().emulator_free(ctypes.c_void_p(result.printed))
            print(text.decode(errors="replace"), end="", file=output or sys.stdout)
        if code == 1:
            for name, array in before.items():
                variables[name][0][:] = array
            errors = tuple(
                kernel_error(f, self.name, description, packed.labels, packed.names, shared_bytes)
                for f in found[: result.count]
            )
            errors[0].findings = errors
            raise errors[0]
        if code:
            raise EmulatorError(f"there is not enough memory to run {self.name} in mode {mode}")
        if mode != "count":
            return None
        threads = int(np.prod([*grid_size, *block_size]))
        read, written = sectors.tolist()
        return collect(description, counters, memory, threads, (read, written))

    def _check_sizes(
        self,
        description: Description,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        shared_bytes: int,
    ) -> tuple[Dimensions, Dimensions]:
        grid_size, block_size = _three(grid), _three(block)
        threads = block_size[0] * block_size[1] * block_size[2]
        limits = zip(
            (*grid_size, *block_size), (2**31 - 1, 65535, 65535, 1024, 1024, 64), strict=True
        )
        if not all(1 <= size <= limit for size, limit in limits) or threads > 1024:
            raise EmulatorError(
                f"{self.name}: no GPU runs a grid of {grid_size} blocks of {block_size} threads"
            )
        directives = description.directives
        if "reqntid" in directives and _three(directives["reqntid"]) != block_size:
            raise EmulatorError(
                f"{self.name} is compiled for blocks of {directives['reqntid']}, not {block_size}"
            )
        most = int(np.prod(directives.get("maxntid", [1024])))
        if threads > most:
            raise EmulatorError(
                f"{self.name} is compiled for at most {most} threads a block, not {threads}"
            )
        capability = int(re.sub(r"\D", "", self.program.arch))
        limit = _SHARED_LIMITS.get(capability, 227) * 1024
        total = description.static_bytes + shared_bytes
        if shared_bytes < 0 or total > limit:
            raise EmulatorError(
                f"{self.name} asks for {total} bytes of shared memory a block, "
                f"{self.program.arch} has {limit}"
            )
        if description.local_bytes > MOST_LOCAL_BYTES:
            raise EmulatorError(
                f"{self.name}: expected at most {MOST_LOCAL_BYTES} bytes of local memory per "
                f"thread, got {description.local_bytes}; no GPU has more"
            )
        return grid_size, block_size


def _three(sizes: int | Sequence[int]) -> Dimensions:
    """Return a size in three dimensions, those that are not given as 1."""
    if isinstance(sizes, int | np.integer):
        return int(sizes), 1, 1
    if not 1 <= len(sizes) <= 3:
        raise EmulatorError(f"a size has one to three dimensions, not {len(sizes)}")
    padded = [*(int(size) for size in sizes), 1, 1]
    return padded[0], padded[1], padded[2]
