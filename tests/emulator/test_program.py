"""Programs: arguments, launches, what is refused, and the cache."""

import multiprocessing
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.emulator import (
    CompileError,
    EmulatorError,
    KernelError,
    Program,
    UnsupportedError,
    cache,
    nvrtc,
    toolchain,
)
from tinygrad_mask.emulator.signatures import KernelParameter, parameters

pytestmark = pytest.mark.usefixtures("tools")

SCALE = """
template <class T, int N>
__global__ void __launch_bounds__(128) scale(const T* __restrict__ x, T* y, T factor, long long n) {
    __shared__ T kept[N];
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x < N) kept[threadIdx.x] = factor;
    __syncthreads();
    if (i < n) y[i] = kept[i % N] * x[i];
}
extern "C" __global__ void plain(float* x, int n) { if (threadIdx.x < n) x[threadIdx.x] = n; }
"""
EXPRESSIONS = ("scale<float, 4>", "scale<double, 32>")


@pytest.fixture(scope="module")
def program(tools) -> Program:
    return Program(SCALE, name="scale.cu", name_expressions=EXPRESSIONS)


def arguments(dtype=np.float32, n=100):
    x = np.arange(n, dtype=dtype)
    return [x, np.zeros_like(x), dtype(3), np.int64(n)]


def test_instances_of_templates(program):
    for expression, dtype in zip(EXPRESSIONS, (np.float32, np.float64), strict=True):
        given = arguments(dtype)
        program.function(expression).launch(1, 128, given, mode="fast")
        assert (given[1] == 3 * given[0]).all()


def test_attributes(program):
    attributes = program.function("scale<double, 32>").attributes
    assert attributes.static_shared_bytes == 256
    assert attributes.max_threads == 128
    assert attributes.required_block is None
    assert program.function("plain").attributes.max_threads is None


def test_functions_are_the_same_each_time(program):
    assert program.function("plain") is program.function("plain")


def test_unknown_kernels_are_named_with_those_there_are(program):
    with pytest.raises(EmulatorError, match=r"no kernel scale<int, 1>.*plain, scale<double, 32>"):
        program.function("scale<int, 1>")


def test_source_with_an_error(tools):
    with pytest.raises(CompileError, match=r"(?s)bad.cu.*identifier \"nonsense\" is undefined"):
        Program("__global__ void k() { nonsense(); }", name="bad.cu").function("k")


def test_headers(tools):
    header = "__device__ inline float twice(float* x, int i) { return 2 * x[i]; }"
    source = (
        '#include "twice.cuh"\n'
        'extern "C" __global__ void k(float* x) { x[threadIdx.x] = twice(x, threadIdx.x); }'
    )
    program = Program(source, name="k.cu", headers={"twice.cuh": header})
    x = np.arange(4, dtype=np.float32)
    program.function("k").launch(1, 4, [x])
    assert x.tolist() == [0, 2, 4, 6]
    with pytest.raises(KernelError) as caught:
        program.function("k").launch(1, 5, [x], mode="check")
    assert (caught.value.file, caught.value.line) == ("twice.cuh", 1)
    assert caught.value.callers == (("k.cu", 2),)
    assert "called at k.cu:2" in str(caught.value)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, [1.0], "list.*does not tell its width"),
        (2, 3.0, "float.*does not tell its width"),
        (3, 100, "int.*does not tell its width"),
        (2, np.int32(3), "int32 of 4 bytes.*takes 4 bytes .*f32"),
        (2, np.float64(3), "float64 of 8 bytes.*takes 4 bytes"),
        (3, np.int32(100), "int32 of 4 bytes.*takes 8 bytes"),
        (3, np.float64(100), "float64 of 8 bytes"),
        (2, np.zeros(3, np.float32), "argument 2 .*is a pointer, the kernel takes 4 bytes"),
        (0, np.zeros((4, 4), np.float32).T, "not C-contiguous"),
        (0, np.zeros(100, ">f4"), "no kernel understands"),
        (0, np.zeros(3, object), "no kernel understands"),
        (0, np.array(1.0, np.float32), "of no dimensions"),
    ],
)
def test_arguments_that_are_refused(program, position, value, message):
    given = arguments()
    given[position] = value
    with pytest.raises(EmulatorError, match=message):
        program.function("scale<float, 4>").launch(1, 128, given)


