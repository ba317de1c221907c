"""Writes the operands of PTX instructions as C++; what all instructions have in common.

A register is a C++ local. Registers that PTX declares as mere bits are kept as `float` or `double`
where that is what instructions take them for, so that the host's compiler keeps them in vector
registers; anything else is a bit cast, which costs nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tinygrad_mask.emulator.errors import UnsupportedError
from tinygrad_mask.emulator.ptx import (
    TYPES,
    Address,
    Float,
    Instruction,
    Integer,
    Name,
    Operand,
    Pair,
    PtxFunction,
    Register,
    Vector,
    type_bytes,
)

C_TYPES = {
    "pred": "bool",
    "b8": "u8",
    "u8": "u8",
    "s8": "s8",
    "b16": "u16",
    "u16": "u16",
    "s16": "s16",
    "f16": "u16",
    "bf16": "u16",
    "b32": "u32",
    "u32": "u32",
    "s32": "s32",
    "f32": "float",
    "f16x2": "u32",
    "bf16x2": "u32",
    "b64": "u64",
    "u64": "u64",
    "s64": "s64",
    "f64": "double",
    "f32x2": "u64",
}
BITS = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}
FLOATS = ("float", "double")

SPECIAL_REGISTERS = {
    **{f"%tid.{axis}": f"T->index[{i}]" for i, axis in enumerate("xyz")},
    **{f"%ctaid.{axis}": f"B->index[{i}]" for i, axis in enumerate("xyz")},
    **{f"%ntid.{axis}": f"B->size[{i}]" for i, axis in enumerate("xyz")},
    **{f"%nctaid.{axis}": f"B->grid[{i}]" for i, axis in enumerate("xyz")},
    "%laneid": "T->lane",
    "%warpid": "T->warp",
    "%nwarpid": "((B->size[0] * B->size[1] * B->size[2] + 31) / 32)",
    "%lanemask_eq": "(1u << T->lane)",
    "%lanemask_lt": "((1u << T->lane) - 1)",
    "%lanemask_le": "((2u << T->lane) - 1)",
    "%lanemask_gt": "~((2u << T->lane) - 1)",
    "%lanemask_ge": "~((1u << T->lane) - 1)",
    "%dynamic_smem_size": "B->dynamic_bytes",
    "%total_smem_size": "B->shared_bytes",
    "%clock": "(u32)ticks()",
    "%clock64": "ticks()",
    "%globaltimer": "ticks()",
    "%smid": "0u",
    "%nsmid": "1u",
    "%gridid": "0ull",
    "WARP_SZ": "32u",
    # Where a cooperative launch would keep its grid's barrier: this is none.
    **{f"%envreg{i}": "0u" for i in range(32)},
}


@dataclass
class Emitter:
    """What a function's instructions need to be written.

    Args:
        function: The function.
        mode: "fast", "check" or "count".
        symbols: C++ expression of the address of each variable in sight.
        hardware_flush: The host flushes denormals for this kernel, so that arithmetic with `.ftz`
            needs no more than the arithmetic.
        sites: The instructions so far that the runtime is told of, by number, and what each does
            with memory: "load", "store", "atomic" or nothing.
        constants: C++ expression of the address of each `__constant__` variable, and its bytes.
        parameter_bytes: Size of the parameter block.
    """

    function: PtxFunction
    mode: str
    symbols: dict[str, str]
    hardware_flush: bool
    sites: list[tuple[Instruction, str]]
    constants: Sequence[tuple[str, int]] = ()
    parameter_bytes: int = 0
    storage: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    """Labels that were written."""
    needs_carry: bool = False
    loops: bool = False

    def __post_init__(self) -> None:
        self.storage = _storage(self.function)

    # ---- operands

    def variable(self, register: str) -> str:
        """Return the C++ local of a register."""
        if register not in self.storage:
            raise UnsupportedError(f"register {register} is not declared")
        self.used.add(register)
        return "r_" + re.sub(r"\W", "_", register)

    def value(self, operand: Operand, type_name: str) -> str:
        """Return the C++ expression of an operand, of the C++ type of a PTX type."""
        c_type = C_TYPES[type_name]
        if isinstance(operand, Register):
            return self._register(operand, c_type)
        if isinstance(operand, Integer):
            return self._constant(operand.value, c_type)
        if isinstance(operand, Float):
            if operand.width != 8 * type_bytes(type_name):
                raise UnsupportedError(f"a constant of {operand.width} bits as .{type_name}")
            return self._constant(operand.bits, c_type)
        if isinstance(operand, Name):
            return f"({c_type})({self.name(operand)})"
        raise UnsupportedError(f"the operand {operand} as .{type_name}")

    def _register(self, register: Register, c_type: str) -> str:
        name, kept = self.variable(register.name), self.storage[register.name]
        if c_type == "bool" or kept == "bool":
            if c_type != kept:
                raise UnsupportedError(f"{register.name} as both predicate and number")
            return f"!{name}" if register.negated else name
        if c_type == kept:
            return name
        if kept in FLOATS:
            name, kept = f"as<{_bits(kept)}>({name})", _bits(kept)
        if c_type in FLOATS:
            if _bits(c_type) != kept:
                raise UnsupportedError(f"{register.name} ({kept}) as {c_type}")
            return f"as<{c_type}>({name})"
        return name if c_type == kept else f"({c_type}){name}"

    def _constant(self, value: int, c_type: str) -> str:
        if c_type == "bool":
            return "true" if value else "false"
        if c_type in FLOATS:
            return f"as<{c_type}>({self._constant(value, _bits(c_type))})"
        width = int(c_type[1:])
        suffix = "ull" if width == 64 else "u"
        return f"({c_type}){value & ((1 << width) - 1):#x}{suffix}"

    def name(self, operand: Name) -> str:
        """Return the C++ expression of a special register or of the address of a variable."""
        if operand.name in SPECIAL_REGISTERS:
            return SPECIAL_REGISTERS[operand.name]
        if operand.name in self.symbols:
            address = self.symbols[operand.name]
            return f"({address} + {operand.offset})" if operand.offset else address
        what = "special register" if operand.name.startswith("%") else "symbol"
        raise UnsupportedError(f"{what} {operand.name} is not known")

    def write(self, operand: Operand, type_name: str, expression: str) -> str:
        """Return the statement that puts a value of a type into a register."""
        c_type = C_TYPES[type_name]
        if operand == Name("_"):
            return f"(void)({expression});"
        if not isinstance(operand, Register):
            raise UnsupportedError(f"a result in {operand}")
        name, kept = self.variable(operand.name), self.storage[operand.name]
        if kept == "bool" or c_type == "bool":
            if kept != c_type:
                raise UnsupportedError(f"{operand.name} as both predicate and number")
            return f"{name} = {expression};"
        if kept == c_type:
            return (
                f"{name} = {expression};" if kept in FLOATS else f"{name} = ({kept})({expression});"
            )
        if c_type in FLOATS:
            expression, c_type = f"as<{_bits(c_type)}>({expression})", _bits(c_type)
        expression = f"({c_type})({expression})"
        if kept in FLOATS:
            return f"{name} = as<{kept}>(({_bits(kept)}){expression});"
        return f"{name} = ({kept}){expression};"

    def address(self, operand: Operand, space: str) -> str:
        """Return the C++ expression of an address: an offset for `shared`, else a `u64`."""
        if not isinstance(operand, Address):
            raise UnsupportedError(f"the address {operand}")
        offset, base = operand.offset, operand.base
        if space == "shared":
            return f"({self.value(base, 'u32')} + {offset & 0xFFFFFFFF:#x}u)"
        narrow = isinstance(base, Register) and self.storage.get(base.name) in ("u32", "float")
        if narrow:
            return f"(u64)({self.value(base, 'u32')} + {offset & 0xFFFFFFFF:#x}u)"
        return f"({self.value(base, 'u64')} + {offset & 0xFFFFFFFFFFFFFFFF:#x}ull)"

    def is_within(self, operand: Operand, size: int) -> bool:
        """Tell whether so many bytes at an address are plainly within a parameter, by its name."""
        if not isinstance(operand, Address) or not isinstance(operand.base, Name):
            return False
        name, offset = operand.base.name, operand.base.offset + operand.offset
        known = (
            *self.function.parameters,
            *self.function.results,
            *self.function.call_parameters,
        )
        return any(v.name == name and 0 <= offset <= v.bytes - size for v in known)

    def site(self, instruction: Instruction, action: str = "") -> int:
        """Return the number under which the runtime reports an instruction."""
        self.sites.append((instruction, action))
        return len(self.sites) - 1

    def flushed(self, expression: str, *, always: bool = False) -> str:
        """Return a float with denormals as zeros, where the host does not see to it."""
        return expression if self.hardware_flush and not always else f"flush({expression})"


def _bits(c_type: str) -> str:
    return {"float": "u32", "double": "u64"}.get(c_type, c_type)


def operand_registers(operand: Operand) -> Iterable[str]:
    """Yield the registers in an operand."""
    if isinstance(operand, Register):
        yield operand.name
    elif isinstance(operand, Vector):
        for item in operand.items:
            yield from operand_registers(item)
    elif isinstance(operand, Pair):
        yield from operand_registers(operand.first)
        yield from operand_registers(operand.second)


def _storage(function: PtxFunction) -> dict[str, str]:
    """Choose the C++ type of each register."""
    declared = {name: C_TYPES[type_name] for name, type_name in function.registers.items()}
    votes = dict.fromkeys(declared, 0)
    moves: list[tuple[str, str]] = []
    for statement in function.statements:
        if not isinstance(statement, Instruction):
            continue
        opcode, types = statement.opcode, [m for m in statement.modifiers if m in TYPES]
        names = [list(operand_registers(o)) for o in statement.operands]
        flat = [name for group in names for name in group if name in votes]
        if opcode == "mov" and len(flat) == 2 and all(len(group) == 1 for group in names):
            moves.append((flat[0], flat[1]))
            continue
        if opcode in ("ld", "st", "mov", "selp", "shfl") and not any(
            t in ("f32", "f64") for t in types
        ):
            continue  # they move bits
        if opcode in ("cvt", "set", "slct"):
            pairs = list(zip(types, names, strict=False))
        else:
            pairs = [(types[-1], flat)] if types else []
        for type_name, group in pairs:
            for name in group:
                if name in votes:
                    votes[name] += 4 if type_name in ("f32", "f64") else -1
    for _ in range(3):  # what is only moved takes after where it goes
        for first, second in moves:
            if votes[first] == 0 and votes[second] > 0:
                votes[first] = 1
            elif votes[second] == 0 and votes[first] > 0:
                votes[second] = 1
    floating = {"u32": "float", "u64": "double"}
    return {
        name: floating[c_type] if votes[name] > 0 and c_type in floating else c_type
        for name, c_type in declared.items()
    }
