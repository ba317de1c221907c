"""The race checker against the definition of happens-before, on random programs."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask.emulator import KernelError

pytestmark = pytest.mark.usefixtures("tools")

# Each thread does what its program says in a round, then synchronises as all do in this round.
INTERPRETER = """
enum { NOTHING, READ, WRITE, ATOMIC };
enum { NOT, BLOCK, WARP, HALF_WARP, NAMED };

template <class T>
__device__ void interpret(volatile T* cells, const int* programs, const int* rounds, int n,
                          int* out) {
    int sum = 0;
    for (int round = 0; round < n; ++round) {
        const int* step = programs + 2 * (round * blockDim.x + threadIdx.x);
        volatile T* cell = cells + step[1];
        if (step[0] == READ) sum += *cell;
        if (step[0] == WRITE) *cell = (T)round;
        if (step[0] == ATOMIC) atomicAdd((int*)((unsigned long long)cell & ~3ull), 1);
        if (rounds[round] == BLOCK) __syncthreads();
        if (rounds[round] == WARP) __syncwarp();
        if (rounds[round] == HALF_WARP) __syncwarp(threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u);
        if (rounds[round] == NAMED)
            if (threadIdx.x < 64) asm volatile("bar.sync 1, 64;" ::: "memory");
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

template <class T>
__device__ void in_shared(const int* programs, const int* rounds, int n, int* out) {
    __shared__ __align__(4) T cells[8];
    if (threadIdx.x < 8) cells[threadIdx.x] = 0;
    __syncthreads();
    interpret<T>(cells, programs, rounds, n, out);
}

#define KERNEL(name, T, what)                                                                  \\
    extern "C" __global__ void name(T* cells, const int* programs, const int* rounds, int n,    \\
                                    int* out) { what; }
KERNEL(shared_words, int, in_shared<int>(programs, rounds, n, out))
KERNEL(shared_bytes, int, in_shared<signed char>(programs, rounds, n, out))
KERNEL(global_words, int, interpret<int>(cells, programs, rounds, n, out))
KERNEL(global_bytes, signed char, interpret<signed char>(cells, programs, rounds, n, out))
KERNEL(bytes_of_words, int, interpret<signed char>((signed char*)cells, programs, rounds, n, out))
"""
READ, WRITE, ATOMIC = 1, 2, 3
NOT, BLOCK, WARP, HALF_WARP, NAMED = range(5)
THREADS = 96


def groups(kind: int) -> list[range]:
    """Return the threads that synchronise with one another."""
    size = {BLOCK: THREADS, WARP: 32, HALF_WARP: 16}.get(kind)
    if kind == NAMED:
        return [range(64)]
    return [range(i, i + size) for i in range(0, THREADS, size)] if size else []


def has_race(
    steps: dict[tuple[int, int], tuple[int, int]], rounds: list[int], bytes_: bool
) -> bool:
    """Tell whether two accesses conflict that nothing orders; steps are by round and thread."""
    # knows[t][u]: the rounds of thread u before this one come before what t does next.
    knows = np.zeros((THREADS, THREADS), int)
    done: list[tuple[int, int, int, set[int]]] = []
    for number, kind in enumerate(rounds):
        now = []
        for (round_, thread), (action, cell) in steps.items():
            if round_ != number:
                continue
            touched = {cell}
            if bytes_ and action == ATOMIC:  # of the whole word
                touched = set(range(cell // 4 * 4, cell // 4 * 4 + 4))
            now.append((number, thread, action, touched))
        for _, thread, action, touched in now:
            for round_, other, other_action, other_touched in done + now:
                if other == thread or not touched & other_touched:
                    continue
                if WRITE not in (action, other_action) and action == other_action:
                    continue
                if round_ >= knows[thread][other]:
                    return True
        done += now
        for group in groups(kind):
            members = list(group)
            joined = knows[members].max(axis=0)
            joined[members] = number + 1
            knows[members] = joined
    return False


@st.composite
def programs(draw):
    rounds = draw(
        st.lists(st.sampled_from([NOT, BLOCK, WARP, HALF_WARP, NAMED]), min_size=1, max_size=6)
    )
    # Few cells, and more reads than writes: many readers of what somebody writes at last.
    threads = st.sampled_from([0, 1, 15, 16, 17, 31, 32, 40, 63, 64, 80])
    places = st.tuples(st.integers(0, len(rounds) - 1), threads)
    actions = st.tuples(
        st.sampled_from([READ, READ, READ, READ, WRITE, ATOMIC]), st.sampled_from([0, 0, 0, 1, 4])
    )
    return rounds, draw(st.dictionaries(places, actions, min_size=2, max_size=10))


@given(
    programs(),
    st.sampled_from(
        ["shared_words", "shared_bytes", "global_words", "global_bytes", "bytes_of_words"]
    ),
    st.sampled_from(["forward", "reverse", "random"]),
    st.integers(0, 9),
)
def test_races_are_found_just_where_nothing_orders_accesses(compiled, program, kernel, order, seed):
    rounds, steps = program
    encoded = np.zeros((len(rounds), THREADS, 2), np.int32)
    for (round_, thread), step in steps.items():
        encoded[round_, thread] = step
    bytes_ = "bytes" in kernel
    cells = np.zeros(8, np.int8 if kernel == "global_bytes" else np.int32)
    out = np.zeros(THREADS, np.int32)
    arguments = [cells, encoded, np.array(rounds, np.int32), np.int32(len(rounds)), out]
    function = compiled(INTERPRETER).function(kernel)
    finding = pytest.raises(KernelError, match="race")
    with finding if has_race(steps, rounds, bytes_) else nullcontext():
        function.launch(1, THREADS, arguments, mode="check", order=order, seed=seed)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([READ, WRITE, ATOMIC]), st.integers(0, 3)),
        min_size=2,
        max_size=6,
    ),
    st.sampled_from(["forward", "reverse", "random"]),
)
def test_blocks_are_never_ordered(compiled, accesses, order):
    """Whatever barriers there are in each, and however many blocks lie between."""
    source = """
    extern "C" __global__ void blocks(int* cells, const int* steps, int n) {
        for (int i = 0; i < n; ++i) {
            const int* step = steps + 3 * i;
            if (step[0] == blockIdx.x && threadIdx.x == i % 32) {
                volatile int* cell = cells + step[2];
                if (step[1] == 1 && *cell < 0) cells[9] = 1;
                if (step[1] == 2) *cell = i;
                if (step[1] == 3) atomicAdd((int*)cell, 1);
            }
            __syncthreads();
        }
    }"""
    race = any(
        block != other and cell == other_cell and (action != other_action or action == WRITE)
        for block, action, cell in accesses
        for other, other_action, other_cell in accesses
    )
    steps = np.array(accesses, np.int32)
    arguments = [np.zeros(10, np.int32), steps, np.int32(len(steps))]
    function = compiled(source).function("blocks")
    finding = pytest.raises(KernelError, match=r"race .* by block")
    with finding if race else nullcontext():
        function.launch(3, 32, arguments, mode="check", order=order)