def test_number_of_arguments(program):
    with pytest.raises(EmulatorError, match="takes 4 arguments, 3 were given"):
        program.function("scale<float, 4>").launch(1, 128, arguments()[:3])


@pytest.mark.parametrize(
    ("grid", "block", "shared", "message"),
    [
        (0, 128, 0, "no GPU runs"),
        ((1, 65536), 32, 0, "no GPU runs"),
        (1, (1, 1, 65), 0, "no GPU runs"),
        (1, (32, 33), 0, "no GPU runs"),
        ((1, 1, 1, 1), 32, 0, "one to three dimensions"),
        (1, 129, 0, "at most 128 threads"),
        (1, 128, 227 * 1024 - 15, "232449 bytes of shared memory a block, sm_90 has 232448"),
        (1, 128, -1, "shared memory"),
    ],
)
def test_launches_that_are_refused(program, grid, block, shared, message):
    with pytest.raises(EmulatorError, match=message):
        program.function("scale<float, 4>").launch(grid, block, arguments(), shared_bytes=shared)


def test_required_block(tools):
    program = Program('extern "C" __global__ void __block_size__((32, 2, 1)) k() {}', arch="sm_90")
    if program.function("k").attributes.required_block is None:
        pytest.skip("this NVRTC writes no .reqntid")
    program.function("k").launch(1, (32, 2), [])
    with pytest.raises(EmulatorError, match="compiled for blocks of"):
        program.function("k").launch(1, 64, [])


def test_modes_and_orders_that_there_are_not(program):
    with pytest.raises(EmulatorError, match="mode is one of"):
        program.function("plain").launch(1, 1, arguments(), mode="quick")
    with pytest.raises(EmulatorError, match="order one of"):
        program.function("plain").launch(1, 1, arguments(), order="backwards")
    with pytest.raises(EmulatorError, match="arch is such as"):
        Program("", arch="90")


@pytest.mark.parametrize("mode", ["fast", "check", "count"])
def test_arrays_that_are_empty_or_views_or_twice_the_same(compiled, mode):
    source = """
    extern "C" __global__ void add(const float* a, const float* b, float* out, const float* none,
                                   int n) {
        if (threadIdx.x < n) out[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];
        if (none != 0) out[0] = 99;
    }"""
    function = compiled(source).function("add")
    whole = np.arange(10, dtype=np.float32)
    function.launch(1, 4, [whole[1:], whole[:4], whole[5:9], None, np.int32(4)], mode=mode)
    assert whole.tolist() == [0, 1, 2, 3, 4, 1, 3, 5, 7, 9]
    empty = np.zeros((0, 3), np.float32)
    function.launch(1, 4, [empty, empty, empty, None, np.int32(0)], mode=mode)
    if mode == "check":
        with pytest.raises(
            KernelError, match=r"a \(argument 0, float32 array of shape \(0, 3\), 0 bytes\)"
        ):
            function.launch(1, 1, [empty, whole, whole, None, np.int32(1)], mode=mode)


@pytest.mark.parametrize("mode", ["fast", "check", "count"])
def test_pointers_in_structs_and_in_memory(compiled, mode):
    source = """
    struct Item { float* data; int n; };
    extern "C" __global__ void fill(Item one, const Item* items) {
        if (blockIdx.x == 0 && threadIdx.x < one.n) one.data[threadIdx.x] = 1;
        const Item& mine = items[blockIdx.x];
        if (threadIdx.x < mine.n) mine.data[threadIdx.x] = 2 + blockIdx.x;
    }"""
    dtype = np.dtype([("data", "u8"), ("n", "i4")], align=True)
    # Of one block, far apart: an address near an array is told as that array's.
    apart = np.zeros((3, 1 << 18), np.float32)
    arrays = [row[:n] for row, n in zip(apart, (3, 5, 7), strict=True)]
    items = np.array([(a.ctypes.data, a.size) for a in arrays], dtype)
    function = compiled(source).function("fill")
    function.launch(2, 8, [items[0], items[1:]], reachable=arrays, mode=mode)
    for number, array in enumerate(arrays):
        assert (array == number + 1).all()
    if mode == "check":
        with pytest.raises(KernelError, match="in no array of this launch"):
            function.launch(2, 8, [items[0], items[1:]], reachable=arrays[1:], mode=mode)


