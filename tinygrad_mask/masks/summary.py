"""What there is to learn from, as a table to read before the training begins."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.labels import LABELS

ENOUGH = 10
"""The number of faces of a class below which its figures are not worth reporting."""


class LabelledFaces(Protocol):
    """Faces of some photographs: their labels, and the position of each one's photograph."""

    @property
    def photographs(self) -> Sequence[Photograph]:
        """The photographs."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Positions in `LABELS`, (n,)."""

    @property
    def photograph(self) -> NDArray[np.int64]:
        """Positions in `photographs`, (n,)."""


def summarise(faces: LabelledFaces, groups: NDArray[np.int64], issues: DataIssues) -> str:
    """Return a plain-text table: per source the photographs, their duplicates and the faces.

    `groups` (len(faces.photographs),) are those of `duplicate_groups`: a photograph is a duplicate
    if another one of its group comes before it. Below the table is what was left out, and why.
    """
    sources = np.array([photograph.source for photograph in faces.photographs])
    first_of_group = np.zeros(len(groups), dtype=bool)
    first_of_group[np.unique(groups, return_index=True)[1]] = True
    names = list(dict.fromkeys(sources.tolist()))
    selections = [(name, sources == name) for name in names]
    if len(names) > 1:
        selections.append(("together", np.ones(len(sources), dtype=bool)))
    table = [["source", "photographs", "duplicates", "faces", *LABELS]]
    for name, chosen in selections:
        labels = faces.labels[chosen[faces.photograph]]
        per_label = np.bincount(labels, minlength=len(LABELS))
        numbers = (chosen.sum(), (chosen & ~first_of_group).sum(), len(labels), *per_label)
        table.append([name, *(f"{number:,}" for number in numbers)])
    lines = _aligned(table)
    if issues.items:
        counts = [[f"{number:,}", kind] for kind, number in issues.counts().items()]
        width = max(len(number) for number, _ in counts)
        lines += ["", "left out:", *(f"  {n:>{width}}  {kind}" for n, kind in counts)]
    return "\n".join(lines)


def few_faces(labels: NDArray[np.int64]) -> str:
    """Return which classes have fewer than `ENOUGH` faces, as words; empty if none has."""
    counts = np.bincount(labels, minlength=len(LABELS)).tolist()
    few = [
        f"{count or 'no'} '{label}'"
        for label, count in zip(LABELS, counts, strict=True)
        if count < ENOUGH
    ]
    return ", ".join(few)


def _aligned(table: list[list[str]]) -> list[str]:
    """Return the rows with their first column flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
