"""How setup.py builds the kernels: which sets, and what it compiles again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("setuptools", minversion="77")
pytest.importorskip("pybind11")
pytestmark = [
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a checkout of the sources"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler"),
]

MODULE = """
#include <Python.h>
#include "answer.h"
#define JOIN(a, b) a##b
#define INIT(name) JOIN(PyInit_, name)
#define TEXT(name) #name
#define NAME(name) TEXT(name)
static PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME(MODULE_NAME)};
PyMODINIT_FUNC INIT(MODULE_NAME)() {
    PyObject* m = PyModule_Create(&module);
    PyModule_AddIntConstant(m, "answer", answer());
    return m;
}
"""


@pytest.fixture
def sources(tmp_path):
    """A project with this one's setup.py, whose kernels return a number."""
    project = tmp_path / "project"
    (project / "kernels" / "cpu").mkdir(parents=True)
    (project / "kernels" / "cuda").mkdir()
    (project / "tinygrad_mask" / "backends").mkdir(parents=True)
    for package in ("tinygrad_mask", "tinygrad_mask/backends"):
        (project / package / "__init__.py").touch()
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md", "kernels/cpu/features.c"):
        shutil.copy(ROOT / name, project / name)
    (project / "kernels/cpu/module.cpp").write_text(MODULE)
    (project / "kernels/cpu/answer.h").write_text("int answer();\n")
    (project / "kernels/cpu/answer.cpp").write_text("int answer() { return 42; }\n")
    return project


def build(project, *, check=True, **variables):
    """Build in new temporary folders, as pip does; return the files that were compiled."""
    scratch = project.parent / f"scratch{len(list(project.parent.iterdir()))}"
    log = scratch / "compiled"
    scratch.mkdir()
    for name in ("gcc", "g++"):
        compiler = scratch / name
        compiler.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shutil.which(name)} "$@"\n')
        compiler.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TINYGRAD_MASK_")}
    environment |= {"CC": "gcc", "CXX": "g++", "PATH": f"{scratch}:{os.environ['PATH']}"}
    folders = ["--build-temp", scratch / "temp", "--build-lib", scratch / "lib"]
    run = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace", *folders],
        cwd=project,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if not check:
        return run
    assert run.returncode == 0, run.stderr
    lines = log.read_text().splitlines() if log.exists() else []
    words = [word for line in lines for word in line.split() if word.startswith("kernels/cpu/")]
    return sorted(Path(word).name for word in words if word.endswith((".cpp", ".c")))


def modules(project):
    """The modules in the package, and the answer that each gives (in a process of its own)."""
    code = """
import importlib.util, json, pathlib
answers = {}
for path in pathlib.Path("tinygrad_mask/backends").glob("*.so"):
    name = path.name.partition(".")[0]
    if name == "_cpu_features":
        continue
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answers[name] = module.answer
print(json.dumps(answers))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, check=True)
    return json.loads(run.stdout)


def best():
    features = pytest.importorskip("tinygrad_mask.backends._cpu_features")
    return features.runnable()[0]


def test_by_default_only_the_best_set_of_this_machine_is_built(sources):
    assert build(sources) == ["answer.cpp", "features.c", "module.cpp"]
    assert modules(sources) == {f"_cpu_{best()}": 42}


def test_a_second_build_of_unchanged_sources_compiles_no_kernel(sources):
    build(sources)
    assert build(sources) == ["features.c"]
    assert modules(sources) == {f"_cpu_{best()}": 42}
    touched = sources / "kernels/cpu/answer.cpp"
    touched.touch()  # what pip, git and tar do to time stamps means nothing
    assert build(sources) == ["features.c"]


def test_a_changed_source_is_compiled_again_and_a_changed_header_recompiles_all(sources):
    build(sources)
    (sources / "kernels/cpu/answer.cpp").write_text("int answer() { return 43; }\n")
    assert build(sources) == ["answer.cpp", "features.c"]
    assert modules(sources) == {f"_cpu_{best()}": 43}
    (sources / "kernels/cpu/answer.h").write_text("int answer();  // 42\n")
    assert build(sources) == ["answer.cpp", "features.c", "module.cpp"]


def test_other_flags_compile_all_again(sources):
    build(sources)
    compiled = build(sources, CFLAGS="-DX", CXXFLAGS="-DX")
    assert compiled == ["answer.cpp", "features.c", "module.cpp"]


def test_a_module_of_another_set_stays_unless_its_sources_have_changed(sources):
    if best() == "baseline":
        pytest.skip("this machine has one set")
    build(sources, TINYGRAD_MASK_INSTRUCTION_SETS="baseline")
    assert modules(sources) == {"_cpu_baseline": 42}
    build(sources)
    assert modules(sources) == {"_cpu_baseline": 42, f"_cpu_{best()}": 42}
    (sources / "kernels/cpu/answer.cpp").write_text("int answer() { return 43; }\n")
    build(sources)
    assert modules(sources) == {f"_cpu_{best()}": 43}


def test_an_unknown_instruction_set_is_refused_in_one_line(sources):
    run = build(sources, check=False, TINYGRAD_MASK_INSTRUCTION_SETS="avx3")
    assert run.returncode != 0
    said = "TINYGRAD_MASK_INSTRUCTION_SETS: expected best, all, or some of baseline"
    assert run.stderr.strip().splitlines()[-1].startswith(said)


def test_where_there_is_no_compiler_the_package_builds_without_kernels(sources):
    run = build(sources, check=False, CC="/nonexistent/gcc", CXX="/nonexistent/g++")
    assert run.returncode == 0
    assert modules(sources) == {}