def test_results_stand_after_a_finding(compiled):
    """What the kernel wrote before it went wrong is there to look at."""
    source = """
    extern "C" __global__ void k(float* x) {
        x[threadIdx.x] = 1;
        if (threadIdx.x == 5) x[9] = 0;
    }"""
    x = np.zeros(8, np.float32)
    with pytest.raises(KernelError):
        compiled(source).function("k").launch(1, 8, [x], mode="check")
    assert x.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("mode", ["fast", "check"])
def test_variables_are_as_before_after_a_launch_that_was_aborted(compiled, mode):
    source = """
    __device__ int counter = 3;
    extern "C" __global__ void k(int fail) {
        counter += 1;
        if (fail) asm volatile("trap;");
    }"""
    program = compiled(source)
    for fail, counter in ((0, 4), (1, 4), (0, 5)):
        with pytest.raises(KernelError) if fail else nullcontext():
            program.function("k").launch(1, 1, [np.int32(fail)], mode=mode)
        assert program.variable("counter").view(np.int32)[0] == counter
    program.reset_variables()
    assert program.variable("counter").view(np.int32)[0] == 3


def test_a_launch_goes_on_after_findings(compiled):
    """A wrong read gives zero, a wrong write is lost, and each is told once."""
    source = """
    extern "C" __global__ void k(const float* x, float* y, int n) {
        int i = threadIdx.x;
        y[i] = 1 + x[i + n];
        y[i + n] = 5;
        y[i] += 2;
    }"""
    x, y = np.ones(8, np.float32), np.zeros(8, np.float32)
    function = compiled(source).function("k")
    with pytest.raises(KernelError) as caught:
        function.launch(1, 8, [x, y, np.int32(8)], mode="check", stop_after=10)
    found = [(e.kind, e.line, e.thread) for e in caught.value.findings]
    assert found == [("out of bounds", 4, (0, 0, 0)), ("out of bounds", 5, (0, 0, 0))]
    assert caught.value.findings[0] is caught.value
    assert y.tolist() == [3] * 8
    with pytest.raises(KernelError) as caught:
        function.launch(1, 8, [x, y, np.int32(8)], mode="check")
    assert len(caught.value.findings) == 1


@pytest.mark.parametrize(
    ("kernel", "names", "types"),
    [
        ("plain", ["x", "", "count"], ["float *", "int", "unsigned long long"]),
        ("ns::many<float, 4>", ["a", "b", "s"], ["float *", "float **", "Pair<float>"]),
        ("macro", ["data"], ["T *"]),
        ("declared", ["y"], ["double *"]),
        ("missing", None, None),
        ("twice", None, None),
    ],
)
def test_parameters_are_read_from_the_source(kernel, names, types):
    source = """
    // __global__ void plain(int comment) {
    extern "C" __global__ void plain(const float* __restrict__ x, int,
                                     const unsigned long long count) { }
    namespace ns {
    template <typename T, int N = 4>
    __global__ void __launch_bounds__(128) many(T* a, const T* const* b, Pair<T> s = {}) { }
    }
    #define KERNEL(name) __global__ void name
    KERNEL_OF(T) macro(T data[]) { plain(0, 1, 2); }
    __global__ void declared(const double* x);
    __global__ void declared(const double* y) { }
    void twice(int* a) { } void twice(int* b) { }
    """
    found = parameters(kernel, [source], len(names or [""]))
    assert found == (
        names and tuple(KernelParameter(n, t) for n, t in zip(names, types, strict=True))
    )


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("float *", ["f4"], ["f8", "f2", "i4", "u4", "?"]),
        ("double *", ["f8"], ["f4", "i8"]),
        ("int *", ["i4", "u4"], ["i8", "f4", "i2"]),
        ("unsigned long long *", ["u8", "i8"], ["u4", "f8"]),
        ("__half *", ["f2", "u2"], ["f4", "i4"]),
        ("bool *", ["?", "u1"], ["i4"]),
        ("float4 *", ["f4"], ["f8"]),
        ("float **", ["u8", "i8"], ["f4", "u4"]),
        ("unsigned char *", ["u1", "f4", "f8"], []),
        ("void *", ["u1", "f4", "f8"], []),
        ("Item *", ["u1", "f4", "f8"], []),
        ("int", ["f8"], []),
    ],
)
def test_dtypes_that_a_parameter_accepts(kind, right, wrong):
    parameter = KernelParameter("p", kind)
    assert all(parameter.accepts(np.dtype(name)) for name in right)
    assert not any(parameter.accepts(np.dtype(name)) for name in wrong)


