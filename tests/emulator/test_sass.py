"""Machine code: what the compiler says of small kernels whose content is known, and their loops."""

import dataclasses
import json
from pathlib import Path

import pytest

from tinygrad_mask.emulator import CompileError, EmulatorError, nvrtc, sass
from tinygrad_mask.emulator.loops import natural_loops
from tinygrad_mask.emulator.sass import MachineInstruction, disassembler, machine_code, successors

SOURCE = """
#define KERNEL extern "C" __global__ void
// 32 multiplications and additions a round, of which nothing can be left out.
KERNEL fma_loop(float* x, float a, float b, int n) {
    float sum[8];
    for (int j = 0; j < 8; j++) sum[j] = x[8 * threadIdx.x + j];
#pragma unroll 1
    for (int i = 0; i < n; i++)
#pragma unroll
        for (int k = 0; k < 32; k++) sum[k % 8] = fmaf(sum[k % 8], a, b);
    for (int j = 0; j < 8; j++) x[8 * threadIdx.x + j] = sum[j];
}
// The same, and in each round a small loop that steps on; around it all another one.
KERNEL nested(float* x, float a, float b, int n, int q) {
    int p = 0;
#pragma unroll 1
    for (int image = 0; image < q; image++) {
        float sum = x[image];
#pragma unroll 1
        for (int i = 0; i < n; i++) {
            p += n;
#pragma unroll 1
            while (p >= q) p -= q;
#pragma unroll
            for (int k = 0; k < 24; k++) sum = fmaf(sum, a, b);
        }
        x[p] = sum;
    }
}
KERNEL copy(const float4* __restrict__ from, float4* to) {
    __shared__ float4 tile[64];
    tile[threadIdx.x] = from[threadIdx.x];
    __syncthreads();
    to[threadIdx.x] = tile[63 - threadIdx.x];
}
KERNEL narrow(const float* __restrict__ from, float* to) { to[threadIdx.x] = from[threadIdx.x]; }
KERNEL many_values(float* x, int n) {
    float value[64];
    for (int j = 0; j < 64; j++) value[j] = x[64 * threadIdx.x + j];
#pragma unroll 1
    for (int i = 0; i < n; i++)
#pragma unroll
        for (int j = 0; j < 64; j++)
            value[j] = fmaf(value[j], value[(j + 7) % 64], value[(j + 1) % 64]);
    for (int j = 0; j < 64; j++) x[64 * threadIdx.x + j] = value[j];
}
KERNEL unknown_index(float* x, const int* at, int n) {
    float value[32];
    for (int j = 0; j < 32; j++) value[j] = x[j];
    for (int i = 0; i < n; i++) value[at[i] & 31] += x[i];
    for (int j = 0; j < 32; j++) x[j] = value[j];
}
KERNEL in_double(double* x, double a, int n) {
    double sum = x[threadIdx.x];
#pragma unroll 1
    for (int i = 0; i < n; i++) {
        sum = fma(sum, a, 1.0);
        sum = fma(sum, a, 2.0);
    }
    x[threadIdx.x] = sum;
}
template <class T, int N> __global__ void __launch_bounds__(N) fill(T* x) { x[threadIdx.x] = N; }
"""


@pytest.fixture(scope="module", autouse=True)
def _tools():
    try:
        nvrtc.library_path()
        disassembler()
    except EmulatorError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"])
def kernels(request):
    return machine_code(SOURCE, name="known.cu", arch=request.param)


def test_a_loop_of_multiplications(kernels):
    hot = kernels["fma_loop"].hot_loop
    assert hot.ffma == 32
    assert hot.dfma == 0
    assert 32 < hot.total < 48  # the counter, the comparison and the branch
    assert hot.fma_share == 32 / hot.total
    assert hot.global_loads == hot.shared_loads == hot.local == hot.barriers == 0
    assert kernels["fma_loop"].mix.ffma == 32


def test_loops_within_it_belong_to_the_hot_loop_and_the_one_around_it_does_not(kernels):
    code = kernels["nested"]
    hot, outer = (
        set(loop) for loop in code.loops if any(code.instructions[i].name == "FFMA" for i in loop)
    )
    assert hot < outer
    assert any(set(loop) < hot for loop in code.loops)
    assert code.hot_loop.ffma == 24
    assert code.hot_loop.global_loads == code.hot_loop.global_stores == 0
    assert code.hot_loop.total == len(hot)


def test_accesses_of_128_bits(kernels):
    mix = kernels["copy"].mix
    assert (mix.global_loads, mix.global_loads_128) == (1, 1)
    assert (mix.global_stores, mix.global_stores_128) == (1, 1)
    assert (mix.shared_loads, mix.shared_loads_128) == (1, 1)
    assert mix.shared_stores == 1
    assert mix.barriers == 1
    narrow = kernels["narrow"].mix
    assert (narrow.global_loads, narrow.global_loads_128) == (1, 0)
    assert (narrow.global_stores, narrow.global_stores_128) == (1, 0)


def test_what_a_kernel_takes(kernels):
    assert kernels["copy"].shared_bytes == 64 * 16
    assert kernels["copy"].hot_loop is None
    assert kernels["copy"].loops == ()
    assert kernels["many_values"].shared_bytes == 0
    assert 64 <= kernels["many_values"].registers <= 128
    assert kernels["many_values"].spill_bytes == kernels["many_values"].stack_bytes == 0
    assert kernels["many_values"].mix.local == 0


