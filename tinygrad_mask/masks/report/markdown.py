"""Parts of a report in Markdown, as GitHub shows it."""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np


def table(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """Return a Markdown table; `alignment` has an l or r for each column."""
    rules = [{"l": ":---", "r": "---:"}[side] for side in alignment]
    lines = [header, rules, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval_text(ends: tuple[float, float]) -> str:
    """Return an interval as text, a dash where there is none."""
    return "-" if np.isnan(ends).any() else f"{ends[0]:.3f} to {ends[1]:.3f}"


def picture_links(names: Iterable[str]) -> list[str]:
    """Return a paragraph per picture, by its file name relative to the report."""
    return [f"![{PurePosixPath(name).stem}]({quote(name)})" for name in names]


def settings_and_data(config: Mapping[str, object], data_summary: str) -> list[str]:
    """Return the last sections of a run's report: its settings, and what its data were."""
    return [
        table(["setting", "value"], ([k, _value(v)] for k, v in config.items()), "ll"),
        "## Data",
        textwrap.indent(data_summary.strip("\n"), "    "),
    ]


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