def test_fast_mode_finds_what_stops_a_block(compiled):
    source = """
    extern "C" __global__ void k(float* x) {
        if (threadIdx.x < 32) __syncthreads();
        x[threadIdx.x] = 1;
    }"""
    with pytest.raises(KernelError, match="divergent barrier"):
        compiled(source).function("k").launch(100, 64, [np.zeros(64, np.float32)])


def test_findings_leave_nothing_behind(compiled):
    """Stacks, arenas and shadow memory of launches that were left in the middle."""
    source = """
    extern "C" __global__ void __launch_bounds__(1024) k(float* x, int n) {
        __shared__ float a[1024];
        a[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x + n] = a[1023 - threadIdx.x];
    }"""
    function = compiled(source).function("k")
    x = np.zeros(1 << 20, np.float32)

    def memory() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    sizes = []
    for _ in range(60):
        with pytest.raises(KernelError):
            function.launch(2, 1024, [x, np.int32(1 << 20)], mode="check")
        sizes.append(memory())
    assert sizes[-1] - sizes[10] < 1 << 20


def test_unknown_instructions_are_named(tools):
    source = """
    extern "C" __global__ void k(unsigned* x) {
        asm volatile("vadd.u32.u32.u32 %0, %1, %1;" : "=r"(x[0]) : "r"(x[1]));
    }"""
    with pytest.raises(UnsupportedError, match=r"'vadd\.u32\.u32\.u32 .*' \(PTX line \d+\)"):
        Program(source).function("k").launch(1, 1, [np.zeros(2, np.uint32)])


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            'asm volatile("{ .reg .b32 a, b, c, d; '
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            '{a, b, c, d}, {a, b, c, d}, {a, b}, {a, b, c, d}; }")',
            "mma.sync",
        ),
        (
            'asm volatile("{ .reg .b32 a, b; '
            'ldmatrix.sync.aligned.m8n8.x2.shared.b16 {a, b}, [%0]; }" ::"r"((unsigned)x[0]))',
            "ldmatrix",
        ),
        (
            'asm volatile("cp.async.mbarrier.arrive.shared.b64 [%0];" ::"r"((unsigned)x[0]))',
            "mbarrier",
        ),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(tools, statement, named):
    source = f'extern "C" __global__ void k(float* x) {{ {statement}; }}'
    with pytest.raises(UnsupportedError, match=named):
        Program(source).function("k").launch(1, 1, [np.zeros(2, np.float32)])


def test_recursion_is_refused(tools):
    source = """
    __device__ __noinline__ int depth(int n) { return n < 2 ? n : depth(n - 1) + depth(n - 2); }
    extern "C" __global__ void k(int* x) { x[0] = depth(x[0]); }"""
    with pytest.raises(UnsupportedError, match="calls itself"):
        Program(source).function("k").launch(1, 1, [np.zeros(1, np.int32)])


