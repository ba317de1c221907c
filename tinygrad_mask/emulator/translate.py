"""Translates a kernel from PTX to C++ that runs on the emulator's runtime.

Every PTX register becomes a local of C++, every instruction a statement, every branch a `goto`. A
thread of the kernel runs the function from begin to end; where it waits for others, the runtime
switches to another thread's stack.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tinygrad_mask.emulator import control, conversions, memory
from tinygrad_mask.emulator.control import c_name, label
from tinygrad_mask.emulator.emitter import Emitter
from tinygrad_mask.emulator.errors import UnsupportedError
from tinygrad_mask.emulator.headers import is_system_header
from tinygrad_mask.emulator.instructions import compute, split_types, unsupported
from tinygrad_mask.emulator.kinds import instruction_kind
from tinygrad_mask.emulator.ptx import (
    Address,
    Instruction,
    Label,
    Name,
    Operand,
    Pair,
    Place,
    PtxFunction,
    PtxModule,
    PtxVariable,
    Targets,
    Vector,
)
from tinygrad_mask.emulator.ptx_parser import parse_body

RED_ZONE = 128
"""Bytes of nothing between shared variables, and between parameters, in check mode."""


RESERVED_BYTES = 1024
"""Shared memory that the system keeps for itself, on devices from sm_80 on."""
_RESERVED = "%reserved_smem_offset"
_RESERVED_OFFSETS = {"begin": 0, "0": 0, "1": 0, "end": RESERVED_BYTES, "cap": RESERVED_BYTES}


@dataclass(frozen=True)
class ParameterInfo:
    """A kernel parameter: where it is in the parameter block, and what PTX says of its type."""

    type: str
    bytes: int
    offset: int


@dataclass(frozen=True)
class SharedInfo:
    """A shared variable; `bytes` of a dynamic one are the launch's."""

    name: str
    offset: int
    bytes: int
    dynamic: bool


@dataclass(frozen=True)
class SiteInfo:
    """An instruction that the runtime may report."""

    text: str
    file: str
    line: int
    callers: list[tuple[str, int]]
    action: str
    """What it does with memory: "load", "store", "atomic" or nothing."""


@dataclass(frozen=True)
class PieceInfo:
    """A piece of straight code, counted as one: its instructions by file, line and kind."""

    instructions: list[tuple[str, int, str, int]]


@dataclass
class Description:
    """What a launch must know of a translated kernel, beside its code."""

    parameters: list[ParameterInfo] = field(default_factory=list)
    shared: list[SharedInfo] = field(default_factory=list)
    shared_end: int = 0
    """Where dynamic shared memory begins."""
    static_bytes: int = 0
    """Static shared memory on the device."""
    stack_bytes: int = 0
    local_bytes: int = 0
    """Local arrays of a thread, of the deepest chain of calls."""
    suspends: bool = False
    """Threads may have to wait for one another."""
    partial: bool = False
    """Some synchronisation is among a part of a block."""
    flush: bool = False
    """The host shall take denormals for zeros."""
    directives: dict[str, list[int]] = field(default_factory=dict)
    sites: list[SiteInfo] = field(default_factory=list)
    pieces: list[PieceInfo] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it in terms of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Description":
        """Return what `to_json` was given."""
        return cls(
            **{
                **data,
                "parameters": [ParameterInfo(**p) for p in data["parameters"]],
                "shared": [SharedInfo(**s) for s in data["shared"]],
                "sites": [
                    SiteInfo(**{**s, "callers": [(f, n) for f, n in s["callers"]]})
                    for s in data["sites"]
                ],
                "pieces": [
                    PieceInfo([(f, n, k, c) for f, n, k, c in p["instructions"]])
                    for p in data["pieces"]
                ],
            }
        )


def translate(module: PtxModule, entry: str, mode: str) -> tuple[str, Description]:
    """Return the C++ source of a kernel for a mode ("fast", "check", "count"), and what it needs.

    Raises `UnsupportedError`, which names instruction and line, for what is not known.
    """
    return _Translator(module, entry, mode).run()


