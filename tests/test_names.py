"""One word for one thing: no two classes of the package have the same name."""

import ast
from collections import defaultdict
from pathlib import Path

import tinygrad_mask

ROOT = Path(tinygrad_mask.__file__).parent


def test_no_two_classes_have_the_same_name():
    places = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    # The primitive of a layer `nn.Name` is `NameFunction`, as in Chainer.
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
