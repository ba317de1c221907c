"""Memory of all kinds and widths, calls, branches, cp.async: what kernels are made of."""

import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask.emulator import Program

pytestmark = pytest.mark.usefixtures("tools")

MODES = ("fast", "check", "count")

WIDTHS = """
extern "C" __global__ void widths(const unsigned char* bytes, long long* out) {
    int i = threadIdx.x;
    out[8 * i + 0] = ((const signed char*)bytes)[i];
    out[8 * i + 1] = bytes[i];
    out[8 * i + 2] = ((const short*)bytes)[i];
    out[8 * i + 3] = ((const unsigned short*)bytes)[i];
    out[8 * i + 4] = ((const int*)bytes)[i];
    out[8 * i + 5] = ((const unsigned*)bytes)[i];
    out[8 * i + 6] = ((const long long*)bytes)[i];
    __shared__ signed char narrow[64];
    __shared__ short wider[64];
    narrow[i] = (signed char)out[8 * i + 4];
    wider[i] = (short)out[8 * i + 6];
    __syncthreads();
    out[8 * i + 7] = narrow[i ^ 1] * 100000ll + wider[i ^ 1];
}"""


@given(st.binary(min_size=64, max_size=64))
def test_widths_and_signs(compiled, data):
    raw = np.frombuffer(data, np.uint8).copy()
    for arch in ("sm_75", "sm_120"):
        for mode in MODES:
            out = np.zeros((8, 8), np.int64)
            compiled(WIDTHS, arch).function("widths").launch(1, 8, [raw, out], mode=mode)
            columns = [
                raw.view(t)[:8].astype(np.int64) for t in ("i1", "u1", "i2", "u2", "i4", "u4", "i8")
            ]
            for column, wanted in zip(out.T, columns, strict=False):
                assert column.tolist() == wanted.tolist()
            narrow = columns[4].astype(np.int8).astype(np.int64) * 100000
            wider = columns[6].astype(np.int16).astype(np.int64)
            assert out[:, 7].tolist() == (narrow + wider)[np.arange(8) ^ 1].tolist()


VECTORS = """
struct __align__(16) Pair { double a, b; };
extern "C" __global__ void vectors(const float4* f4, const int2* i2, const Pair* pairs,
                                   const uchar4* u4, float4* out4, int2* out2, Pair* outpairs,
                                   uchar4* outu4) {
    __shared__ float4 tile[32];
    int i = threadIdx.x;
    float4 v = f4[i];
    tile[31 - i] = make_float4(v.w, v.z, v.y, v.x);
    __syncthreads();
    out4[i] = tile[i];
    int2 p = i2[i]; out2[i] = make_int2(p.y, p.x);
    Pair d = pairs[i]; Pair e; e.a = d.b; e.b = d.a; outpairs[i] = e;
    uchar4 u = u4[i]; outu4[i] = make_uchar4(u.w, u.z, u.y, u.x);
}"""


@pytest.mark.parametrize("mode", MODES)
def test_vectors(compiled, arch, mode):
    rng = np.random.default_rng(0)
    f4 = rng.standard_normal((32, 4), dtype=np.float32)
    i2 = rng.integers(-9, 9, (32, 2), dtype=np.int32)
    pairs, u4 = rng.standard_normal((32, 2)), rng.integers(0, 255, (32, 4), dtype=np.uint8)
    outs = [np.zeros_like(a) for a in (f4, i2, pairs, u4)]
    compiled(VECTORS, arch).function("vectors").launch(1, 32, [f4, i2, pairs, u4, *outs], mode=mode)
    assert (outs[0] == f4[::-1, ::-1]).all()
    for array, out in zip((i2, pairs, u4), outs[1:], strict=True):
        assert (out == array[:, ::-1]).all()


