"""What `import tinygrad_mask` loads, and what it leaves for the first use."""

import json
import subprocess
import sys

import pytest

import tinygrad_mask

MOST_MODULES = 25

# What is loaded, of ours and of others, and what of ours in a package that must not be.
LISTING = """
import sys
before = set(sys.modules)
{code}
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""

NOT_LOADED = [
    "PIL",
    "cupy",
    "matplotlib",
    "tinygrad_mask.backends.cpu",
    "tinygrad_mask.backends.cuda",
    "tinygrad_mask.backends.emulator",
    "tinygrad_mask.backends.gpu",
    "tinygrad_mask.backends.launcher",
    "tinygrad_mask.emulator",
    "tinygrad_mask.masks",
    "tinygrad_mask.nn",
    "tinygrad_mask.optim",
    "tinygrad_mask.training",
]


def loaded_by(code):
    run = subprocess.run(
        [sys.executable, "-c", LISTING.format(code=code)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_importing_loads_few_modules():
    ours = [name for name in loaded_by("import tinygrad_mask") if name.startswith("tinygrad_mask")]
    assert len(ours) <= MOST_MODULES, ours


def test_importing_loads_no_device_and_no_application():
    loaded = loaded_by("import tinygrad_mask")
    for name in NOT_LOADED:
        assert not [m for m in loaded if m == name or m.startswith(f"{name}.")]


def test_computing_on_the_cpu_loads_neither_the_emulator_nor_launches():
    code = (
        "import tinygrad_mask as tg; m = tg.nn.Linear(2, 3);"
        "m(tg.Tensor([[1.0, 2.0]])).sum().backward(); tg.optim.SGD(m.parameters(), lr=0.1).step()"
    )
    loaded = loaded_by(code)
    assert "tinygrad_mask.backends.cpu" in loaded
    for name in ("backends.cuda", "backends.gpu", "backends.launcher", "emulator", "masks"):
        assert f"tinygrad_mask.{name}" not in loaded


@pytest.mark.parametrize("name", tinygrad_mask.__all__)
def test_every_public_name_is_there_on_first_use(name):
    loaded_by(f"from tinygrad_mask import {name}")


def test_the_names_are_listed():
    assert set(tinygrad_mask.__all__) <= set(dir(tinygrad_mask))


def test_an_unknown_name_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'tinygrad_mask' has no attribute 'nosuch'"):
        tinygrad_mask.nosuch  # noqa: B018
