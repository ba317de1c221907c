"""Reads PTX into the data structure of `ptx`.

Nothing is interpreted here beyond the grammar; `translate` gives the statements a meaning.
"""

import re
from collections.abc import Iterator

from tinygrad_mask.emulator.ptx import (
    Address,
    Float,
    Instruction,
    Integer,
    Label,
    Name,
    Operand,
    Pair,
    Place,
    PtxError,
    PtxFunction,
    PtxModule,
    PtxVariable,
    Register,
    Targets,
    Vector,
    type_bytes,
)

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_LINE_DIRECTIVE = re.compile(r"^(\s*\.(?:loc|file|version|target|address_size)\b[^\n;{]*)$", re.M)
_FUNCTION = re.compile(
    r"(?P<linkage>(?:\.(?:visible|extern|weak|common)\s+)*)\.(?P<kind>entry|func)\s*"
    r"(?:\((?P<results>[^)]*)\)\s*)?(?P<name>[\w$]+)\s*(?:\((?P<parameters>[^)]*)\))?(?P<rest>[^{;]*)"
)
_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak|common)\s+)*\.(?P<space>global|const|shared|local|param|reg)\s*(?=\.)"
    r"(?:\.attribute\([^)]*\)\s*)?(?:\.align\s+(?P<align>\d+)\s+)?"
    r"(?:\.v(?P<vector>[248])\s+)?\.(?P<type>\w+)\s+"
    r"(?:\.ptr\s+(?:\.(?:global|const|local|shared)\s+)?(?:\.align\s+\d+\s+)?)?(?P<name>%?[\w$]+)(?P<dimensions>(?:\[\d*\])*)(?:\s*=\s*(?P<initial>.*))?",
    re.S,
)


def parse_module(text: str) -> PtxModule:
    """Read a module; the bodies of its functions are left for `parse_body`.

    Raises `PtxError` where the text is not what NVIDIA's compilers write.
    """
    text = _COMMENT.sub(lambda m: "\n" * m[0].count("\n"), text)
    text = _LINE_DIRECTIVE.sub(r"\1;", text)
    module = PtxModule((0, 0), "", {}, {}, {})
    for start, statement, body in _top_level(text):
        line = text.count("\n", 0, start) + 1
        if match := _FUNCTION.match(statement):
            function = _function(match, body, line)
            known = module.functions.get(function.name)
            if known is None or known.body is None:
                module.functions[function.name] = function
        elif match := re.match(r"\.version\s+(\d+)\.(\d+)", statement):
            module.version = (int(match[1]), int(match[2]))
        elif match := re.match(r"\.target\s+(\w+)", statement):
            module.target = match[1]
        elif match := re.match(r'\.file\s+(\d+)\s+"([^"]*)"', statement):
            module.files[int(match[1])] = match[2]
        elif re.match(r"\.(address_size|section|pragma|alias)\b", statement):
            pass
        elif match := _VARIABLE.match(statement):
            if body is not None:
                match = _VARIABLE.match(f"{statement} {{{body}}}")
                assert match is not None
            variable = _variable(match)
            module.variables[variable.name] = (match["space"], variable)
        else:
            raise PtxError(f"PTX line {line}: cannot read '{statement.strip()[:80]}'")
    return module


