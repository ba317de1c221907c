"""Mutants of the CUDA kernels: copies with one barrier removed, or with one bound too wide.

They tell whether the tests, and the emulator's checker, would notice such a mistake.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tinygrad_mask.backends.launcher import kernel_folder, kernel_source

_BARRIER = re.compile(r"__syncthreads\(\);|await_copies\(\);")
_BOUND = re.compile(r" (<|>=) ")
_WIDER = {"<": "<=", ">=": ">"}
# Decided by the compiler, loops that it unrolls among them: no guard of an access.
_CONSTANT = re.compile(
    r"^\s*#|static_assert|if constexpr|^\s*\w+ = [^;]*,\s*$|^\s*template|"
    r"[<>]=? (?:[A-Z][A-Za-z]*::)?[A-Z]?[a-z_]*(?:Tile|Strip|Part|Pack)\b|"
    r"for \(int \w+ = 0; \w+ < (?:[A-Z\d]|\w*::)"
)


@dataclass(frozen=True)
class Mutant:
    """One change of one file: `line` (from 1) reads `after`."""

    file: str
    line: int
    after: str

    @property
    def source(self) -> str:
        """The text of the changed file."""
        lines = kernel_source(self.file).split("\n")
        lines[self.line - 1] = self.after
        return "\n".join(lines)

    @property
    def key(self) -> str:
        """What tells it from other mutants, wherever its line moves to."""
        return f"{self.file}: {' '.join(self.after.split('//')[0].split())}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {' '.join(self.after.split())}"


def mutants() -> Iterator[Mutant]:
    """Yield every mutant of every file in kernels/cuda, file by file."""
    for path in sorted(kernel_folder().glob("*.cu*")):
        for number, line in enumerate(kernel_source(path.name).split("\n"), 1):
            code = line.split("//")[0]
            for match in _BARRIER.finditer(code):
                yield _changed(path.name, number, line, match, ";")
            if _CONSTANT.search(code):
                continue
            for match in _BOUND.finditer(code):
                yield _changed(path.name, number, line, match, f" {_WIDER[match[1]]} ")


def _changed(file: str, number: int, line: str, match: re.Match[str], by: str) -> Mutant:
    after = line[: match.start()] + by + line[match.end() :]
    return Mutant(file, number, after)
