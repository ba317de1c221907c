"""What PTX is read into: variables, functions, statements, source lines (see `ptx_parser`)."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from tinygrad_mask.emulator.errors import EmulatorError


class Register(NamedTuple):
    """`%r1`, or `!%p1`."""

    name: str
    negated: bool = False


class Integer(NamedTuple):
    """An integer constant."""

    value: int


class Float(NamedTuple):
    """A floating-point constant by its bits: `0f3F800000` (32 bits), `0d...` (64 bits)."""

    bits: int
    width: int


class Name(NamedTuple):
    """A variable, a label, a function or a special register such as `%tid.x`."""

    name: str
    offset: int = 0


class Address(NamedTuple):
    """`[%rd1+4]`."""

    base: "Register | Name | Integer"
    offset: int


class Vector(NamedTuple):
    """`{%r1, %r2}`, and the lists `(...)` of calls."""

    items: tuple["Operand", ...]


class Pair(NamedTuple):
    """`%r1|%p1`: two results."""

    first: "Operand"
    second: "Operand"


Operand = Register | Integer | Float | Name | Address | Vector | Pair


class Place(NamedTuple):
    """Where in the source an instruction comes from."""

    file: int
    line: int
    callers: tuple[tuple[int, int], ...]
    """File and line of the calls that it was inlined through, innermost first."""


@dataclass(frozen=True)
class PtxVariable:
    """A variable in `.global`, `.const`, `.shared`, `.local` or `.param` space."""

    name: str
    type: str
    count: int
    align: int
    initial: str | None = None
    dynamic: bool = False
    """`extern __shared__ T name[];`"""

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.count * type_bytes(self.type)


@dataclass(frozen=True)
class Label:
    """A place to branch to."""

    name: str


@dataclass(frozen=True)
class Targets:
    """The labels of a `brx.idx`."""

    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Instruction:
    """One instruction, perhaps predicated."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    predicate: Register | None
    text: str
    line: int
    """In the PTX."""
    place: Place


Statement = Label | Targets | Instruction


@dataclass
class PtxFunction:
    """A kernel (`.entry`) or a device function that was not inlined (`.func`)."""

    name: str
    is_entry: bool
    parameters: list[PtxVariable]
    results: list[PtxVariable]
    directives: dict[str, tuple[int, ...]]
    """`maxntid`, `reqntid`, `minnctapersm`, `maxnreg`: what launch bounds say."""
    body: str | None
    """Not parsed yet; None for a declaration."""
    line: int
    registers: dict[str, str] = field(default_factory=dict)
    locals: list[PtxVariable] = field(default_factory=list)
    shared: list[PtxVariable] = field(default_factory=list)
    call_parameters: list[PtxVariable] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)


@dataclass
class PtxModule:
    """All that one compilation gave."""

    version: tuple[int, int]
    target: str
    files: dict[int, str]
    variables: dict[str, tuple[str, PtxVariable]]
    """Space (`global`, `const`, `shared`) and variable by name."""
    functions: dict[str, PtxFunction]


class PtxError(EmulatorError):
    """What the parser does not understand."""


TYPES = frozenset(
    [f"{kind}{width}" for kind in "bus" for width in (8, 16, 32, 64)]
    + ["f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "f32x2", "pred", "b128"]
)


def type_bytes(name: str) -> int:
    """Return the size of a type."""
    if name == "pred":
        return 1
    match = re.fullmatch(r"b?[a-z]+?(\d+)(x2)?", name)
    if match is None or name not in TYPES:
        raise PtxError(f"PTX type .{name} is not known")
    return int(match[1]) // 8 * (2 if match[2] else 1)