def _referenced(operands: Sequence[Operand]) -> Iterator[str]:
    for operand in operands:
        if isinstance(operand, Name):
            yield operand.name
        elif isinstance(operand, Address):
            yield from _referenced((operand.base,))
        elif isinstance(operand, Vector):
            yield from _referenced(operand.items)
        elif isinstance(operand, Pair):
            yield from _referenced((operand.first, operand.second))


def _instructions(function: PtxFunction) -> Iterator[Instruction]:
    for statement in function.statements:
        if isinstance(statement, Instruction):
            yield statement


_SUSPENDING = {"bar", "barrier", "shfl", "vote", "match", "redux", "elect", "nanosleep"}
_SUBNORMAL_SENSITIVE = {"add", "sub", "mul", "mad", "fma", "div", "rcp", "sqrt", "rsqrt", "ex2"}
_SUBNORMAL_SENSITIVE |= {"lg2", "sin", "cos", "tanh", "min", "max", "setp", "set", "slct", "cvt"}
_SUBNORMAL_SENSITIVE |= {"atom", "red"}


def _flushable(instruction: Instruction) -> bool:
    """Tell whether an instruction means the same where the host flushes denormals."""
    if instruction.opcode not in _SUBNORMAL_SENSITIVE:
        return True
    types, modifiers = split_types(instruction)
    if instruction.opcode == "cvt":
        target, source = types[0], types[-1]
        if not conversions.is_float(source):
            return True
        if "f64" in types:
            return target == source == "f64" and not set(modifiers) & {"rmi", "rpi"}
        return "ftz" in modifiers or not set(modifiers) & {"rmi", "rpi"}
    if instruction.opcode in ("atom", "red"):
        return "f64" not in types and ("f32" not in types or "global" in modifiers)
    if "f64" in types or "f32x2" in types:
        return False
    return "f32" not in types or "ftz" in modifiers


