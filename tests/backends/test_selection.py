"""Which kernels are in use: what the variable says, else the best that was built and runs here."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import tinygrad_mask
from tinygrad_mask.backends.cpu_kernels import INSTRUCTION_SETS, available_instruction_sets

ROOT = Path(__file__).parents[2]
PACKAGE = Path(tinygrad_mask.__file__).parent
SOURCES = ["LICENSE", "MANIFEST.in", "README.md", "kernels", "pyproject.toml", "setup.py"]
AVAILABLE = available_instruction_sets()

in_ci = pytest.mark.skipif("CI" not in os.environ, reason="asked only where CI is set")

# Prints which kernels are in use, where they lie, and what they compute.
PROBE = """
import numpy as np
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.backends import get_backend
backend = get_backend("cpu")
kernels = getattr(backend, "kernels", None)
x = Tensor(np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 4, 4, 3), requires_grad=True)
y = F.conv2d(x, Tensor(np.ones((2, 2, 3, 2), np.float32)), activation="tanh")
F.max_pool2d(y, 3).sum().backward()
print(getattr(backend, "instruction_set", "reference"))
print(kernels.__file__ if kernels else None)
print(np.isfinite(x.grad.numpy()).all() and x.grad.numpy().any())
"""

# Makes every compiled module one that cannot be imported.
NOTHING_COMPILED = f"""
import sys
for name in {INSTRUCTION_SETS!r}:
    sys.modules["tinygrad_mask.backends._cpu_" + name] = None
"""

# Makes every compiled module one that was built but wants a library that is not there.
NOTHING_LOADABLE = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if "._cpu_" in name:
            raise ImportError("libstdc++.so.6: cannot open shared object file")
sys.meta_path.insert(0, Finder())
"""


def python(code, *, check=True, path=PACKAGE.parent, cwd=None, **variables):
    """Run code in a process of its own, on the package that lies under `path`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TINYGRAD_MASK_")}
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        env=environment | {"PYTHONPATH": str(path)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
        cwd=cwd,
    )


def refusal(run):
    """The last line of a traceback: what an error says."""
    assert run.returncode != 0
    return run.stderr.strip().splitlines()[-1]


def best_instruction_set():
    """What the kernel of the system says that the processor can do, for nobody else is asked."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "baseline"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split())
    if {"avx512f", "avx512dq"} <= flags:
        return "avx512"
    return "avx2" if {"avx2", "fma"} <= flags else "baseline"


# --- what the variable says ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [*AVAILABLE, "reference"])
def test_the_kernels_that_the_variable_names_are_in_use(name):
    run = python(PROBE, TINYGRAD_MASK_KERNELS=name)
    in_use, module, works = run.stdout.split()
    assert (in_use, works) == (name, "True")
    assert module == "None" if name == "reference" else f"_cpu_{name}." in module
    assert not run.stderr


@pytest.mark.skipif(not AVAILABLE, reason="no kernels were compiled here")
@pytest.mark.parametrize("variables", [{}, {"TINYGRAD_MASK_KERNELS": "auto"}])
def test_without_a_wish_the_best_kernels_are_in_use(variables):
    run = python(PROBE, **variables)
    assert run.stdout.split()[0] == AVAILABLE[0]
    assert not run.stderr


@pytest.mark.parametrize("name", ["", "AVX2", "sse9", "cpu"])
def test_an_unknown_name_is_refused_in_one_line_that_says_what_there_is(name):
    said = refusal(python(PROBE, check=False, TINYGRAD_MASK_KERNELS=name))
    assert "TINYGRAD_MASK_KERNELS: expected one of auto, avx512, avx2, baseline, reference" in said
    assert said.endswith(f"got {name!r}")


@pytest.mark.parametrize("name", [s for s in INSTRUCTION_SETS if s not in AVAILABLE])
def test_kernels_that_are_not_to_be_had_are_refused(name):
    assert name in refusal(python(PROBE, check=False, TINYGRAD_MASK_KERNELS=name))


