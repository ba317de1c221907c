"""`tinygrad-mask kernels check` on the example, and on what is wrong with it."""

import argparse
import json
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
    assert all("not as expected" in str(outcome.findings[0]) for outcome in outcomes)


@pytest.mark.parametrize("number", [-1, 2, 3])
def test_what_is_expected_of_no_array_is_told(tmp_path, number):
    file = broken(tmp_path, "", "")
    script = file.with_suffix(".py")
    script.write_text(script.read_text().replace('expected={"sums":', f"expected={{{number}:"))
    outcome = next(check.check_file(file))
    (finding,) = outcome.findings
    assert str(finding) == f"row_sums: there is nothing of shape (3,) in {number}"


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
    assert "x (argument 0) is not the same in reverse order" in str(outcome.findings[0])


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


# --- all of it is told ----------------------------------------------------------------------------


def described(folder: Path, source: str, launches: str) -> Path:
    """Write a CUDA file and its description, and return the former."""
    (folder / "k.cu").write_text(source)
    (folder / "k.py").write_text(
        "import numpy as np\nfrom tinygrad_mask.emulator.check import Launch\n" + launches
    )
    return folder / "k.cu"


def exit_code(*arguments: str) -> int:
    try:
        run(*arguments)
    except SystemExit as left:
        return int(left.code)
    return 0


SEVERAL = """
extern "C" __global__ void rms(const float* x, float* rstd, int n) {
    rstd[n] = x[0];
    rstd[0] = x[n];
    rstd[1] = rstd[2];
}
extern "C" __global__ void refused(float* x) {
    asm volatile("vadd.u32.u32.u32 %0, %1, %1;" : "=r"(((unsigned*)x)[0]) : "r"(3));
}
extern "C" __global__ void good(float* x) { x[threadIdx.x] = 1; }
"""
LAUNCHES = """
def launches(rng):
    x = np.ones(4, np.float32)
    yield Launch("rms", 1, 1, [x, np.empty(4, np.float32), np.int32(9)])
    yield Launch("refused", 1, 1, [x])
    yield Launch("good", 1, 4, [x.astype(np.float64)])
    yield Launch("good", 1, 4, [x], expected={"x": np.ones(4)})
"""


def test_all_findings_are_told_and_it_goes_on(tmp_path, capsys):
    file = described(tmp_path, SEVERAL, LAUNCHES)
    assert exit_code(str(file)) == 1
    out = capsys.readouterr().out
    lines = [r"k\.cu:3: out of bounds .*write .* of rstd \(argument 1, "]
    lines += [r"k\.cu:4: out of bounds .*read .* of x \(argument 0, "]
    lines += [r"k\.cu:5: uninitialised global memory .*byte 8 of rstd \(argument 1, "]
    for line in lines:
        assert len(re.findall(line, out)) == 1, out
    assert "argument 0 (x) of good: expected an array of float32 for float *, got float64" in out
    assert re.search(r"refused \(launch 1\):\n  not checked: .*'vadd\.u32", out)
    assert out.endswith("good (launch 3): ok\n")