@pytest.mark.parametrize("arch", [f"sm_{n}" for n in (75, 80, 86, 89, 90, 100, 120)])
def test_architectures(tools, arch):
    """The same kernels, from the PTX of each, give the same bits."""
    source = """
    __global__ void nothing() {}
    template <class T> __global__ void mixed(const T* __restrict__ x, T* out, int n) {
        __shared__ T tile[64];
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        T v = i < n ? x[i] : T(0);
        tile[threadIdx.x] = v;
        __syncthreads();
        T sum = 0;
        for (int k = 0; k < 64; ++k) sum += tile[k ^ threadIdx.x] * T(k);
        for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
        v = T(1) / (T(1) + exp(-v)) + log(fabs(v) + T(1)) + sqrt(fabs(v)) + tanh(v);
        if (i < n) out[i] = fmax(v, T(0.25)) + sum + T((int)v % 3) + T((unsigned long long)i / 7);
    }"""
    expressions = ("mixed<float>", "mixed<double>")
    program = Program(source, arch=arch, name_expressions=expressions)
    for expression, dtype in zip(expressions, (np.float32, np.float64), strict=True):
        x = np.random.default_rng(0).standard_normal(100).astype(dtype)
        out, checked = np.zeros_like(x), np.zeros_like(x)
        program.function(expression).launch(2, 64, [x, out, np.int32(100)])
        program.function(expression).launch(
            2, 64, [x, checked, np.int32(100)], mode="check", order="random"
        )
        assert out.tobytes() == checked.tobytes()
        padded = np.pad(x.astype(np.float64), (0, 28)).reshape(2, 2, 32)
        k = np.arange(64)
        tiles = padded.reshape(2, 64)
        sums = np.array([[(tile[k ^ t] * k).sum() for t in k] for tile in tiles]).reshape(2, 2, 32)
        sums = np.broadcast_to(sums.sum(2, keepdims=True), sums.shape).reshape(-1)[:100]
        wide = x.astype(np.float64)
        v = (
            1 / (1 + np.exp(-wide))
            + np.log(np.abs(wide) + 1)
            + np.sqrt(np.abs(wide))
            + np.tanh(wide)
        )
        wanted = np.maximum(v, 0.25) + sums + np.fmod(np.trunc(v), 3) + np.arange(100) // 7
        tolerance = 1e-4 if dtype == np.float32 else 1e-11
        np.testing.assert_allclose(out, wanted, rtol=tolerance, atol=tolerance)