class _Translator:
    def __init__(self, module: PtxModule, entry: str, mode: str) -> None:
        self.module, self.mode = module, mode
        self.entry = module.functions[entry]
        self.functions = self.reachable()
        self.sites: list[tuple[Instruction, str]] = []
        self.pieces: list[list[Instruction]] = []
        self.constants: list[tuple[str, int]] = []
        self.parameter_bytes = 0
        self.copies: list[tuple[PtxFunction, Place]] = []
        self.piece = 0
        self.description = Description()
        everything = [i for f in self.functions for i in _instructions(f)]
        self.asks_for_spaces = any(i.opcode == "isspacep" for i in everything)
        flushes = any("ftz" in i.modifiers for i in everything)
        self.flush = flushes and all(map(_flushable, everything))
        self.globals = self.place_variables(everything)

    def reachable(self) -> list[PtxFunction]:
        """Return the kernel and all that it calls, those called first; refuses recursion."""
        order: list[PtxFunction] = []
        open_calls: list[str] = []

        def visit(function: PtxFunction) -> None:
            if function.name in open_calls:
                raise UnsupportedError(f"{function.name} calls itself: recursion is not supported")
            if function in order or function.body is None:
                return
            open_calls.append(function.name)
            parse_body(function)
            for instruction in _instructions(function):
                if instruction.opcode == "call":
                    for name in _referenced(instruction.operands):
                        if name in self.module.functions:
                            visit(self.module.functions[name])
            open_calls.pop()
            order.append(function)

        visit(self.entry)
        return order

    def place_variables(self, instructions: list[Instruction]) -> dict[str, str]:
        """Return the C++ address of each variable outside of functions; lays shared memory out."""
        symbols, used = {}, {n for i in instructions for n in _referenced(i.operands)}
        numbered = [n for n, (space, _) in self.module.variables.items() if space != "shared"]
        for number, name in enumerate(numbered):
            symbols[name] = f"(u64)V[{number}]"
            space, variable = self.module.variables[name]
            if space == "const":
                self.constants.append((symbols[name], variable.bytes))
        static = [v for f in self.functions for v in f.shared]
        dynamic: list[PtxVariable] = []
        for name, (space, variable) in self.module.variables.items():
            if space == "shared" and name in used:
                (dynamic if variable.dynamic else static).append(variable)
        position, packed = (RED_ZONE if self.mode == "check" else 0), 0
        shared = self.description.shared
        for variable in static:
            align = max(1, variable.align)
            packed = -(-packed // align) * align + variable.bytes
            position = -(-position // align) * align
            if self.mode == "check" and position % (2 * align) == 0:
                position += align  # aligned to what was declared, and to no more
            shared.append(SharedInfo(variable.name, position, variable.bytes, False))
            symbols[variable.name] = f"{position}u"
            position += variable.bytes + (RED_ZONE if self.mode == "check" else 0)
        if any(name.startswith(_RESERVED) for name in used):
            # What the system keeps for itself at the beginning of shared memory; groups of threads
            # larger than a warp have their barriers there.
            position = -(-position // 16) * 16
            shared.append(SharedInfo("reserved", position, RESERVED_BYTES, False))
            for name, offset in _RESERVED_OFFSETS.items():
                symbols[f"{_RESERVED}_{name}"] = f"{position + offset}u"
            position += RESERVED_BYTES + (RED_ZONE if self.mode == "check" else 0)
        align = max([16, *(v.align for v in dynamic)])
        position = -(-position // align) * align
        for variable in dynamic:
            symbols[variable.name] = f"{position}u"
        if dynamic:
            shared.append(SharedInfo(dynamic[0].name, position, 0, True))
        self.description.shared_end = position
        self.description.static_bytes = packed
        return symbols

    def run(self) -> tuple[str, Description]:
        description, entry = self.description, self.entry
        gap = RED_ZONE if self.mode == "check" else 0
        offset = gap
        for parameter in entry.parameters:
            align = max(parameter.align, 16) if gap else parameter.align
            offset = -(-offset // align) * align
            kind = parameter.type if parameter.count == 1 else "b8"
            description.parameters.append(ParameterInfo(kind, parameter.bytes, offset))
            offset += parameter.bytes + gap
        self.parameter_bytes = offset
        kept = [f for f in self.functions if not self.is_copied(f)]
        bodies = [self.function(f) for f in kept]
        for number, (function, place) in enumerate(self.copies, 1):  # grows: copies call others
            bodies.append(self.function(function, number, place))
        code = [self.prototype(f) + ";" for f in kept[:-1]]
        code += [self.prototype(f, n) + ";" for n, (f, _) in enumerate(self.copies, 1)]
        code += bodies
        everything = [i for f in self.functions for i in _instructions(f)]
        barriers = [i for i in everything if i.opcode in ("bar", "barrier")]
        description.suspends = self.mode == "count" or any(
            i.opcode in _SUSPENDING for i in everything
        )
        description.partial = any(
            "warp" in i.modifiers or len(i.operands) > (3 if "red" in i.modifiers else 1)
            for i in barriers
        )
        description.flush = self.flush
        # Each register and each temporary might have a place of its own on the stack.
        description.stack_bytes = 16384 + sum(
            16 * (len(f.registers) + len(f.statements))
            + sum(v.bytes + 16 for v in (*f.locals, *f.call_parameters))
            for f in self.functions
        )
        if any(n == "vprintf" for i in everything for n in _referenced(i.operands)):
            description.stack_bytes += 65536  # the host's own formatting
        description.local_bytes = self.local_bytes()
        description.directives = {k: list(v) for k, v in entry.directives.items()}
        description.sites = [self.site_info(*site) for site in self.sites]
        description.pieces = [self.piece_info(p) for p in self.pieces]
        source = '#include "device.h"\n\nnamespace emulator {\n\n' + "\n\n".join(code) + "\n\n}\n"
        return source, description

    def local_bytes(self) -> int:
        """Return the bytes of local arrays in the deepest chain of calls."""
        deepest: dict[str, int] = {}
        for function in self.functions:  # those called come first
            called = {
                name
                for i in _instructions(function)
                if i.opcode == "call"
                for name in _referenced(i.operands)
            }
            deepest[function.name] = sum(v.bytes for v in function.locals) + max(
                (deepest.get(name, 0) for name in called), default=0
            )
        return deepest[self.entry.name]

    def file(self, place: Place | tuple[int, int]) -> str:
        return self.module.files.get(place[0], "?")

    def site_info(self, instruction: Instruction, action: str) -> SiteInfo:
        place = instruction.place
        own, *callers = [(self.file(p), p[1]) for p in ((place.file, place.line), *place.callers)]
        while callers and is_system_header(own[0]):  # the line of the kernel's own source
            own = callers.pop(0)
        return SiteInfo(instruction.text, *own, callers, action)

    def piece_info(self, instructions: list[Instruction]) -> PieceInfo:
        counts: dict[tuple[str, int, str], int] = {}
        for instruction in instructions:
            place = instruction.place
            key = (self.file(place), place.line, instruction_kind(instruction))
            counts[key] = counts.get(key, 0) + 1
        return PieceInfo([(*key, count) for key, count in counts.items()])

    # ---- functions

    def is_copied(self, function: PtxFunction) -> bool:
        """Tell whether each call of a function has a copy of its own.

        So it is with those of NVIDIA's headers, and those that are in no file, such as shuffles
        that were not inlined: what goes wrong there is then reported where the kernel calls them.
        """
        if self.mode == "fast" or function is self.entry:
            return False
        place = next((i.place for i in _instructions(function) if i.place.file), None)
        return place is None or is_system_header(self.file(place))

    def name_of(self, name: str, call: Instruction) -> str:
        """Return the C++ name of a function that is called."""
        function = self.module.functions[name]
        if not self.is_copied(function):
            return f"f_{c_name(name)}"
        self.copies.append((function, call.place))
        return f"f_{c_name(name)}_at_{len(self.copies)}"

    def prototype(self, function: PtxFunction, copy: int = 0) -> str:
        if function is self.entry:
            return (
                'extern "C" __attribute__((visibility("default"))) void emulator_kernel(Thread *T)'
            )
        arguments = [f"char *o_{c_name(v.name)}" for v in function.results]
        arguments += [f"char *o_{c_name(v.name)}" for v in function.parameters]
        name = f"f_{c_name(function.name)}{f'_at_{copy}' if copy else ''}"
        return f"static void {name}({', '.join(['Thread *T', *arguments])})"

    def function(self, function: PtxFunction, copy: int = 0, place: Place | None = None) -> str:
        """Return the C++ of a function; of a copy the instructions are all at the call's place."""
        symbols = dict(self.globals)
        declarations = []
        if function is self.entry:
            for parameter, info in zip(
                function.parameters, self.description.parameters, strict=True
            ):
                symbols[parameter.name] = f"(u64)(P + {info.offset})"
        else:
            for variable in (*function.results, *function.parameters):
                symbols[variable.name] = f"(u64)o_{c_name(variable.name)}"
        for variable in (*function.call_parameters, *function.locals):
            name = f"o_{c_name(variable.name)}"
            declarations.append(
                f"alignas({max(variable.align, 16)}) char {name}[{max(1, variable.bytes)}];"
            )
            if self.mode != "fast" or self.asks_for_spaces:
                declarations.append(f"Local l_{name}(T, {name}, {variable.bytes});")
            symbols[variable.name] = f"(u64){name}"
        emitter = Emitter(
            function,
            self.mode,
            symbols,
            self.flush,
            self.sites,
            self.constants,
            self.parameter_bytes,
        )
        body = list(self.body(emitter, function, place))
        registers: dict[str, list[str]] = {}
        for register in sorted(emitter.used):
            kept = emitter.storage[register]
            registers.setdefault(kept, []).append(f"{emitter.variable(register)} = 0")
        declarations += [f"{kept} {', '.join(names)};" for kept, names in registers.items()]
        if emitter.needs_carry:
            declarations.append("u32 carry_ = 0;")
        if emitter.loops:
            declarations.append("u32 loops_ = 0;")
        lines = [
            "const Block *const B = T->block;",
            "const Runtime *const R = B->runtime;",
            "char *const SM = B->shared;",
            "const char *const P = B->parameters;",
            "char *const *const V = B->variables;",
            "u64 *const C = B->counters;",
            "(void)R, (void)SM, (void)P, (void)V, (void)C;",
            *declarations,
            *body,
        ]
        inner = "".join(f"    {line}\n" for line in lines)
        return f"{self.prototype(function, copy)} {{\n{inner}}}"

    def body(self, emitter: Emitter, function: PtxFunction, place: Place | None) -> Iterator[str]:
        tables = {s.name: s.labels for s in function.statements if isinstance(s, Targets)}
        yield self.new_piece()
        for statement in function.statements:
            if place is not None and isinstance(statement, Instruction):
                statement = replace(statement, place=place)
            if isinstance(statement, Label):
                emitter.passed.add(statement.name)
                yield f"{label(statement.name)}:;"
                yield self.new_piece()
            elif isinstance(statement, Instruction):
                yield f"{self.statement(emitter, statement, tables)}  // {statement.text}"
                if statement.opcode in ("bra", "brx", "bar", "barrier", "ret", "exit", "call"):
                    yield self.new_piece()

    def new_piece(self) -> str:
        """Return the statement that counts the instructions that follow."""
        self.piece = len(self.pieces)
        self.pieces.append([])
        return f"++C[{self.piece}];" if self.mode == "count" else ""

    def statement(
        self, emitter: Emitter, instruction: Instruction, tables: dict[str, tuple[str, ...]]
    ) -> str:
        try:
            code = self.instruction(emitter, instruction, tables)
        except UnsupportedError as error:
            text = f"'{instruction.text}' (PTX line {instruction.line})"
            if text in str(error):
                raise
            raise unsupported(instruction, str(error)) from None
        except (ValueError, KeyError, IndexError) as error:
            raise unsupported(instruction) from error
        if instruction.predicate is None:
            self.pieces[self.piece].append(instruction)
            return code
        count = ""
        if self.mode == "count" and instruction.opcode != "bra":
            count = f"++C[{len(self.pieces)}]; "
            self.pieces.append([instruction])
        else:
            self.pieces[self.piece].append(instruction)
        return f"if ({emitter.value(instruction.predicate, 'pred')}) {{ {count}{code} }}"

    def instruction(
        self, emitter: Emitter, instruction: Instruction, tables: dict[str, tuple[str, ...]]
    ) -> str:
        opcode = instruction.opcode
        if opcode in _CARRIES and (carried := conversions.carried_sum(emitter, instruction)):
            return carried
        if opcode in _HANDLERS:
            return _HANDLERS[opcode](emitter, instruction)
        if opcode == "brx":
            return control.branch_table(emitter, instruction, tables)
        if opcode == "call":
            bodies = {n: f.body is not None for n, f in self.module.functions.items()}
            return control.call(emitter, instruction, bodies, self.name_of)
        computed = compute(emitter, instruction)
        if computed is None:
            raise unsupported(instruction)
        return computed


_CARRIES = {"add", "addc", "sub", "subc", "mad", "madc"}
_HANDLERS = {
    "mov": conversions.move,
    "cvt": conversions.convert,
    "cvta": conversions.convert_address,
    "isspacep": conversions.is_in_space,
    "setp": conversions.set_predicate,
    "set": conversions.set_value,
    "slct": conversions.select,
    "ld": memory.load_store,
    "ldu": memory.load_store,
    "st": memory.load_store,
    "atom": memory.atomic,
    "red": memory.atomic,
    "cp": memory.copy_async,
    "membar": memory.fence,
    "fence": memory.fence,
    "prefetch": memory.nothing,
    "prefetchu": memory.nothing,
    "discard": memory.nothing,
    "applypriority": memory.nothing,
    "pmevent": memory.nothing,
    "bra": control.branch,
    "ret": control.leave,
    "exit": control.leave,
    "bar": control.barrier,
    "barrier": control.barrier,
    "shfl": control.shuffle,
    "vote": control.vote,
    "match": control.match,
    "redux": control.reduce,
    "activemask": control.active_mask,
    "elect": control.elect,
    "trap": control.trap,
    "brkpt": control.trap,
    "nanosleep": control.sleep,
}