BLACKWELL = """
extern "C" __global__ void pairs(const float* x, float* out) {
    float a[8];
    asm volatile("ld.global.v8.f32 {%0, %1, %2, %3, %4, %5, %6, %7}, [%8];"
                 : "=f"(a[0]), "=f"(a[1]), "=f"(a[2]), "=f"(a[3]), "=f"(a[4]), "=f"(a[5]),
                   "=f"(a[6]), "=f"(a[7]) : "l"(x));
    asm volatile("{ .reg .b64 p, q, r; "
                 "mov.b64 p, {%2, %3}; mov.b64 q, {%4, %5}; mov.b64 r, {%6, %7}; "
                 "fma.rn.f32x2 p, p, q, r; mul.rn.f32x2 q, q, r; add.rn.f32x2 p, p, q; "
                 "mov.b64 {%0, %1}, p; }" : "=f"(out[0]), "=f"(out[1])
                 : "f"(a[0]), "f"(a[1]), "f"(a[2]), "f"(a[3]), "f"(a[4]), "f"(a[5]));
    asm volatile("max.f32 %0, %1, %2, %3;" : "=f"(out[2]) : "f"(a[5]), "f"(a[6]), "f"(a[7]));
    asm volatile("min.f32 %0, %1, %2, %3;" : "=f"(out[3]) : "f"(a[5]), "f"(a[6]), "f"(a[7]));
}"""


@pytest.mark.parametrize("mode", MODES)
def test_what_came_with_sm_100(compiled, mode):
    x, out = np.array([1.5, -2, 3, 0.25, 7, -1, 9, -8], np.float32), np.zeros(4, np.float32)
    base = np.zeros(16, np.float32)
    at = -base.ctypes.data // 4 % 8  # 32-byte accesses want a multiple of 32
    base[at : at + 8] = x
    function = compiled(BLACKWELL, "sm_100").function("pairs")
    function.launch(1, 1, [base[at : at + 8], out], mode=mode)
    assert out.tolist() == [1.5 * 3 + 7 + 3 * 7, -2 * 0.25 - 1 + 0.25 * -1, 9, -8]


CALLS = """
struct Settings { float scale; int count; double offset; unsigned char flag; };
__constant__ float table[5] = {1.5f, -2.f, 3.f, 1e-3f, 7.f};
__device__ int counter = 40;
__device__ unsigned short shorts[3] = {1, 65535, 3};
__device__ __noinline__ float horner(const float* a, int n, float x) {
    float y = 0;
    for (int i = 0; i < n; ++i) y = y * x + a[i];
    return y;
}
__device__ __noinline__ double2 both(double a, float b) { return make_double2(a + b, a * b); }
__device__ __noinline__ void fill(int* a, int n) { for (int i = 0; i < n; ++i) a[i] = i * i; }
extern "C" __global__ void calls(Settings s, const float* x, double* out, bool negate) {
    int i = threadIdx.x, squares[9];
    fill(squares, 9);
    double2 d = both(s.offset, x[i]);
    double y = horner(table, s.count, x[i]) * s.scale + d.x - d.y + squares[i % 9] + s.flag;
    out[i] = negate ? -y : y;
    if (i == 0) { counter += 2; shorts[0] += shorts[1]; }
}"""


@pytest.mark.parametrize("mode", MODES)
def test_calls_structs_and_variables(compiled, arch, mode):
    program = Program(CALLS, name="calls.cu", arch=arch)
    dtype = np.dtype(
        [("scale", "f4"), ("count", "i4"), ("offset", "f8"), ("flag", "u1")], align=True
    )
    settings = np.array((0.5, 5, 2.25, 200), dtype)
    x = np.linspace(-1, 1, 20, dtype=np.float32)
    table = np.array([1.5, -2, 3, 1e-3, 7], np.float32).astype(np.float64)
    wide = x.astype(np.float64)
    wanted = np.polyval(table, wide) * 0.5 + 2.25 + wide - 2.25 * wide + 200
    wanted += np.arange(20) % 9 * (np.arange(20) % 9)
    for argument in (settings, settings[()]):
        for negate in (False, True):
            out = np.zeros(20)
            program.function("calls").launch(1, 20, [argument, x, out, np.bool_(negate)], mode=mode)
            np.testing.assert_allclose(-out if negate else out, wanted, rtol=1e-6)
    assert program.variable("counter").view(np.int32)[0] == 48
    assert program.variable("shorts").view(np.uint16).tolist() == [65533, 65535, 3]
    program.variable("table").view(np.float32)[:] = 0
    out = np.zeros(20)
    program.function("calls").launch(1, 20, [settings, x, out, np.bool_(False)], mode=mode)
    np.testing.assert_allclose(out, wanted - np.polyval(table, wide) * 0.5, atol=1e-6)