# ---- the cache


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache of its own, which begins with the runtime in it."""
    toolchain.load_runtime()
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def fresh() -> Program:
    return Program(SCALE, name="scale.cu", name_expressions=EXPRESSIONS)


def run(program: Program) -> None:
    given = arguments()
    program.function("scale<float, 4>").launch(1, 128, given)
    assert (given[1] == 3 * given[0]).all()


def forbid(monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise AssertionError("compiles though it is cached")

    monkeypatch.setattr("tinygrad_mask.emulator.program.compile_kernel", fail)
    monkeypatch.setattr(nvrtc, "compile_source", fail)


def test_second_program_compiles_nothing(empty_cache, monkeypatch):
    run(fresh())
    forbid(monkeypatch)
    run(fresh())


def test_only_what_is_launched_is_compiled_for_the_host(empty_cache):
    run(fresh())
    assert len(list(empty_cache.rglob("kernel.so"))) == 1


@pytest.mark.parametrize("change", ["arch", "options", "headers", "source"])
def test_what_the_cache_depends_on(empty_cache, monkeypatch, change):
    run(fresh())
    forbid(monkeypatch)
    changed = {
        "arch": Program(SCALE, name="scale.cu", arch="sm_80", name_expressions=EXPRESSIONS),
        "options": Program(
            SCALE, name="scale.cu", options=["-std=c++17"], name_expressions=EXPRESSIONS
        ),
        "headers": Program(SCALE, name="scale.cu", headers={"a": ""}, name_expressions=EXPRESSIONS),
        "source": Program(SCALE + " ", name="scale.cu", name_expressions=EXPRESSIONS),
    }[change]
    with pytest.raises(AssertionError, match="compiles though"):
        run(changed)


@pytest.mark.parametrize("name", ["kernel.so", "description.json", "kernels.ptx", "digests.json"])
@pytest.mark.parametrize("damage", ["truncate", "garble", "remove"])
def test_damaged_entries_are_made_anew(empty_cache, name, damage):
    run(fresh())
    for file in empty_cache.rglob(name):
        content = file.read_bytes()
        if damage == "remove":
            file.unlink()
        else:
            # In a file of its own, since the old one is mapped into this process.
            file.unlink()
            half = len(content) // 2
            file.write_bytes(
                content[:half] if damage == "truncate" else content[:half] + bytes(half)
            )
    run(fresh())
    for file in empty_cache.rglob("kernel.so"):
        assert file.read_bytes()[:4] == b"\x7fELF"
    assert not [p for p in empty_cache.rglob("*") if p.name.startswith(".")]


def _in_a_process(folder: str, barrier) -> None:
    os.environ[cache.CACHE_VARIABLE] = folder
    barrier.wait()
    run(fresh())


def test_several_processes_at_once(empty_cache):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [
        context.Process(target=_in_a_process, args=(str(empty_cache), barrier)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert not [p for p in empty_cache.rglob("*") if p.name.startswith(".")]


def test_cache_that_cannot_be_written(empty_cache, monkeypatch):
    (empty_cache / "file").write_text("")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(empty_cache / "file"))
    with pytest.raises(EmulatorError, match=f"cannot be written.*{cache.CACHE_VARIABLE}"):
        run(fresh())


# ---- what is missing


def test_missing_compiler(tools, monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    for function in (toolchain.compiler, toolchain.load_runtime):
        function.cache_clear()
    try:
        with pytest.raises(EmulatorError, match=r"no C\+\+ compiler was found.*g\+\+"):
            run(fresh())
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(EmulatorError, match="CXX=no-such-compiler"):
            toolchain.compiler()
    finally:
        toolchain.compiler.cache_clear()


@pytest.fixture
def fresh_toolchain():
    """Have the compiler looked for again, before the test and after it."""
    toolchain.compiler.cache_clear()
    yield
    toolchain.compiler.cache_clear()


def test_compiler_with_arguments(tools, empty_cache, monkeypatch, fresh_toolchain):
    wrapper = empty_cache / "a wrapper"  # such as ccache
    wrapper.write_text('#!/bin/sh\necho "$1" >> "$0.calls"\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{wrapper}' g++ -DFIRST='a b'")
    command, version = toolchain.compiler()
    assert command == (str(wrapper), "g++", "-DFIRST=a b")
    assert "Free Software Foundation" in version
    library = toolchain.compile_kernel('extern "C" int f() { return 1; }', "fast")
    assert library[:4] == b"\x7fELF"
    assert Path(f"{wrapper}.calls").read_text().split() == ["g++", "g++"]


def test_compiler_with_an_open_quotation_mark(monkeypatch, fresh_toolchain):
    monkeypatch.setenv("CXX", "'ccache g++")
    with pytest.raises(EmulatorError, match=r"CXX: expected a command, got .*No closing quotation"):
        toolchain.compiler()


def test_compiler_that_fails(empty_cache, monkeypatch):
    toolchain._translator_digest()  # reads the headers
    monkeypatch.setattr(toolchain, "_RUNTIME", empty_cache)  # no headers there
    with pytest.raises(EmulatorError, match="did not compile a translated kernel"):
        run(fresh())


def test_missing_nvrtc(empty_cache, monkeypatch):
    monkeypatch.setattr(nvrtc.importlib.util, "find_spec", lambda name: None)
    for function in (nvrtc.library_path, nvrtc.identity):
        function.cache_clear()
    try:
        with pytest.raises(EmulatorError, match=r"NVRTC was not found.*tinygrad_mask\[emulator\]"):
            run(fresh())
    finally:
        nvrtc.library_path.cache_clear()
        nvrtc.identity.cache_clear()


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
def test_hosts_that_the_emulator_does_not_run_on(tools, monkeypatch, system, machine):
    monkeypatch.setattr(toolchain.sys, "platform", system)
    monkeypatch.setattr(toolchain.platform, "machine", lambda: machine)
    toolchain.compiler.cache_clear()
    try:
        with pytest.raises(EmulatorError, match=f"this is {system} on {machine}"):
            toolchain.compiler()
    finally:
        toolchain.compiler.cache_clear()


def test_import_needs_no_tools():
    """Nothing is looked for before a kernel is compiled."""
    code = "import sys, tinygrad_mask.emulator; assert 'nvidia' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PATH": ""})
