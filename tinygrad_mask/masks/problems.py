"""What is said of input that cannot be used: one line for all of it, or a count for one item."""

import logging
from collections import defaultdict
from pathlib import Path

logger = logging.getLogger("tinygrad_mask")


class UsageError(Exception):
    """Input that cannot be used at all.

    Its message is one line that says what was expected and what came; the command line prints it
    without a traceback and ends with exit code 2.
    """


class Problems:
    """Counts what a run passed over, and why.

    Faults (`warn`) are also logged as warnings that name the file, the first few of each kind; what
    is merely left out (`count`: a face below the minimum size, a photograph that nobody annotated)
    is not. `items` keeps the whole list, for the run folder.
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
        """How many items of each kind were passed over, most frequent first."""
        return dict(sorted(((k, len(v)) for k, v in self.items.items()), key=lambda kv: -kv[1]))