BRANCHES = """
extern "C" __global__ void branches(const int* x, int* out) {
    int i = threadIdx.x, y = 0;
    for (int k = 0; k <= i; ++k) {
        switch (x[k]) {
            case 0: y += 1; break;
            case 1: y ^= k; break;
            case 2: y *= 3;  // falls through
            case 3: y -= 7; break;
            case 4: if (k % 2) continue; y += 100; break;
            case 5: y = -y; break;
            case 6: y <<= 1; break;
            case 7: goto end;
            default: y = 5;
        }
    }
end:
    out[i] = y;
}
extern "C" __global__ void table(const unsigned* x, unsigned* out) {
    unsigned d;
    asm volatile("{ ts: .branchtargets zero, one, two; brx.idx %1, ts;\\n"
                 "zero: mov.u32 %0, 10; bra end; one: mov.u32 %0, 11; bra end;\\n"
                 "two: mov.u32 %0, 12; end: }" : "=r"(d) : "r"(x[threadIdx.x]));
    out[threadIdx.x] = d;
}"""


def follow(values: list[int]) -> int:
    y = 0
    for k, value in enumerate(values):
        if value == 0:
            y += 1
        elif value == 1:
            y ^= k
        elif value in (2, 3):
            y = (y * 3 if value == 2 else y) - 7
        elif value == 4:
            y += 0 if k % 2 else 100
        elif value == 5:
            y = -y
        elif value == 6:
            y *= 2
        elif value == 7:
            break
        else:
            y = 5
    return y


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=12))
def test_branches(compiled, values):
    out = np.zeros(len(values), np.int32)
    arguments = [np.array(values, np.int32), out]
    for arch in ("sm_75", "sm_90"):
        compiled(BRANCHES, arch).function("branches").launch(1, len(values), arguments)
        assert out.tolist() == [follow(values[: i + 1]) for i in range(len(values))]


def test_branch_table(compiled):
    out = np.zeros(6, np.uint32)
    x = np.array([2, 0, 1, 1, 0, 2], np.uint32)
    compiled(BRANCHES).function("table").launch(1, 6, [x, out])
    assert (out == x + 10).all()