def _top_level(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield position, text before `{` or `;`, and what is between the braces."""
    start, depth, opened = 0, 0, 0
    for match in re.finditer(r"[{};]", text):
        character = match[0]
        if character == "{":
            depth += 1
            if depth == 1:
                opened = match.end()
        elif character == "}":
            depth -= 1
            if depth == 0:
                head = text[start : opened - 1]
                if not head.rstrip().endswith("="):
                    yield (
                        start + len(head) - len(head.lstrip()),
                        head.strip(),
                        text[opened : match.start()],
                    )
                    start = match.end()
        elif depth == 0:
            statement = text[start : match.start()]
            if statement.strip():
                yield start + len(statement) - len(statement.lstrip()), statement.strip(), None
            start = match.end()
    if text[start:].strip():
        raise PtxError(f"PTX ends within '{text[start:].strip()[:80]}'")


def _function(match: re.Match[str], body: str | None, line: int) -> PtxFunction:
    directives: dict[str, tuple[int, ...]] = {}
    for name, values in re.findall(r"\.(\w+)\s+([\d,\s]+)", match["rest"]):
        directives[name] = tuple(int(v) for v in re.findall(r"\d+", values))
    return PtxFunction(
        name=match["name"],
        is_entry=match["kind"] == "entry",
        parameters=_parameters(match["parameters"]),
        results=_parameters(match["results"]),
        directives=directives,
        body=body,
        line=line,
    )


def _parameters(text: str | None) -> list[PtxVariable]:
    variables = []
    for item in (text or "").split(","):
        if not item.strip():
            continue
        match = _VARIABLE.match(item.strip())
        if match is None:
            raise PtxError(f"PTX: cannot read the parameter '{item.strip()}'")
        variables.append(_variable(match))
    return variables


def _variable(match: re.Match[str]) -> PtxVariable:
    count = int(match["vector"] or 1)
    dimensions = re.findall(r"\[(\d*)\]", match["dimensions"])
    for dimension in dimensions:
        count *= int(dimension or 0)
    return PtxVariable(
        name=match["name"],
        type=match["type"],
        count=count,
        align=int(match["align"] or type_bytes(match["type"]) * int(match["vector"] or 1)),
        initial=match["initial"].strip() if match["initial"] else None,
        dynamic="" in dimensions,
    )


_TOKEN = re.compile(r"\s*(?:([$\w]+)\s*:(?!:)|([{}])|((?:[^;{}\"]|\"[^\"]*\"|\{[^{};]*\})*);)")
_INSTRUCTION = re.compile(r"(?:@(!?)([%$\w]+)\s+)?([a-z]\w*)((?:(?:\.|::)[\w]+)*)\s*(.*)$", re.S)
_LOCATION = re.compile(
    r"\.loc\s+(\d+)\s+(\d+)\s+(\d+)(?:.*inlined_at\s+(\d+)\s+(\d+)\s+(\d+))?", re.S
)


class _BodyParser:
    """Reads one function; names declared in inner braces get names of their own."""

    def __init__(self, function: PtxFunction) -> None:
        self.function = function
        self.scopes: list[dict[str, str]] = [{}]
        self.declared = 0
        self.place = Place(0, 0, ())
        self.inlined: dict[tuple[int, int, int], tuple[int, int, int]] = {}

    def parse(self) -> None:
        function = self.function
        assert function.body is not None
        body, position, line, counted = function.body, 0, function.line, 0
        while position < len(body):
            match = _TOKEN.match(body, position)
            if match is None:
                if body[position:].strip():
                    raise PtxError(f"PTX: cannot read '{body[position:].strip()[:80]}'")
                break
            group = match.lastindex or 0
            if group:
                begin = match.start(group)
                line += body.count("\n", counted, begin)
                counted = begin
            if group == 1:
                function.statements.append(Label(self.resolve(match[1])))
            elif match[2] == "{":
                self.scopes.append({})
                self.labels(body, match.end())
            elif match[2] == "}":
                self.scopes.pop()
            elif match[3].strip():
                self.statement(match[3].strip(), line)
            position = match.end()

    def labels(self, body: str, position: int) -> None:
        """Declare the labels of a scope, which may be used before they come."""
        depth = 0
        for match in re.finditer(
            r"([{}])|(?<![\w$.:])([A-Za-z_$][\w$]*)\s*:(?!:)", body[position:]
        ):
            depth += {"{": 1, "}": -1, None: 0}[match[1]]
            if depth < 0:
                return
            if match[2] and depth == 0 and not match[2].startswith("$"):
                self.declare(match[2])

    def declare(self, name: str) -> str:
        """Return the name under which one declared here is known in the function."""
        if len(self.scopes) == 1:
            return name
        self.declared += 1
        unique = f"{name}_{self.declared}"
        self.scopes[-1][name] = unique
        return unique

    def resolve(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return name

    def statement(self, text: str, line: int) -> None:
        function = self.function
        if not text.startswith("."):
            function.statements.append(self.instruction(text, line))
        elif match := _LOCATION.match(text):
            self.locate(match)
        elif match := re.match(r"\.reg\s*\.(\w+)\s+(.*)", text, re.S):
            type_bytes(match[1])
            for name in match[2].split(","):
                self.registers(name.strip(), match[1])
        elif match := _VARIABLE.match(text):
            variable = _variable(match)
            variable = PtxVariable(**{**vars(variable), "name": self.declare(variable.name)})
            spaces = {
                "local": function.locals,
                "shared": function.shared,
                "param": function.call_parameters,
            }
            if match["space"] not in spaces:
                raise PtxError(f"PTX line {line}: cannot read '{text}'")
            spaces[match["space"]].append(variable)
        elif match := re.match(r"\.branchtargets\s+(.*)", text, re.S):
            label = function.statements.pop()
            assert isinstance(label, Label)
            targets = tuple(self.resolve(name.strip()) for name in match[1].split(","))
            function.statements.append(Targets(label.name, targets))
        elif not re.match(r"\.(pragma|callprototype|calltargets)\b", text):
            raise PtxError(f"PTX line {line}: cannot read '{text}'")

    def registers(self, name: str, type_name: str) -> None:
        if match := re.fullmatch(r"(%?[\w$]+)<(\d+)>", name):
            names = [f"{match[1]}{i}" for i in range(int(match[2]))]
        else:
            names = [name]
        for each in names:
            self.function.registers[self.declare(each)] = type_name

    def locate(self, match: re.Match[str]) -> None:
        file, line, column = int(match[1]), int(match[2]), int(match[3])
        here = (file, line, column)
        if match[4]:
            self.inlined[here] = (int(match[4]), int(match[5]), int(match[6]))
        if line == 0:  # the compiler's own: it belongs to what was before
            return
        callers: list[tuple[int, int]] = []
        at: tuple[int, int, int] | None = self.inlined.get(here) if match[4] else None
        while at is not None and (at[0], at[1]) not in callers:
            callers.append((at[0], at[1]))
            at = self.inlined.get(at)
        self.place = Place(file, line, tuple(callers))

    def instruction(self, text: str, line: int) -> Instruction:
        match = _INSTRUCTION.match(text)
        if match is None:
            raise PtxError(f"PTX line {line}: cannot read '{text}'")
        predicate = None
        if match[2]:
            predicate = Register(self.resolve(match[2]), bool(match[1]))
        return Instruction(
            opcode=match[3],
            modifiers=tuple(match[4].split(".")[1:]),
            operands=tuple(self.operand(o, line) for o in _split(match[5])),
            predicate=predicate,
            text=" ".join(text.split()),
            line=line,
            place=self.place,
        )

    def operand(self, text: str, line: int) -> Operand:
        if text.startswith(("{", "(")):
            return Vector(tuple(self.operand(o, line) for o in _split(text[1:-1])))
        if text.startswith("["):
            inner = re.fullmatch(
                r"\[\s*([%$\w.]+)\s*(?:\+?\s*(-?(?:0[xX][0-9a-fA-F]+|\d+)))?\s*\]", text
            )
            if inner is None:
                raise PtxError(f"PTX line {line}: cannot read the address '{text}'")
            base = self.operand(inner[1], line)
            if not isinstance(base, Register | Name | Integer):
                raise PtxError(f"PTX line {line}: cannot read the address '{text}'")
            return Address(base, int(inner[2] or "0", 0))
        if "|" in text:
            first, second = text.split("|")
            return Pair(self.operand(first.strip(), line), self.operand(second.strip(), line))
        if text.startswith("!"):
            return Register(self.resolve(text[1:].strip()), True)
        if match := re.fullmatch(r"0[fF]([0-9A-Fa-f]{8})", text):
            return Float(int(match[1], 16), 32)
        if match := re.fullmatch(r"0[dD]([0-9A-Fa-f]{16})", text):
            return Float(int(match[1], 16), 64)
        if match := re.fullmatch(r"-?(?:0[xX][0-9a-fA-F]+|\d+)[uU]?", text):
            return Integer(_integer(text.rstrip("uU")))
        if match := re.fullmatch(r"([%$\w.]+)(?:\s*\+\s*(\d+))?", text):
            name = self.resolve(match[1])
            if name in self.function.registers:
                return Register(name)
            return Name(name, int(match[2] or 0))
        raise PtxError(f"PTX line {line}: cannot read the operand '{text}'")


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if digits[:2].lower() == "0x":
        return sign * int(digits, 16)
    return sign * int(digits, 8 if digits.startswith("0") and len(digits) > 1 else 10)


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    if not re.search(r"[\[({]", text):
        return [part.strip() for part in text.split(",")] if text.strip() else []
    parts, depth, current = [], 0, ""
    for character in text:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    if current.strip():
        parts.append(current.strip())
    return parts


def parse_body(function: PtxFunction) -> None:
    """Read the statements of a function, once.

    Raises `PtxError` where the text is not what NVIDIA's compilers write.
    """
    if function.body is None or function.statements:
        return
    try:
        _BodyParser(function).parse()
    except PtxError:
        function.statements.clear()
        raise