def test_as_json(tmp_path, capsys):
    file = described(tmp_path, SEVERAL, LAUNCHES)
    assert exit_code(str(file), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [launch["kernel"] for launch in found["launches"]] == ["rms", "refused", "good", "good"]
    first = found["launches"][0]["findings"]
    assert [(f["kind"], f["line"]) for f in first] == [
        ("out of bounds", 3),
        ("out of bounds", 4),
        ("uninitialised global memory", 5),
    ]
    assert found["error"] is None
    assert "vadd" in found["launches"][1]["not_checked"]
    assert found["launches"][3] == {
        "kernel": "good",
        "number": 3,
        "findings": [],
        "not_checked": "",
        "printed": "",
    }


def test_what_could_not_be_checked_has_an_exit_code_of_its_own(tmp_path, capsys):
    only = "def launches(rng):\n    yield Launch('{}', 1, 1, [np.ones(4, np.float32)])\n"
    assert exit_code(str(described(tmp_path, SEVERAL, only.format("good")))) == 0
    assert exit_code(str(described(tmp_path, SEVERAL, only.format("refused")))) == 2
    assert exit_code(str(described(tmp_path, SEVERAL, only.format("missing")))) == 2
    assert "has no kernel missing" in capsys.readouterr().out
    assert exit_code(str(described(tmp_path, "nonsense;", only.format("good")))) == 2
    assert "NVRTC did not compile k.cu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("launches", "message"),
    [
        ("def launches(rng):\n    return []\n", "at least one Launch, got none"),
        ("def launches(rng):\n    return None\n", r"k\.py: TypeError: 'NoneType'"),
        ("def launches(rng):\n    yield 1 / 0\n", r"k\.py:4: ZeroDivisionError"),
        ("x = np.ones(3) @ np.ones(4)\n", r"k\.py:3: ValueError"),
        (
            "def launches(rng):\n    yield Launch('good', 1, 1, [np.empty(1 << 38, 'f4')])\n",
            r"k\.py:4: EmulatorError: empty: .* some that take 2048\.0 GiB",
        ),
    ],
)
def test_descriptions_that_fail(tmp_path, capsys, launches, message):
    assert exit_code(str(described(tmp_path, SEVERAL, launches))) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert captured.out == ""


def test_an_array_of_a_tebibyte(tmp_path, capsys):
    """Refused by NumPy or, where the system gives so much, by the checker: in one line."""
    launches = "def launches(rng):\n    yield Launch('good', 1, 1, [np.zeros(1 << 38, 'f4')])\n"
    assert exit_code(str(described(tmp_path, SEVERAL, launches))) == 2
    captured = capsys.readouterr()
    assert re.search(r"k\.py:4: MemoryError|take 3072\.0 GiB; use smaller", "".join(captured))


def test_arrays_that_are_too_large_to_check(tmp_path, monkeypatch):
    monkeypatch.setattr("tinygrad_mask.emulator.host_memory.available_memory", lambda: 1 << 30)
    launches = "def launches(rng):\n    yield Launch('good', 1, 1, [np.zeros(1 << 27, 'f4')])\n"
    (outcome,) = check.check_file(described(tmp_path, SEVERAL, launches))
    assert re.search(
        r"good: .* 1\.0 GiB of .* that take 1\.5 GiB; use smaller", outcome.not_checked
    )
    assert not outcome.findings


def test_too_much_local_memory(tmp_path):
    source = """
extern "C" __global__ void k(int* x, int n) {
    int kept[200 * 1024];
    for (int i = 0; i < n; ++i) kept[i * 7 % n] = x[i];
    x[0] = kept[n - 1];
}"""
    launches = "def launches(rng):\n    yield Launch('k', 1, 1, [np.ones(4, 'i4'), np.int32(4)])\n"
    (outcome,) = check.check_file(described(tmp_path, source, launches))
    assert "at most 524288 bytes of local memory per thread, got 819200" in outcome.not_checked


# --- what a launch begins with, and what may depend on the order ----------------------------------

COUNTER = """
__device__ int counter = 5;
__constant__ float factor;
extern "C" __global__ void count(float* x, int* y, int fail) {
    int old = atomicAdd(&counter, 1);
    if (threadIdx.x == 3 && fail) y[old] = 1;
    if (old == 5) y[0] = old;
    x[threadIdx.x] *= factor;
}"""


def test_variables_are_reset_before_each_launch(tmp_path):
    """Also after one that was left in the middle."""
    launches = """
def launches(rng):
    for fail in (0, 1, 0):
        x = np.arange(4, dtype=np.float32)
        yield Launch("count", 1, 4, [x, np.zeros(1, np.int32), np.int32(fail)],
                     variables={"factor": np.float32(3)},
                     expected={"x": 3 * x, "y": [5], "counter": np.array([9], np.int32)})
"""
    first, second, third = check.check_file(described(tmp_path, COUNTER, launches))
    assert (first.findings, third.findings) == ((), ())
    assert [f.kind for f in second.findings] == ["out of bounds"]