def test_local_memory_that_is_no_spill(kernels):
    code = kernels["unknown_index"]
    assert code.stack_bytes >= 32 * 4
    assert code.spill_bytes == 0
    assert code.mix.local > 0


def test_float64(kernels):
    hot = kernels["in_double"].hot_loop
    assert (hot.ffma, hot.dfma) == (0, 2)
    assert hot.fma_share == 2 / hot.total


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_too_few_registers_are_spilled(arch):
    options = ("-std=c++17", "--maxrregcount=32")
    code = machine_code(SOURCE, name="known.cu", arch=arch, options=options)["many_values"]
    assert code.registers <= 32
    assert code.spill_bytes >= 2 * 32 * 4  # half of 64 values, out and in
    assert code.stack_bytes > 0
    assert code.hot_loop.local > 0
    assert code.hot_loop.ffma == 64


def test_instances_of_templates_go_by_their_expressions():
    names = ("fill<float, 64>", "fill<double, 32>")
    kernels = machine_code(SOURCE, name="known.cu", name_expressions=names)
    assert {*names, "copy"} < set(kernels)
    assert kernels["fill<float, 64>"].symbol != "fill<float, 64>"


def test_a_second_time_nothing_is_compiled(monkeypatch):
    source = SOURCE + "// once"
    first = machine_code(source, name="known.cu")
    monkeypatch.setattr(nvrtc, "compile_source", None)
    assert machine_code(source, name="known.cu") == first


def test_an_error_in_the_source_is_shown():
    with pytest.raises(CompileError, match=r"wrong\.cu\(1\): error"):
        machine_code("int x = y;", name="wrong.cu")


@pytest.mark.parametrize("missing", ["nvrtc", "nvdisasm"])
def test_a_missing_tool_is_named_in_one_line(monkeypatch, missing):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    find = nvrtc.library_path if missing == "nvrtc" else disassembler
    find.cache_clear()
    try:
        with pytest.raises(EmulatorError, match=f"pip install .*nvidia-cuda-{missing}") as error:
            find()
        assert "\n" not in str(error.value)
    finally:
        find.cache_clear()


def test_a_disassembler_that_fails_is_an_error(tmp_path, monkeypatch):
    broken = tmp_path / "nvdisasm"
    broken.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sass, "disassembler", lambda: broken)
    with pytest.raises(EmulatorError, match="does not list the machine code: no such thing"):
        machine_code(SOURCE, name="known.cu")


# --- loops in code made up for it ----------------------------------------------------------------


def code(*lines: str) -> list[MachineInstruction]:
    """Instructions from lines such as "@P0 BRA 2", where 2 is the number of an instruction."""
    made = []
    for line in lines:
        predicate, rest = line.split(" ", 1) if line.startswith("@") else ("", line)
        opcode, _, operands = rest.partition(" ")
        if opcode in ("BRA", "BSSY"):
            *others, target = operands.split(",")
            operands = ",".join([*others, hex(16 * int(target))])
        made.append(MachineInstruction(opcode, operands, predicate))
    return made


@pytest.mark.parametrize(
    ("lines", "loops"),
    [
        ([], ()),
        (["FADD", "EXIT"], ()),
        (["FADD", "FFMA", "@P0 BRA 1", "EXIT"], ((1, 2),)),
        (["FADD", "FFMA", "BRA.U UP0,1", "EXIT"], ((1, 2),)),
        # To itself, behind the end: what compilers put after a kernel; nothing gets there.
        (["EXIT", "BRA 1", "NOP"], ()),
        # One within the other.
        (["IADD", "FADD", "FFMA", "@P0 BRA 2", "@P1 BRA 1", "EXIT"], ((2, 3), (1, 2, 3, 4))),
        # Two branches to the same instruction are one loop.
        (["IADD", "@P0 BRA 0", "FFMA", "@P1 BRA 0", "EXIT"], ((0, 1, 2, 3),)),
        # A part of the loop lies behind the end of the kernel; the branch back is into the middle.
        (
            ["IADD", "@P0 BRA 5", "FFMA", "@P1 BRA 0", "EXIT", "FADD", "BRA 2"],
            ((0, 1, 2, 3, 5, 6),),
        ),
        # Threads that part meet again where BSSY says.
        (
            ["BSSY B0,4", "@P0 BRA 3", "FADD", "BSYNC B0", "@P1 BRA 0", "EXIT"],
            ((0, 1, 2, 3, 4),),
        ),
        # A way into the middle of what would be the loop: none that any branch closes.
        (["@P0 BRA 2", "FADD", "FFMA", "@P1 BRA 1", "EXIT"], ()),
        # Left from the middle.
        (["FFMA", "@P0 EXIT", "FADD", "BRA 0"], ((0, 1, 2, 3),)),
    ],
)
def test_natural_loops(lines, loops):
    instructions = code(*[line.replace("BRA.U ", "BRA ") for line in lines])
    assert natural_loops(successors(instructions)) == loops


def test_a_mix_is_plain_data():
    mix = sass._mix(code("FFMA", "LDG.E.128 R0,[R2]", "LDGSTS.E.BYPASS.128 [R0],[R2]", "NOP"))
    data = json.loads(json.dumps(dataclasses.asdict(mix)))
    assert data["total"] == 3
    assert data["global_loads"] == data["global_loads_128"] == 2
    assert Path(disassembler()).is_file()
