"""Faults of the input data: logged, counted and listed for the run folder."""

import logging
from collections import defaultdict
from pathlib import Path

logger = logging.getLogger("tinygrad_mask")


class DataIssues:
    """Counts the items of the data that a run skips, by kind.

    A fault (`warn`) is also logged as a warning that names the file; of each kind only the first
    few are. An item that is left out without fault (`count`: a face below the minimum size, a
    photograph without annotation) is not logged. `items` is the whole list, for the run folder.
    """

    shown_per_kind = 5

    def __init__(self) -> None:
        self.items: dict[str, list[str]] = defaultdict(list)

    def warn(self, kind: str, item: str | Path, detail: str = "") -> None:
        """Record a fault of one item and log it: `kind: item (detail)`."""
        self.count(kind, item)
        seen = len(self.items[kind])
        if seen <= self.shown_per_kind:
            logger.warning("%s: %s%s", kind, item, f" ({detail})" if detail else "")
        if seen == self.shown_per_kind:
            logger.warning("%s: further ones are counted, not shown", kind)

    def count(self, kind: str, item: str | Path) -> None:
        """Record an item that is left out without fault."""
        self.items[kind].append(str(item))

    def counts(self) -> dict[str, int]:
        """Return the number of items of each kind, the most frequent kind first."""
        return dict(sorted(((k, len(v)) for k, v in self.items.items()), key=lambda kv: -kv[1]))
