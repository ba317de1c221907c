"""What the compiler makes of a kernel for a GPU: its machine code (SASS) and what that takes.

NVRTC compiles to machine code for any architecture, without a GPU, and its log tells of registers,
spills and shared memory; nvdisasm, from its wheel on PyPI, lists the instructions.
"""

import functools
import importlib.util
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_mask.emulator import nvrtc
from tinygrad_mask.emulator.cache import cached, digest
from tinygrad_mask.emulator.errors import EmulatorError
from tinygrad_mask.emulator.loops import natural_loops

INSTRUCTION_BYTES = 16  # of every architecture from 7.0 on


@dataclass(frozen=True)
class MachineInstruction:
    """An instruction of machine code.

    Args:
        opcode: With its modifiers: "LDG.E.128".
        operands: As nvdisasm writes them.
        predicate: "@P0", "@!UP1", or nothing if it is always executed.
    """

    opcode: str
    operands: str
    predicate: str = ""

    @property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def target(self) -> int | None:
        """Where a branch goes, as the number of an instruction."""
        match = re.search(r"(?:^|,)\s*(0x[0-9a-f]+)$", self.operands)
        return int(match[1], 16) // INSTRUCTION_BYTES if match else None


@dataclass(frozen=True)
class Mix:
    """How many instructions of some kinds there are in a stretch of code.

    Args:
        total: All, but for `NOP`.
        ffma: Fused multiplications and additions of float32 (`FFMA`, and `FFMA2`, of two pairs).
        dfma: Those of float64.
        global_loads: Loads from global memory, `LDGSTS` (what `cp.async` becomes) among them.
        global_loads_128: Those of 128 bits a thread.
        global_stores: Stores to global memory.
        global_stores_128: Those of 128 bits a thread.
        shared_loads: Loads from shared memory.
        shared_loads_128: Those of 128 bits a thread.
        shared_stores: Stores to shared memory, without `LDGSTS`.
        local: Loads from and stores to local memory: spilled registers, and arrays whose index
            is not known to the compiler.
        barriers: `BAR`.
    """

    total: int
    ffma: int
    dfma: int
    global_loads: int
    global_loads_128: int
    global_stores: int
    global_stores_128: int
    shared_loads: int
    shared_loads_128: int
    shared_stores: int
    local: int
    barriers: int

    @property
    def fma_share(self) -> float:
        """The share of instructions that are fused multiplications and additions."""
        return (self.ffma + self.dfma) / self.total if self.total else 0.0


def _mix(instructions: Iterable[MachineInstruction]) -> Mix:
    names: Counter[str] = Counter()
    wide: Counter[str] = Counter()
    for instruction in instructions:
        names[instruction.name] += 1
        if "128" in instruction.opcode.split("."):
            wide[instruction.name] += 1
    return Mix(
        total=sum(names.values()) - names["NOP"],
        ffma=names["FFMA"] + names["FFMA2"],
        dfma=names["DFMA"],
        global_loads=names["LDG"] + names["LDGSTS"],
        global_loads_128=wide["LDG"] + wide["LDGSTS"],
        global_stores=names["STG"],
        global_stores_128=wide["STG"],
        shared_loads=names["LDS"],
        shared_loads_128=wide["LDS"],
        shared_stores=names["STS"],
        local=names["LDL"] + names["STL"],
        barriers=names["BAR"],
    )


