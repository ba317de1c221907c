"""Count mode: instructions, sectors and bank conflicts of kernels that can be counted by hand."""

import json

import numpy as np
import pytest

from tinygrad_mask.emulator.counts import Traffic

pytestmark = pytest.mark.usefixtures("tools")

SOURCE = """
#define KERNEL extern "C" __global__ void
KERNEL axpy(const float* __restrict__ x, const float* __restrict__ y, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float a = x[i];
    float b = y[i];
    float r = fmaf(a, 3.0f, b);
    r = r * a;
    out[i] = r;
}
KERNEL strided(const float* __restrict__ x, float* out, int stride) {
    out[threadIdx.x] = x[threadIdx.x * stride];
}
KERNEL vectors(const float4* __restrict__ x, float4* out) { out[threadIdx.x] = x[threadIdx.x]; }
KERNEL banks(float* out, int stride) {
    __shared__ float tile[32 * 33];
    for (int i = threadIdx.x; i < 32 * 33; i += 32) tile[i] = i;
    __syncthreads();
    out[threadIdx.x] =
        tile[threadIdx.x * stride];
}
KERNEL wide_banks(float4* out, int stride) {
    __shared__ float4 tile[256];
    for (int i = threadIdx.x; i < 256; i += 32) tile[i] = make_float4(i, i, i, i);
    __syncthreads();
    out[threadIdx.x] =
        tile[threadIdx.x * stride % 256];
}
KERNEL loops(const float* __restrict__ x, float* out, int n) {
    float sum = 0;
#pragma unroll 1
    for (int i = threadIdx.x; i < n; i += 32)
        sum += x[i];
    out[threadIdx.x] = sum;
}
KERNEL counter(int* cells) { atomicAdd(cells, 1); }
KERNEL copies(const float* x, float* out, int n) {
    __shared__ __align__(16) float a[128];
    int used = min(max(n - 4 * (int)threadIdx.x, 0), 4) * 4;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
        (unsigned)__cvta_generic_to_shared(a + 4 * threadIdx.x)),
        "l"(x + (used ? 4 * threadIdx.x : 0)), "r"(used));
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[threadIdx.x] = a[4 * threadIdx.x];
}
"""


def line_of(text: str) -> int:
    lines = [i for i, line in enumerate(SOURCE.splitlines(), 1) if line.strip().startswith(text)]
    assert len(lines) >= 1
    return lines[-1]


def count(compiled, name, grid, block, arguments):
    function = compiled(SOURCE).function(name)
    counts = function.launch(grid, block, arguments, mode="count")
    assert json.loads(json.dumps(counts.to_json()))["threads"] == counts.threads
    return counts, {line.line: line for line in counts.lines}


def test_axpy(compiled):
    x, y, out = np.ones(100, np.float32), np.ones(100, np.float32), np.zeros(100, np.float32)
    counts, lines = count(compiled, "axpy", 2, 64, [x, y, out, np.int32(100)])
    assert (out == 4).all()
    assert counts.threads == 128
    assert counts.instructions["fma.f32"] == 100
    assert counts.instructions["f32"] == 100
    assert counts.instructions["load.global.32"] == 200
    assert counts.instructions["store.global.32"] == 100
    assert lines[line_of("float r = fmaf")].instructions["fma.f32"] == 100
    assert lines[line_of("r = r * a")].instructions == {"f32": 100}
    # Three warps of 32 threads and one of 4, which needs a sector no more than half used.
    assert lines[line_of("float a =")].traffic == {"global.load": Traffic(4, 400, 13, 13)}
    assert counts.traffic["global.load"] == Traffic(8, 800, 26, 26)
    assert counts.traffic["global.store"] == Traffic(4, 400, 13, 13)
    assert (counts.sectors_read, counts.sectors_written) == (26, 13)