# --- where nothing was compiled ------------------------------------------------------------------


def test_where_nothing_was_compiled_one_warning_says_so_and_all_works():
    run = python(NOTHING_COMPILED + PROBE + PROBE)
    assert run.stdout.split() == ["reference", "None", "True"] * 2
    assert run.stderr.count("RuntimeWarning") == 1
    assert "no compiled kernels for the CPU" in run.stderr


def test_who_wants_the_reference_is_not_warned():
    run = python(NOTHING_COMPILED + PROBE, TINYGRAD_MASK_KERNELS="reference")
    assert run.stdout.split()[0] == "reference"
    assert not run.stderr


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_kernels_that_were_not_built_are_refused(name):
    run = python(NOTHING_COMPILED + PROBE, check=False, TINYGRAD_MASK_KERNELS=name)
    assert "not built" in refusal(run)


def test_of_kernels_that_cannot_be_loaded_it_is_said_why():
    run = python(NOTHING_LOADABLE + PROBE)
    assert run.stdout.split() == ["reference", "None", "True"]
    assert "kernels for baseline: cannot be loaded: libstdc++.so.6: cannot open" in run.stderr
    command = "from tinygrad_mask.cli import main\nmain(['kernels'])"
    said = python(NOTHING_LOADABLE + command).stdout
    for name in INSTRUCTION_SETS:
        assert f"kernels for {name}: cannot be loaded: libstdc++.so.6" in said
    refused = python(NOTHING_LOADABLE + PROBE, check=False, TINYGRAD_MASK_KERNELS="baseline")
    assert "cannot be loaded: libstdc++.so.6" in refusal(refused)


@pytest.mark.skipif(not AVAILABLE, reason="no kernels were compiled here")
@pytest.mark.parametrize("name", AVAILABLE)
def test_where_only_some_were_built_the_best_of_them_is_in_use(name):
    only = NOTHING_COMPILED + f'del sys.modules["tinygrad_mask.backends._cpu_{name}"]\n'
    run = python(only + PROBE)
    assert run.stdout.split()[0] == name
    assert not run.stderr


# --- in CI the kernels are there -----------------------------------------------------------------


@in_ci
def test_all_instruction_sets_of_this_machine_are_built_and_tested():
    sets = INSTRUCTION_SETS[INSTRUCTION_SETS.index(best_instruction_set()) :]
    assert list(sets) == AVAILABLE


@in_ci
def test_a_checkout_uses_the_compiled_kernels():
    in_use, module, works = python(PROBE).stdout.split()
    assert in_use == best_instruction_set()
    assert Path(module).parent == PACKAGE / "backends"
    assert works == "True"


def build_requirements_are_here():
    """Whether a wheel can be built without an environment of its own, and so without a network."""
    try:
        setuptools = int(version("setuptools").partition(".")[0])
        return setuptools >= 77 and bool(version("pybind11"))
    except PackageNotFoundError:
        return False


@in_ci
@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="this is no checkout of the sources")
def test_an_installed_wheel_uses_the_compiled_kernels(tmp_path):
    # From a copy, so that nothing which was built here before can slip into the wheel.
    sources, elsewhere, site = tmp_path / "sources", tmp_path / "elsewhere", tmp_path / "site"
    elsewhere.mkdir()
    leftovers = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "tinygrad_mask", sources / "tinygrad_mask", ignore=leftovers)
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name)

    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path)]
    if build_requirements_are_here():
        wheel.append("--no-build-isolation")
    subprocess.run([*wheel, str(sources)], check=True, timeout=1200)
    [built] = tmp_path.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--target", str(site), str(built)]
    subprocess.run(install, check=True, timeout=120)

    in_use, module, works = python(PROBE, path=site, cwd=elsewhere).stdout.split()
    assert in_use == best_instruction_set()
    assert Path(module).parent == site / "tinygrad_mask" / "backends"
    assert works == "True"