COPIES = """
#define COPY(bytes, d, s, used)                                                 \\
    asm volatile("cp.async.ca.shared.global [%0], [%1], " #bytes ", %2;" ::"r"( \\
                     (unsigned)__cvta_generic_to_shared(d)), "l"(s), "r"(used) : "memory")
extern "C" __global__ void stages(const float4* x, float4* out, int stages) {
    __shared__ float4 buffer[3][32];
    int lane = threadIdx.x;
    for (int s = 0; s < 2; ++s) {
        if (s < stages) COPY(16, &buffer[s][lane], x + 32 * s + lane, 16);
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (int s = 0; s < stages; ++s) {
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        if (s + 2 < stages) COPY(16, &buffer[(s + 2) % 3][lane], x + 32 * (s + 2) + lane, 16);
        asm volatile("cp.async.commit_group;" ::: "memory");
        out[32 * s + lane] = buffer[s % 3][31 - lane];
    }
}
extern "C" __global__ void zero_fill(const float* x, float* out, int n) {
    __shared__ __align__(16) float a[128];
    int used = min(max(n - 4 * (int)threadIdx.x, 0), 4) * 4;
    COPY(16, a + 4 * threadIdx.x, x + (used ? 4 * threadIdx.x : 0), used);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    for (int i = threadIdx.x; i < 128; i += 32) out[i] = a[i];
}
extern "C" __global__ void arrives_at_the_wait(const float* x, float* out) {
    __shared__ float a[32];
    a[threadIdx.x] = -1;
    COPY(4, a + threadIdx.x, x + threadIdx.x, 4);
    out[threadIdx.x] = a[threadIdx.x];
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[32 + threadIdx.x] = a[threadIdx.x];
}"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stages", [1, 2, 3, 7])
def test_copies_in_stages(compiled, mode, stages):
    x = np.random.default_rng(0).standard_normal((stages, 32, 4), dtype=np.float32)
    for order in ("forward", "reverse", "random"):
        out = np.zeros_like(x)
        compiled(COPIES).function("stages").launch(
            1, 32, [x, out, np.int32(stages)], mode=mode, order=order
        )
        assert (out == x[:, ::-1]).all()


@pytest.mark.parametrize("n", [0, 1, 4, 7, 126, 128])
def test_copies_fill_with_zeros(compiled, n):
    x, out = np.arange(1, n + 1, dtype=np.float32), np.full(128, -1, np.float32)
    compiled(COPIES).function("zero_fill").launch(1, 32, [x, out, np.int32(n)], mode="check")
    assert out.tolist() == [*x.tolist(), *[0] * (128 - n)]


def test_copies_arrive_when_they_are_waited_for(compiled):
    x, out = np.arange(32, dtype=np.float32), np.zeros(64, np.float32)
    compiled(COPIES).function("arrives_at_the_wait").launch(1, 32, [x, out])
    assert out.tolist() == [*[-1] * 32, *x.tolist()]


ADDRESSES = """
extern "C" __global__ void wraps(float* out) {
    __shared__ float a[32];
    a[threadIdx.x] = threadIdx.x;
    __syncthreads();
    // The address is below zero before the last addition, and wraps at 32 bits.
    unsigned base = (unsigned)__cvta_generic_to_shared(a);
    unsigned below = base + 4 * threadIdx.x - 0x80000000u;
    float value;
    asm volatile("{ .reg .b32 t; add.u32 t, %1, 0x7fffff80; ld.shared.f32 %0, [t+128]; }"
                 : "=f"(value) : "r"(below));
    out[threadIdx.x] = value;
}
extern "C" __global__ void spaces(const float* x, int* out) {
    __shared__ float a[32];
    float l[8];
    a[threadIdx.x] = 0;
    for (int i = 0; i < 8; ++i) l[i] = x[i];
    const void* pointers[3] = {x, a, l};
    for (int i = 0; i < 3; ++i) {
        const void* p = pointers[i];
        out[3 * threadIdx.x + i] = __isGlobal(p) + 2 * __isShared(p) + 4 * __isLocal(p);
    }
    out[3 * threadIdx.x] += (int)l[(int)x[threadIdx.x % 8] & 7] * 8;
}
extern "C" __global__ void dimensions(unsigned* out) {
    unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned n = blockDim.x * blockDim.y * blockDim.z;
    out[b * n + t] = b * n + t;
}"""


@pytest.mark.parametrize("mode", MODES)
def test_shared_addresses_wrap_at_32_bits(compiled, arch, mode):
    out = np.zeros(32, np.float32)
    compiled(ADDRESSES, arch).function("wraps").launch(1, 32, [out], mode=mode)
    assert out.tolist() == list(range(32))


@pytest.mark.parametrize("mode", MODES)
def test_generic_pointers_know_their_space(compiled, arch, mode):
    x, out = np.arange(8, dtype=np.float32), np.zeros((32, 3), np.int32)
    compiled(ADDRESSES, arch).function("spaces").launch(1, 32, [x, out], mode=mode)
    assert out.tolist() == [[1 + 8 * (t % 8), 2, 4] for t in range(32)]


CONSTANTS = """
__constant__ int table[4] = {1, 2, 3, 4};
__device__ int numbers[4];
struct Pair { int values[2]; };
extern "C" __global__ void constants(const int* x, int* out, const __grid_constant__ Pair pair) {
    const void* pointers[5] = {table, (const char*)table + 15, numbers, x, &pair};
    for (int i = 0; i < 5; ++i) {
        out[i] = __isConstant(pointers[i]) + 2 * __isGlobal(pointers[i]);
        out[i] += 4 * __isGridConstant(pointers[i]);
    }
}
extern "C" __global__ void clocks(int* out) {
    long long begin = clock64();
    while (clock64() - begin < 1000) {}
    out[0] = clock64() > begin;
}"""


@pytest.mark.parametrize("mode", MODES)
def test_generic_pointers_to_constants_and_parameters(compiled, arch, mode):
    x, out = np.zeros(1, np.int32), np.zeros(5, np.int32)
    pair = np.zeros(1, np.dtype([("values", "i4", 2)], align=True))[0]
    compiled(CONSTANTS, arch).function("constants").launch(1, 1, [x, out, pair], mode=mode)
    assert out.tolist() == [1, 1, 2, 2, 6]


@pytest.mark.parametrize("mode", MODES)
def test_clocks_go_on(compiled, mode):
    out = np.zeros(1, np.int32)
    compiled(CONSTANTS).function("clocks").launch(1, 1, [out], mode=mode)
    assert out[0] == 1


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
@pytest.mark.parametrize("mode", MODES)
def test_grids_and_blocks_of_three_dimensions(compiled, mode, order):
    out = np.zeros(2 * 3 * 4 * 5 * 2 * 3, np.uint32)
    compiled(ADDRESSES).function("dimensions").launch(
        (2, 3, 4), (5, 2, 3), [out], mode=mode, order=order
    )
    assert out.tolist() == list(range(out.size))


MANY = """
extern "C" __global__ void __launch_bounds__(1024) many(const int* x, int* out, int rounds) {
    __shared__ int a[1024];
    a[threadIdx.x] = x[blockIdx.x * 1024 + threadIdx.x];
    for (int k = 0; k < rounds; ++k) {
        __syncthreads();
        int v = a[(threadIdx.x + 1) & 1023];
        __syncthreads();
        a[threadIdx.x] = v;
    }
    out[blockIdx.x * 1024 + threadIdx.x] = a[threadIdx.x];
}"""


def test_large_blocks_on_all_processors(compiled):
    x = np.arange(64 * 1024, dtype=np.int32).reshape(64, 1024)
    for rounds in (0, 5, 100):
        out = np.zeros_like(x)
        compiled(MANY).function("many").launch(64, 1024, [x, out, np.int32(rounds)])
        assert (out == np.roll(x, -rounds, axis=1)).all()


WAITS = """
extern "C" __global__ void waits(int* out) {
    __shared__ int ready;
    if (threadIdx.x == 0) atomicExch(&ready, 0);
    __syncthreads();
    if (threadIdx.x == 0) {
        while (atomicAdd(&ready, 0) == 0) {}
        out[0] = 1;
    } else if (threadIdx.x == 40) {
        atomicExch(&ready, 1);
    }
}
extern "C" __global__ void for_ever(int* out, int n) { while (n) { n |= 1; atomicAdd(out, 1); } }
"""


@pytest.mark.parametrize("mode", MODES)
def test_thread_that_spins_until_another_has_come(compiled, mode):
    for order in ("forward", "reverse"):
        out = np.zeros(1, np.int32)
        compiled(WAITS).function("waits").launch(1, 64, [out], mode=mode, order=order)
        assert out[0] == 1


def test_interrupted(compiled):
    """Ctrl-C ends a launch that has no end, and is Python's again afterwards."""
    function = compiled(WAITS).function("for_ever")
    out = np.zeros(1, np.int32)
    function.launch(1, 1, [out, np.int32(0)])
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        function.launch(1, 1, [out, np.int32(1)])
    timer.join()
    function.launch(1, 1, [out, np.int32(0)])


def interrupted(function, x, timer):
    """Launch what takes longer than the timer, and looks at nothing before the block's end."""
    function.launch(1, 1024, [x, x.copy(), np.int32(2000)])
    timer.join()  # should it have been faster all the same


def test_an_interrupt_ends_no_launch_of_another_thread(compiled):
    """That one gets no KeyboardInterrupt, and would go on with results that are not whole."""
    numbers, many = compiled(ADDRESSES).function("dimensions"), compiled(MANY).function("many")
    out, x = np.zeros(1 << 23, np.uint32), np.zeros(1024, np.int32)
    numbers.launch(1, 1, [out])  # compiled before it counts
    many.launch(1, 1024, [x, x.copy(), np.int32(0)])
    other = threading.Thread(target=numbers.launch, args=(out.size, 1, [out]))
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    other.start()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        interrupted(many, x, timer)
    other.join()
    assert (out == np.arange(out.size)).all()