@pytest.mark.parametrize(("stride", "moved"), [(0, 1), (1, 4), (2, 8), (8, 32), (9, 32)])
def test_sectors(compiled, stride, moved):
    x, out = np.zeros(32 * 9, np.float32), np.zeros(32, np.float32)
    counts, _ = count(compiled, "strided", 1, 32, [x, out, np.int32(stride)])
    assert counts.traffic["global.load"] == Traffic(1, 128, moved, 4 if stride else 1)
    assert counts.traffic["global.load"].ratio == (moved / 4 if stride else 1)


def test_sectors_of_vectors(compiled):
    x, out = np.zeros((32, 4), np.float32), np.zeros((32, 4), np.float32)
    counts, _ = count(compiled, "vectors", 1, 32, [x, out])
    assert counts.traffic["global.load"] == Traffic(1, 512, 16, 16)
    assert counts.instructions["load.global.128"] == 32


def test_sectors_of_a_view_that_begins_within_a_sector(compiled):
    base, out = np.zeros(33, np.float32), np.zeros(32, np.float32)
    counts, _ = count(compiled, "strided", 1, 32, [base[1:], out, np.int32(1)])
    assert counts.traffic["global.load"] == Traffic(1, 128, 5, 4)


@pytest.mark.parametrize(
    ("stride", "passes"), [(0, 1), (1, 1), (2, 2), (16, 16), (32, 32), (33, 1)]
)
def test_bank_conflicts(compiled, stride, passes):
    out = np.zeros(32, np.float32)
    _, lines = count(compiled, "banks", 1, 32, [out, np.int32(stride)])
    assert out.tolist() == [t * stride for t in range(32)]
    line = lines[line_of("tile[threadIdx.x * stride];")]
    assert line.traffic["shared.load"] == Traffic(1, 128, passes, 1)


@pytest.mark.parametrize(("stride", "passes"), [(1, 4), (2, 8), (8, 32), (0, 4), (9, 4)])
def test_bank_conflicts_of_wide_accesses(compiled, stride, passes):
    out = np.zeros((32, 4), np.float32)
    _, lines = count(compiled, "wide_banks", 1, 32, [out, np.int32(stride)])
    line = lines[line_of("tile[threadIdx.x * stride % 256];")]
    assert line.traffic["shared.load"] == Traffic(1, 512, passes, 4)


@pytest.mark.parametrize("n", [1, 32, 33, 1000, 100_000])
def test_lanes_of_a_loop_go_together(compiled, n):
    """However long it is, and though some lanes leave it earlier."""
    x, out = np.ones(n, np.float32), np.zeros(32, np.float32)
    counts, _ = count(compiled, "loops", 1, 32, [x, out, np.int32(n)])
    assert out.sum() == n
    requests = -(-n // 32)
    assert counts.traffic["global.load"] == Traffic(requests, 4 * n, -(-n // 8), -(-n // 8))


def test_atomics(compiled):
    cells = np.zeros(1, np.int32)
    counts, _ = count(compiled, "counter", 2, 64, [cells])
    assert cells[0] == 128
    kinds = counts.instructions
    assert kinds["atomic.global.32"] == 128
    assert counts.traffic["global.atomic"] == Traffic(4, 512, 4, 4)
    assert (counts.sectors_read, counts.sectors_written) == (1, 1)


@pytest.mark.parametrize("n", [0, 1, 64, 127, 128])
def test_copies_count_what_they_read(compiled, n):
    """Zeros that fill up cost no traffic in global memory."""
    x, out = np.ones(128, np.float32), np.zeros(32, np.float32)
    counts, _ = count(compiled, "copies", 1, 32, [x, out, np.int32(n)])
    sectors = -(-n // 8)
    wanted = Traffic(1, 4 * n, sectors, sectors) if n else None
    assert counts.traffic.get("global.load") == wanted
    assert counts.traffic["shared.store"] == Traffic(1, 512, 4, 4)
    assert counts.sectors_read == sectors
    assert counts.instructions["copy.128"] == 32
