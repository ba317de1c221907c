"""Shuffles, votes, barriers with a result, and atomics against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("tools")

ORDERS = st.sampled_from(["forward", "reverse", "random"])
WORDS = st.lists(st.integers(0, 2**32 - 1), min_size=32, max_size=32)

SHUFFLES = """
extern "C" __global__ void shuffles(const unsigned* x, int b, int width, unsigned mask, int* out) {
    unsigned lane = threadIdx.x;
    if (!(mask >> lane & 1)) return;
    int v = (int)x[lane];
    out[lane] = __shfl_sync(mask, v, b, width);
    out[32 + lane] = __shfl_up_sync(mask, v, b, width);
    out[64 + lane] = __shfl_down_sync(mask, v, b, width);
    out[96 + lane] = __shfl_xor_sync(mask, v, b, width);
    double wide = __shfl_sync(mask, (double)v + 0.5, b, width);
    out[128 + lane] = (int)(wide - 0.5);
}"""


def shuffled(values, mode, b, width):
    """Return what each lane gets, as the CUDA manual says, and from which lane."""
    result = []
    for lane in range(32):
        base, position = lane // width * width, lane % width
        if mode == "idx":
            source = base + b % width
        elif mode == "up":
            source = lane - b if position >= b else lane
        elif mode == "down":
            source = lane + b if position + b < width else lane
        else:
            source = lane ^ b
            if source // width > lane // width:
                source = lane
        result.append((values[source], source))
    return result


@given(WORDS, st.integers(0, 31), st.sampled_from([2, 4, 8, 16, 32]), ORDERS)
def test_shuffles(compiled, values, b, width, order):
    for arch in ("sm_75", "sm_90"):
        out = np.zeros((5, 32), np.int32)
        function = compiled(SHUFFLES, arch).function("shuffles")
        arguments = [
            np.array(values, np.uint32),
            np.int32(b),
            np.int32(width),
            np.uint32(2**32 - 1),
        ]
        function.launch(1, 32, [*arguments, out], mode="check", order=order)
        for row, mode in zip(out.view(np.uint32), ("idx", "up", "down", "xor", "idx"), strict=True):
            assert row.tolist() == [value for value, _ in shuffled(values, mode, b, width)]


@given(WORDS, st.integers(1, 2**32 - 1), st.integers(0, 31), ORDERS)
def test_shuffles_of_some_lanes(compiled, values, mask, b, order):
    """A lane that reads one that does not take part gets what no program may use."""
    out = np.zeros((5, 32), np.int32)
    arguments = [np.array(values, np.uint32), np.int32(b), np.int32(32), np.uint32(mask)]
    compiled(SHUFFLES).function("shuffles").launch(1, 32, [*arguments, out], order=order)
    for row, mode in zip(out.view(np.uint32), ("idx", "up", "down", "xor"), strict=False):
        for lane, (value, source) in enumerate(shuffled(values, mode, b, 32)):
            if mask >> lane & 1 and mask >> source & 1:
                assert row[lane] == value


VOTES = """
extern "C" __global__ void votes(const unsigned* x, unsigned* out) {
    unsigned lane = threadIdx.x, n = blockDim.x;
    unsigned mask = n == 32 ? 0xffffffffu : (1u << n) - 1;
    bool p = x[lane] & 1;
    out[lane] = __ballot_sync(mask, p);
    out[n + lane] = __any_sync(mask, p);
    out[2 * n + lane] = __all_sync(mask, p);
    out[3 * n + lane] = __uni_sync(mask, p);
    out[4 * n + lane] = __match_any_sync(mask, x[lane] & 3);
    int same;
    out[5 * n + lane] = __match_all_sync(mask, x[lane] & 3, &same);
    out[6 * n + lane] = same;
#if __CUDA_ARCH__ >= 800
    out[7 * n + lane] = __reduce_add_sync(mask, x[lane]);
    out[8 * n + lane] = __reduce_min_sync(mask, x[lane]);
    out[9 * n + lane] = __reduce_max_sync(mask, (int)x[lane]);
    out[10 * n + lane] = __reduce_xor_sync(mask, x[lane]);
    out[11 * n + lane] = __reduce_and_sync(mask, x[lane]);
    out[12 * n + lane] = __reduce_or_sync(mask, x[lane]);
#endif
    out[13 * n + lane] = (__activemask() >> lane & 1) && __popc(__activemask()) >= 1;
    out[14 * n + lane] = __syncthreads_count(p);
    out[15 * n + lane] = __syncthreads_and(p);
    out[16 * n + lane] = __syncthreads_or(p);
}"""


@given(WORDS, st.integers(1, 32), st.sampled_from([1, 2**32 - 1]), ORDERS)
def test_votes(compiled, values, lanes, keep, order):
    """Also where the block has fewer threads than a warp has lanes."""
    values = [v & keep for v in values[:lanes]]
    x = np.array(values, np.uint32)
    odd = [v & 1 for v in values]
    low = [v & 3 for v in values]
    everyone = (1 << lanes) - 1
    alike = all(v == low[0] for v in low)
    wanted = [
        [sum(bit << i for i, bit in enumerate(odd))] * lanes,
        [int(any(odd))] * lanes,
        [int(all(odd))] * lanes,
        [int(all(odd) or not any(odd))] * lanes,
        [sum((w == v) << i for i, w in enumerate(low)) for v in low],
        [everyone if alike else 0] * lanes,
        [int(alike)] * lanes,
        [sum(values) % 2**32] * lanes,
        [min(values)] * lanes,
        [int(x.view(np.int32).max()) % 2**32] * lanes,
        [int(np.bitwise_xor.reduce(x))] * lanes,
        [int(np.bitwise_and.reduce(x))] * lanes,
        [int(np.bitwise_or.reduce(x))] * lanes,
        [1] * lanes,
        [sum(odd)] * lanes,
        [int(all(odd))] * lanes,
        [int(any(odd))] * lanes,
    ]
    for arch in ("sm_75", "sm_90"):
        out = np.zeros((17, lanes), np.uint32)
        compiled(VOTES, arch).function("votes").launch(
            1, lanes, [x, out], mode="check", order=order
        )
        for i, (row, expected) in enumerate(zip(out.tolist(), wanted, strict=True)):
            if arch != "sm_75" or not 7 <= i <= 12:
                assert row == expected, i


ELECTION = """
extern "C" __global__ void election(unsigned* out) {
    unsigned lane = threadIdx.x, mask = lane < 8 ? 0xffu : 0xffffff00u, leads;
    asm volatile("{ .reg .pred p; .reg .b32 r; elect.sync r|p, %1; selp.b32 %0, 1, 0, p; }"
                 : "=r"(leads) : "r"(mask));
    out[lane] = leads;
}"""


def test_election(compiled):
    out = np.zeros(32, np.uint32)
    compiled(ELECTION).function("election").launch(1, 32, [out])
    assert np.flatnonzero(out).tolist() == [0, 8]


ATOMICS = """
extern "C" __global__ void atomics(const int* x, int* cells, unsigned long long* wide, float* sums,
                                   double* total, int* slots, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    __shared__ int local[2];
    if (threadIdx.x < 2) local[threadIdx.x] = 0;
    __syncthreads();
    if (i < n) {
        slots[atomicAdd(&cells[0], 1)] = i;
        atomicMin(&cells[1], x[i]);
        atomicMax(&cells[2], x[i]);
        atomicAnd((unsigned*)&cells[3], (unsigned)x[i]);
        atomicOr((unsigned*)&cells[4], (unsigned)x[i]);
        atomicXor((unsigned*)&cells[5], (unsigned)x[i]);
        atomicMax((unsigned*)&cells[6], (unsigned)x[i]);
        atomicInc((unsigned*)&cells[7], 6u);
        atomicSub(&cells[8], x[i]);
        int old = cells[9] * 0, seen;  // add by compare and swap
        do { seen = old; old = atomicCAS(&cells[10], seen, seen + x[i]); } while (old != seen);
        atomicAdd(&wide[0], (unsigned long long)(unsigned)x[i] << 20);
        atomicMax(&wide[1], (unsigned long long)(unsigned)x[i] << 20);
        atomicAdd(&sums[0], (float)(x[i] & 7));
        atomicAdd(total, (double)(x[i] & 15));
        atomicAdd(&local[0], 1);
        atomicExch(&local[1], 5);
    }
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(&cells[11], local[0] * 10 + local[1]);
}"""


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=200), ORDERS)
def test_atomics(compiled, values, order):
    x = np.array(values, np.int32)
    n, unsigned = len(x), x.view(np.uint32).astype(np.uint64)
    for mode in ("check", "fast"):
        for arch in ("sm_75", "sm_90"):
            cells = np.zeros(12, np.int32)
            cells[1], cells[2], cells[3] = 2**31 - 1, -(2**31), -1
            wide, sums, total = np.zeros(2, np.uint64), np.zeros(1, np.float32), np.zeros(1)
            slots = np.full(n, -1, np.int32)
            compiled(ATOMICS, arch).function("atomics").launch(
                -(-n // 64),
                64,
                [x, cells, wide, sums, total, slots, np.int32(n)],
                mode=mode,
                order=order,
            )
            assert sorted(slots) == list(range(n))
            wrapped = np.int32(
                x.sum(dtype=np.int64) % 2**32 - 2**32 * (x.sum(dtype=np.int64) % 2**32 >= 2**31)
            )
            with np.errstate(over="ignore"):
                wanted = [n, x.min(), x.max(), np.bitwise_and.reduce(x), np.bitwise_or.reduce(x)]
                wanted += [np.bitwise_xor.reduce(x), x.view(np.uint32).max().view(np.int32), n % 7]
                wanted += [-wrapped, 0, wrapped, 10 * n + 5 * -(-n // 64)]
            assert cells.tolist() == [int(w) for w in wanted]
            assert wide.tolist() == [int((unsigned << 20).sum()), int((unsigned << 20).max())]
            assert sums[0] == (x & 7).sum()
            assert total[0] == (x & 15).sum()


RETURNED = """
extern "C" __global__ void returned(const unsigned* x, unsigned* out, unsigned stay) {
    unsigned lane = threadIdx.x, mask = 0xffffffffu;
    if (!(stay >> lane & 1)) return;
    __syncwarp();
    out[lane] = __ballot_sync(mask, x[lane] & 1);
    out[32 + lane] = __any_sync(mask, x[lane] & 1);
    out[64 + lane] = __all_sync(mask, x[lane] & 1);
    out[96 + lane] = __uni_sync(mask, x[lane] & 1);
    out[128 + lane] = __match_any_sync(mask, x[lane] & 3);
    int same;
    out[160 + lane] = __match_all_sync(mask, x[lane] & 3, &same);
    out[192 + lane] = same;
    out[224 + lane] = __shfl_sync(mask, x[lane], __ffs(stay) - 1);
}"""


@given(WORDS, st.integers(1, 2**32 - 1), ORDERS)
def test_lanes_that_have_returned_are_legal_in_a_mask(compiled, values, stay, order):
    """They take no part: 'all non-exited threads named in mask' have to come (CUDA C++ Guide)."""
    lanes = [i for i in range(32) if stay >> i & 1]
    out = np.zeros((8, 32), np.uint32)
    arguments = [np.array(values, np.uint32), out, np.uint32(stay)]
    compiled(RETURNED).function("returned").launch(1, 32, arguments, mode="check", order=order)
    odd = {i: values[i] & 1 for i in lanes}
    low = {i: values[i] & 3 for i in lanes}
    alike = len(set(low.values())) == 1
    for i in lanes:
        assert out[:, i].tolist() == [
            sum(bit << j for j, bit in odd.items()),
            int(any(odd.values())),
            int(all(odd.values())),
            int(len(set(odd.values())) == 1),
            sum((v == low[i]) << j for j, v in low.items()),
            stay if alike else 0,
            int(alike),
            values[lanes[0]],
        ]
    assert not out[:, [i for i in range(32) if i not in lanes]].any()