SUMS = """
extern "C" __global__ void sums(const float* x, float* total, int* kept, int* count) {
    atomicAdd(total, x[threadIdx.x]);
    if (x[threadIdx.x] > 0) kept[atomicAdd(count, 1)] = threadIdx.x;
}"""


@pytest.mark.parametrize(
    ("unordered", "differ"),
    [
        ("()", {"total (argument 1)", "kept (argument 2)"}),
        ("['total']", {"kept (argument 2)"}),
        ("{'total': 'tolerance', 2: 'set'}", set()),
        ("{'total': 'set', 'kept': 'tolerance'}", {"total (argument 1)", "kept (argument 2)"}),
    ],
)
def test_what_may_depend_on_the_order_of_threads(tmp_path, unordered, differ):
    launches = f"""
def launches(rng):
    x = rng.standard_normal(256, dtype=np.float32)
    indices = np.flatnonzero(x > 0)
    kept, count = np.full(256, -1, np.int32), np.zeros(1, np.int32)
    wanted = np.concatenate([indices, np.full(256 - len(indices), -1)])
    yield Launch("sums", 1, 256, [x, np.zeros(1, np.float32), kept, count], rtol=1e-4, atol=1e-4,
                 unordered={unordered},
                 expected={{"total": [x.sum(dtype=np.float64)], "kept": wanted, 3: [len(indices)]}})
"""
    (outcome,) = check.check_file(described(tmp_path, SUMS, launches))
    assert not outcome.not_checked
    found = {f.message.removeprefix("sums: ").split(" is not")[0] for f in outcome.findings}
    assert found == differ
    assert all(f.kind == "order" for f in outcome.findings)


@pytest.mark.parametrize("unordered", ["{0: 'any'}", "['z']", "[7]"])
def test_what_may_not_be_unordered(tmp_path, unordered):
    launches = f"""
def launches(rng):
    yield Launch("good", 1, 4, [np.ones(4, np.float32)], unordered={unordered})
"""
    (outcome,) = check.check_file(described(tmp_path, SEVERAL, launches))
    assert "unordered" in outcome.not_checked


# --- the pass with -G -----------------------------------------------------------------------------

OPTIMISED_AWAY = """
extern "C" __global__ void k(float* y) {
    __shared__ float unused[32];
    unused[0] = threadIdx.x;
    y[threadIdx.x] = 1;
}"""


def test_a_race_that_is_optimised_away_is_found_with_debug_information(tmp_path, capsys):
    launches = "def launches(rng):\n    yield Launch('k', 1, 32, [np.empty(32, np.float32)])\n"
    file = described(tmp_path, OPTIMISED_AWAY, launches)
    (outcome,) = check.check_file(file, debug_pass=False)
    assert not outcome.findings
    (outcome,) = check.check_file(file)
    (finding,) = outcome.findings
    assert (finding.kind, finding.line) == ("race", 4)
    assert finding.message.endswith("[forward order] [-G]")
    assert exit_code(str(file), "--no-debug-pass") == 0
    assert exit_code(str(file)) == 1


def test_what_kernels_print_is_shown_once(tmp_path, capsys):
    source = """
extern "C" __global__ void k() { printf("thread %d of %s\\n", threadIdx.x, "two"); }"""
    file = described(tmp_path, source, "def launches(rng):\n    yield Launch('k', 1, 2, [])\n")
    assert exit_code(str(file)) == 0
    assert capsys.readouterr().out == (
        "k (launch 0): ok\n  | thread 0 of two\n  | thread 1 of two\n"
    )
