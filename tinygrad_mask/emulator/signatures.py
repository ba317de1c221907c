"""The parameters of a kernel as its source declares them: PTX has neither their names nor types."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_COMMENT_OR_TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', re.S)
_QUALIFIERS = re.compile(
    r"\b(?:const|volatile|struct|enum|register|typename|__restrict__|__restrict|__grid_constant__)\b"
)


@dataclass(frozen=True)
class KernelParameter:
    """A parameter as it is declared.

    Args:
        name: Its name; empty if it has none.
        type: Its type without qualifiers, arguments of templates put in: "float *".
    """

    name: str
    type: str

    def accepts(self, dtype: np.dtype) -> bool:
        """Tell whether arrays of a dtype may be passed; True for types that are not known here."""
        if not self.type.endswith("*"):
            return True
        pointee = self.type.removesuffix("*").strip()
        if pointee.endswith("*"):
            return dtype.itemsize == 8
        known = _ELEMENTS.get(pointee)
        return known is None or dtype.names is not None or _element(dtype) in known

    @property
    def expected(self) -> str:
        """The dtypes that `accepts` accepts."""
        pointee = self.type.removesuffix("*").strip()
        if pointee.endswith("*"):
            return "an array of addresses (uint64)"
        known = _ELEMENTS.get(pointee, frozenset())
        names = sorted(_NAMES[element] for element in known if element in _NAMES)
        return f"an array of {' or '.join(names)}"


Element = tuple[str, int]
"""Kind of a number, "f" or "i", and its bytes."""

_NAMES: dict[Element, str] = {
    ("f", 4): "float32",
    ("f", 8): "float64",
    ("f", 2): "float16",
    ("i", 1): "int8, uint8, bool",
    ("i", 2): "int16, uint16",
    ("i", 4): "int32, uint32",
    ("i", 8): "int64, uint64",
}


def _element(dtype: np.dtype) -> Element:
    return (
        "f" if dtype.kind == "f" else "i" if dtype.kind in "iub" else dtype.kind,
        dtype.itemsize,
    )


def _elements() -> dict[str, frozenset[Element]]:
    found: dict[str, frozenset[Element]] = {
        "float": frozenset({("f", 4)}),
        "double": frozenset({("f", 8)}),
        # NumPy has no bfloat16; what stands for it has two bytes.
        "__half": frozenset({("f", 2), ("i", 2)}),
        "half": frozenset({("f", 2), ("i", 2)}),
        "__nv_bfloat16": frozenset({("i", 2), ("V", 2)}),
    }
    integers = {
        1: ("bool", "int8_t", "uint8_t"),
        2: ("short", "unsigned short", "int16_t", "uint16_t", "ushort"),
        4: ("int", "unsigned int", "unsigned", "int32_t", "uint32_t", "uint"),
        8: (
            *("long long", "unsigned long long", "long long int", "unsigned long long int"),
            *("long", "unsigned long", "long int", "int64_t", "uint64_t", "size_t", "ptrdiff_t"),
        ),
    }
    for size, names in integers.items():
        found |= {name: frozenset({("i", size)}) for name in names}
    for vector, element in (("float", "float"), ("double", "double"), ("int", "int")):
        found |= {f"{vector}{n}": found[element] for n in (1, 2, 3, 4)}
    found |= {f"uint{n}": found["int"] for n in (1, 2, 3, 4)}
    return found


_ELEMENTS = _elements()
"""Types of elements that are known: `char` and `void` are not, since they stand for any bytes."""


def parameters(kernel: str, texts: Sequence[str], count: int) -> tuple[KernelParameter, ...] | None:
    """Return the parameters of a kernel, found in a source and its headers.

    Args:
        kernel: Its name, or a name expression such as `scale<float, 4>`.
        texts: The source, then its headers.
        count: How many parameters it has.

    Returns None if no definition with so many parameters is found, or several that differ.
    """
    name, _, arguments = kernel.partition("<")
    name = name.strip().split("::")[-1]
    given = _split(arguments.rpartition(">")[0]) if arguments else []
    found: list[tuple[KernelParameter, ...]] = []
    for text in texts:
        if name not in text:
            continue
        plain = _COMMENT_OR_TEXT.sub(lambda m: '""' if m[0][0] == '"' else " ", text)
        for match in re.finditer(rf"\b{re.escape(name)}\s*\(", plain):
            end = _closing(plain, match.end() - 1)
            if end is None or not re.match(r"\s*\{", plain[end + 1 :]):
                continue
            declared = [p for p in _split(plain[match.end() : end]) if p not in ("", "void")]
            if len(declared) != count:
                continue
            types = _template(plain, match.start(), given)
            found.append(tuple(_parameter(p, types) for p in declared))
    return found[0] if found and all(f == found[0] for f in found) else None


def _parameter(text: str, types: dict[str, str]) -> KernelParameter:
    text = _QUALIFIERS.sub(" ", text.partition("=")[0])
    text, arrays = re.subn(r"\[[^\]]*\]\s*$", "", text.strip())
    match = re.match(r"(.*?[\s*&>])(\w+)\s*$", text, re.S)
    kind, name = (match[1], match[2]) if match else (text, "")
    if re.fullmatch(r"\s*(unsigned|signed|long|short)\s*", kind) and name in (
        "int",
        "long",
        "char",
    ):
        kind, name = text, ""
    kind = re.sub(r"\b\w+\b", lambda m: types.get(m[0], m[0]), kind) + "*" * arrays
    kind = " ".join(kind.replace("*", " * ").split())
    return KernelParameter(name, re.sub(r" \* \*$", " **", kind))


def _template(text: str, start: int, given: Sequence[str]) -> dict[str, str]:
    """Return what the template's type parameters of a definition stand for."""
    begin = max(text.rfind(character, 0, start) for character in ";}") + 1
    match = re.search(r"\btemplate\s*<", text[begin:start])
    if match is None:
        return {}
    opened = begin + match.end()
    closed = _closing(text, opened - 1, "<>")
    if closed is None:
        return {}
    types = {}
    for position, item in enumerate(_split(text[opened:closed])):
        kind = re.match(r"(?:class|typename)\s+(\w+)\s*(?:=\s*(.*))?$", item.strip(), re.S)
        if kind and (position < len(given) or kind[2]):
            types[kind[1]] = given[position] if position < len(given) else kind[2].strip()
    return types


def _closing(text: str, opened: int, brackets: str = "()") -> int | None:
    """Return where the bracket at a position is closed."""
    depth = 0
    for at in range(opened, len(text)):
        depth += (text[at] == brackets[0]) - (text[at] == brackets[1])
        if depth == 0:
            return at
    return None


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "<([{") - (character in ">)]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
