"""The application and the examples use the public interface of the framework only."""

import ast
from pathlib import Path

import pytest

import tinygrad_mask.masks

ROOT = Path(__file__).parents[2]
FILES = [
    *Path(tinygrad_mask.masks.__file__).parent.rglob("*.py"),
    *(ROOT / "examples").rglob("*.py"),
    *(ROOT / "studies").rglob("*.py"),
]
INTERNAL = ("wrap", "backend", "get_backend")
SETTINGS = ("arguments", "config", "self")  # whose `data` are the data sets that a user names


def internals(source):
    """Yield line and text of each use of what only the framework itself should use."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            if node.attr in INTERNAL:
                yield node.lineno, ast.unparse(node)
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr == "data" and of not in SETTINGS:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if (node.module or "").startswith("tinygrad_mask.backends") or names & {*INTERNAL}:
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_internals_of_the_framework(path):
    assert list(internals(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x.data[0]", True),
        ("self.weight.data", True),
        ("arguments.data", False),
        ("tinygrad_mask.data.DataLoader", True),
        ("from tinygrad_mask.data import DataLoader", False),
        ("x.wrap(y)", True),
        ("from tinygrad_mask.backends import get_backend", True),
        ("tensor.backend.xp", True),
    ],
)
def test_what_is_found(source, found):
    assert bool(list(internals(source))) == found
