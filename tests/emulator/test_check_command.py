"""`tinygrad-mask kernels check` on the example, and on what is wrong with it."""

import argparse
import re
from pathlib import Path

import pytest

from tinygrad_mask.emulator import EmulatorError, check

pytestmark = pytest.mark.usefixtures("tools")

EXAMPLE = Path(__file__).parents[2] / "examples" / "check_kernel" / "row_sums.cu"
SOURCE = EXAMPLE.read_text()
BARRIER = "__syncthreads();  // "


def run(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    parsed = parser.parse_args(arguments)
    parsed.run(parsed)


def broken(folder: Path, old: str, new: str) -> Path:
    assert old in SOURCE
    file = folder / "row_sums.cu"
    file.write_text(SOURCE.replace(old, new))
    (folder / "row_sums.py").write_text(EXAMPLE.with_suffix(".py").read_text())
    return file


@pytest.mark.parametrize("arch", ["sm_75", "sm_120"])
def test_the_example_is_right(capsys, arch):
    run(str(EXAMPLE), "--arch", arch)
    assert capsys.readouterr().out == "".join(f"row_sums (launch {i}): ok\n" for i in range(3))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (f"{BARRIER}all", "// all", "race|uninitialised shared memory"),
        (f"{BARRIER}and", "// and", "race"),
        ("i < columns", "i <= columns", "out of bounds"),
        ("partial[THREADS]", "partial[THREADS - 1]", "out of bounds"),
    ],
)
def test_what_its_comment_says_to_break_is_found(tmp_path, capsys, old, new, found):
    with pytest.raises(SystemExit) as left:
        run(str(broken(tmp_path, old, new)))
    assert left.value.code == 1
    out = capsys.readouterr().out
    assert re.search(rf"row_sums.cu:\d+: ({found}) in row_sums, block", out)
    assert "ok" not in out.splitlines()[0]


def test_wrong_results_are_found(tmp_path):
    file = broken(tmp_path, "sum += row[i]", "sum += 2 * row[i]")
    outcomes = list(check.check_file(file))
    assert all("not as expected" in outcome.findings[0] for outcome in outcomes)


@pytest.mark.parametrize("number", [-1, 2, 3])
def test_what_is_expected_of_no_array_is_told(tmp_path, number):
    file = broken(tmp_path, "", "")
    script = file.with_suffix(".py")
    script.write_text(script.read_text().replace("expected={1:", f"expected={{{number}:"))
    outcome = next(check.check_file(file))
    assert outcome.findings == (f"row_sums: there is nothing of shape (3,) in {number}",)


DESCRIPTION = """
import numpy as np
from tinygrad_mask.emulator.check import Launch
OPTIONS = ["-std=c++17", "-DFACTOR=3"]
NAME_EXPRESSIONS = ["scale<float>"]
INCLUDE = ["headers"]
def launches(rng):
    x = rng.standard_normal(5, dtype=np.float32)
    yield Launch("scale<float>", 1, (8, 1), [x, np.int32(5)], expected={0: x * 3})
"""


def test_options_instances_and_headers(tmp_path):
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "factor.cuh").write_text('#include "more.cuh"\n')
    (tmp_path / "more.cuh").write_text("__device__ inline int factor() { return FACTOR; }\n")
    (tmp_path / "scale.cu").write_text(
        '#include "factor.cuh"\n'
        "template <class T> __global__ void scale(T* x, int n) {"
        " if (threadIdx.x < n) x[threadIdx.x] *= factor(); }\n"
    )
    (tmp_path / "what.py").write_text(DESCRIPTION)
    outcomes = list(check.check_file(tmp_path / "scale.cu", tmp_path / "what.py"))
    assert outcomes == [check.Outcome("scale<float>", 0, ())]


def test_results_that_depend_on_the_order(tmp_path):
    (tmp_path / "first.cu").write_text(
        'extern "C" __global__ void first(int* x) { if (atomicAdd(x, 1) == 0) x[1] = threadIdx.x; }'
    )
    (tmp_path / "first.py").write_text(
        "import numpy as np\nfrom tinygrad_mask.emulator.check import Launch\n"
        "def launches(rng):\n    yield Launch('first', 1, 32, [np.zeros(2, np.int32)])\n"
    )
    (outcome,) = check.check_file(tmp_path / "first.cu")
    assert "array 0 is not the same in reverse order" in outcome.findings[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not there"),
        ("", r"does not define launches\(rng\)"),
        ("def launches(rng):\n    yield 1\n", "yields int, not Launch"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "k.cu").write_text('extern "C" __global__ void k() {}')
    if text is not None:
        (tmp_path / "k.py").write_text(text)
    with pytest.raises(EmulatorError, match=message):
        list(check.check_file(tmp_path / "k.cu"))


def test_what_the_readme_shows(capsys):
    text = (Path(check.__file__).parent / "README.md").read_text()
    code, shown = re.search(r"```python\n(.*?)```\n\n    (.*?)\n", text, re.S).groups()
    exec(code, {})
    assert capsys.readouterr().out == f"{shown}\n"


def test_a_cuda_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EmulatorError, match=r"nope\.cu is not there"):
        list(check.check_file(tmp_path / "nope.cu"))
