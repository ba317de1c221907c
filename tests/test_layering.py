"""Imports only ever point down the plan of the house."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import tinygrad_mask

PACKAGE = "tinygrad_mask"
ROOT = Path(tinygrad_mask.__file__).parent

# From the top; a module may import those of its own layer and of any below. A name stands for all
# that is in it, but the package's own and that of `masks` for their `__init__.py` alone.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["masks"],
    ["masks.export_command"],
    ["masks.serving"],
    ["masks.detector"],
    ["masks.classifier"],
    ["masks.model_files", "masks.onnx_graph", "masks.report", "masks.runs"],
    [
        "masks.colour_order",
        "masks.crops",
        "masks.duplicates",
        "masks.events",
        "masks.faces",
        "masks.fingerprints",
        "masks.splits",
        "masks.summary",
    ],
    ["masks.tracking", "masks.video"],
    ["masks.datasets"],
    [
        "masks.data_issues",
        "masks.errors",
        "masks.file_names",
        "masks.images",
        "masks.labels",
        "masks.schemas",
    ],
    [PACKAGE],
    ["checkpoints", "compiler", "convert", "training"],
    ["distributed"],
    ["creation", "data", "dlpack", "nn", "optim", "serialization", "testing"],
    ["operators", "tensor"],
    ["functions"],
    ["autograd"],
    ["backends"],
    ["emulator"],
    ["equivalents", "files", "keywords", "random"],
]
DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def layer_name(module: str) -> str:
    """Return the name under which the layers list a module."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["masks"] else 1]) or PACKAGE


class WithoutTypeChecking(ast.NodeTransformer):
    """Leaves out what only a type checker reads."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        checking = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        return node.orelse if checking else node


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of each module of ours that a source text imports, in functions too."""
    for node in ast.walk(WithoutTypeChecking().visit(ast.parse(source))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            # What is imported from a package is one of its modules, or a name of its __init__.py.
            below = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in below]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == PACKAGE)


def imports_of(module: str) -> list[tuple[int, str]]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return list(imported(path.read_text(encoding="utf-8"), package))


def test_the_layers_list_every_module_and_nothing_else():
    assert {layer_name(module) for module in MODULES} == set(DEPTH)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_from_a_layer_above_its_own(module):
    own = DEPTH[layer_name(module)]
    upwards = [
        f"{module}, line {line}: {name}"
        for line, name in imports_of(module)
        if DEPTH[layer_name(name)] < own
    ]
    assert upwards == []


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: {name for _, name in imports_of(module)} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import tinygrad_mask.nn.init as i, numpy", ["tinygrad_mask.nn.init"]),
        ("from tinygrad_mask import Tensor", ["tinygrad_mask"]),
        ("from tinygrad_mask import nn, __version__", ["tinygrad_mask.nn", "tinygrad_mask"]),
        ("from tinygrad_mask.tensor import Tensor", ["tinygrad_mask.tensor"]),
        ("from .. import optim", ["tinygrad_mask.optim"]),
        ("from .module import Module", ["tinygrad_mask.nn.module"]),
        ("def f():\n    from tinygrad_mask import data", ["tinygrad_mask.data"]),
        ("if TYPE_CHECKING:\n    import tinygrad_mask.cli", []),
        (
            "if typing.TYPE_CHECKING:\n    import tinygrad_mask.cli\n"
            "else:\n    from .. import data",
            ["tinygrad_mask.data"],
        ),
        ("if not TYPE_CHECKING:\n    import tinygrad_mask.cli", ["tinygrad_mask.cli"]),
        ("import tinygrad_masks", []),
    ],
)
def test_which_imports_count(source, names):
    assert [name for _, name in imported(source, "tinygrad_mask.nn")] == names
