"""What count mode counts: instructions, and what the memory system would have to do for them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_mask.emulator.translate import Description


@dataclass(frozen=True)
class Traffic:
    """What went between threads and a memory.

    Args:
        requests: Instructions of warps.
        bytes: What threads asked for.
        moved: In global memory sectors of 32 bytes, in shared memory passes over its 32 banks.
        fewest: The sectors that the distinct bytes of each request would fit in; the passes of a
            request without bank conflicts (one for each 128 bytes of an access that is 4, 8 or 16
            bytes wide in all lanes).
    """

    requests: int = 0
    bytes: int = 0
    moved: int = 0
    fewest: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.requests + other.requests,
            self.bytes + other.bytes,
            self.moved + other.moved,
            self.fewest + other.fewest,
        )

    @property
    def ratio(self) -> float:
        """`moved / fewest`; 1 where nothing was moved."""
        return self.moved / self.fewest if self.fewest else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return it in terms of JSON."""
        return {
            "requests": self.requests,
            "bytes": self.bytes,
            "moved": self.moved,
            "fewest": self.fewest,
            "ratio": self.ratio,
        }


@dataclass(frozen=True)
class LineCounts:
    """What was counted for one line of the source.

    Args:
        file: The source file.
        line: The line in it.
        instructions: Instructions that threads executed, by kind (`kinds.instruction_kind`).
        traffic: What they moved, by space and action: "global.load", "shared.store", ...
    """

    file: str
    line: int
    instructions: dict[str, int]
    traffic: dict[str, Traffic]

    def to_json(self) -> dict[str, Any]:
        """Return it in terms of JSON."""
        return {
            "file": self.file,
            "line": self.line,
            "instructions": self.instructions,
            "traffic": {name: traffic.to_json() for name, traffic in self.traffic.items()},
        }


@dataclass(frozen=True)
class Counts:
    """What was counted in a launch.

    Args:
        lines: Each line of the source that was executed, in order of file and line.
        threads: Threads that ran.
        sectors_read: Distinct 32-byte sectors of global memory that were read.
        sectors_written: Distinct sectors that were written.
    """

    lines: tuple[LineCounts, ...]
    threads: int
    sectors_read: int
    sectors_written: int

    @property
    def instructions(self) -> dict[str, int]:
        """Instructions by kind, in all lines."""
        total: Counter[str] = Counter()
        for line in self.lines:
            total.update(line.instructions)
        return dict(total.most_common())

    @property
    def traffic(self) -> dict[str, Traffic]:
        """Traffic by space and action, in all lines."""
        return _sums(
            (name, traffic) for line in self.lines for name, traffic in line.traffic.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return it in terms of JSON."""
        return {
            "threads": self.threads,
            "sectors_read": self.sectors_read,
            "sectors_written": self.sectors_written,
            "instructions": self.instructions,
            "traffic": {name: traffic.to_json() for name, traffic in self.traffic.items()},
            "lines": [line.to_json() for line in self.lines],
        }


def _sums(items: Iterable[tuple[str, Traffic]]) -> dict[str, Traffic]:
    sums: dict[str, Traffic] = {}
    for name, traffic in items:
        sums[name] = sums.get(name, Traffic()) + traffic
    return dict(sorted(sums.items()))


def collect(
    description: Description,
    counters: np.ndarray,
    memory: np.ndarray,
    threads: int,
    sectors: tuple[int, int],
) -> Counts:
    """Return what the runtime counted: by piece of code, and by instruction that touches memory."""
    instructions: dict[tuple[str, int], Counter[str]] = {}
    for piece, times in zip(description.pieces, counters.tolist(), strict=True):
        if times:
            for file, line, kind, count in piece.instructions:
                instructions.setdefault((file, line), Counter())[kind] += count * times
    traffic: dict[tuple[str, int], list[tuple[str, Traffic]]] = {}
    for site, (shared, *counted) in zip(description.sites, memory.tolist(), strict=True):
        if counted[0]:
            name = f"{'shared' if shared else 'global'}.{site.action}"
            traffic.setdefault((site.file, site.line), []).append((name, Traffic(*counted)))
    return Counts(
        tuple(
            LineCounts(file, line, dict(counts.most_common()), _sums(traffic.get((file, line), ())))
            for (file, line), counts in sorted(instructions.items())
        ),
        threads,
        *sectors,
    )