@dataclass(frozen=True)
class MachineCode:
    """A kernel's machine code.

    Args:
        symbol: Its name in the object file.
        arch: The architecture that it is for.
        registers: Registers of a thread.
        stack_bytes: Local memory of a thread.
        spill_bytes: What is stored to local memory, and loaded, for want of registers.
        shared_bytes: Static shared memory of a block.
        instructions: All of them, in order.
    """

    symbol: str
    arch: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int
    instructions: tuple[MachineInstruction, ...]

    @functools.cached_property
    def mix(self) -> Mix:
        """The kinds of all instructions."""
        return _mix(self.instructions)

    @functools.cached_property
    def loops(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of the instructions of each loop, inner loops before outer ones."""
        return natural_loops(successors(self.instructions))

    @functools.cached_property
    def hot_loop(self) -> Mix | None:
        """The kinds of the instructions of the hot loop; None where there is no loop.

        The hot loop is the shortest of those loops that have at least half as many fused
        multiplications and additions as the one with most of them. A loop is what a backward branch
        closes: all instructions that lead to that branch without passing its target first. So
        small loops within it, such as one that steps on to the next image line, belong to it (their
        instructions count once), and the loop around it does not matter.
        """
        mixes = [_mix(self.instructions[i] for i in loop) for loop in self.loops]
        most = max((m.ffma + m.dfma for m in mixes), default=0)
        hot = [m for m in mixes if 2 * (m.ffma + m.dfma) >= most]
        return min(hot, key=lambda m: m.total, default=None)


def successors(instructions: Sequence[MachineInstruction]) -> list[list[int]]:
    """Return the numbers of the instructions that each may be followed by.

    `BSYNC B0` goes where the last `BSSY B0` before it says that the threads meet again.
    """
    meetings: dict[str, int] = {}
    found = []
    for i, instruction in enumerate(instructions):
        name, target = instruction.name, instruction.target
        following = [i + 1]
        register = instruction.operands.partition(",")[0].strip()
        if name == "BSSY" and target is not None:
            meetings[register] = target
        elif name == "BSYNC":
            following = [meetings.get(register, i + 1)]
        elif name in ("BRA", "JMP") and target is not None:
            # `BRA P0, 0x130` and `BRA.U UP0, 0x130` have a condition among the operands.
            conditional = instruction.predicate or "," in instruction.operands
            following = [target, i + 1] if conditional else [target]
        elif name in ("EXIT", "RET", "BRX", "KILL"):
            following = [i + 1] if instruction.predicate else []
        found.append([j for j in following if j < len(instructions)])
    return found


# --- from a source to machine code ----------------------------------------------------------------


@functools.cache
def disassembler() -> Path:
    """Return where nvdisasm is.

    Raises `EmulatorError` where it is not installed.
    """
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for pattern in ("cu*/bin/nvdisasm", "cuda_nvdisasm/bin/nvdisasm"):
            if found := sorted(Path(root).glob(pattern)):
                return found[-1]
    raise EmulatorError(
        "nvdisasm was not found: it lists the instructions of machine code; "
        'install it with pip install "tinygrad_mask[emulator]" (the package nvidia-cuda-nvdisasm)'
    )


def machine_code(
    source: str,
    *,
    name: str = "kernel.cu",
    headers: Mapping[str, str] | None = None,
    arch: str = "sm_90",
    options: Sequence[str] = ("-std=c++17", "-ftz=true"),
    name_expressions: Sequence[str] = (),
) -> dict[str, MachineCode]:
    """Compile a source to machine code.

    Args:
        source: CUDA C++.
        name: What the file is called in messages.
        headers: Contents of what it includes, by name.
        arch: "sm_75", "sm_90", ...
        options: Options of NVRTC.
        name_expressions: Instances of templates to make, such as `scale<float, 4>`; kernels that
            are `extern "C"` need none.

    Returns the kernels, by name expression, or by name if they are `extern "C"`. What is made is
    cached on disk. Raises `CompileError` if the source has errors, `EmulatorError` where NVRTC or
    nvdisasm is missing.
    """
    headers = dict(headers or {})
    tool = disassembler()

    def make() -> dict[str, bytes]:
        compiled = nvrtc.compile_source(
            source,
            name=name,
            arch=arch,
            headers=headers,
            options=[*options, "--ptxas-options=-v"],
            name_expressions=name_expressions,
        )
        return {
            "names.json": json.dumps(compiled.names).encode(),
            "log.txt": compiled.log.encode(),
            "sass.json": _disassemble(tool, compiled.cubin),
        }

    parts = [nvrtc.identity(), str(tool), str(tool.stat().st_size), arch, name, source, *options]
    parts += [part for item in headers.items() for part in item]
    parts += ["name expressions", *name_expressions]
    files = cached(digest("machine code", *parts), make)
    names = {symbol: name for name, symbol in json.loads(files["names.json"].read_text()).items()}
    resources = _resources(files["log.txt"].read_text())
    _, functions = json.loads(files["sass.json"].read_text())
    return {
        names.get(symbol, symbol): MachineCode(symbol, arch, *resources[symbol], instructions)
        for symbol, instructions in map(_function, functions)
        if symbol in resources
    }


def _disassemble(tool: Path, cubin: bytes) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        result = subprocess.run(
            [str(tool), "--emit-json", "--print-code", file.name], capture_output=True, check=False
        )
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip()
        raise EmulatorError(f"{tool} does not list the machine code: {reason}")
    return result.stdout


def _function(function: dict[str, Any]) -> tuple[str, tuple[MachineInstruction, ...]]:
    """Return name and instructions of a function, as nvdisasm writes them in JSON."""
    return function["function-name"], tuple(
        MachineInstruction(i["opcode"], i.get("operands", ""), i.get("predicate", ""))
        for i in function["sass-instructions"]
    )


def _resources(log: str) -> dict[str, tuple[int, int, int, int]]:
    """Return registers, stack, spilled and static shared bytes of each kernel in ptxas' log."""
    found = {}
    for part in re.split(r"(?=Compiling entry function )", log)[1:]:
        symbol = re.match(r"Compiling entry function '([^']+)'", part)
        used = re.search(r"Used (\d+) registers(.*)", part)
        local = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        )
        if symbol is None or used is None or local is None:
            raise EmulatorError(f"ptxas' log is not as expected: {part}")
        shared = re.search(r"(\d+) bytes smem", used[2])
        found[symbol[1]] = (
            int(used[1]),
            int(local[1]),
            int(local[2]) + int(local[3]),
            int(shared[1]) if shared else 0,
        )
    return found
