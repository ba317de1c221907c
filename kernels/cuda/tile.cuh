// A matrix product by tiles, C = A B: what convolutions, their gradients, linear maps and matmul
// have in common. Those differ in where the elements of A and B lie, which the loaders know.
//
// A block of threads computes one tile of C, `rows` x `columns`. It walks along k a slice of 8 at a
// time: copy a slice of A and one of B into shared memory, then multiply them. Both slices lie there
// with k outermost, however they lay in global memory:
//
//                            k ┌───────────────┐  slice of B: 8 x columns
//                              └───────────────┘
//              k               ┌───┬───┬───┬───┐
//            ┌───┐             │   │   │   │   │  tile of C, in registers: each warp has a part,
//            │   │             ├───┼───┼───┼───┤  and of that each thread 8 x 8 elements (in the
//   slice of │   │             │   │   │ t │   │  largest tile 16 x 8). For every k the thread t
//   A, rows  │   │             ├───┼───┼───┼───┤  reads 8 elements of A's slice and 8 of B's, in
//   x 8      └───┘             └───┴───┴───┴───┘  four accesses, and multiplies them 64 times.
//
// Each element of A thus comes once from global memory and is used `columns` times, each of B `rows`
// times: the larger the tile, the less there is to load. The more elements a thread has, the less of
// the instructions are other than multiplications; registers are the limit to that.
//
// The memory for slices is twofold: while one is multiplied the next one is on its way. From sm_80
// on, copies that leave the elements as they are (cp.async) need no registers; everything else is
// loaded into registers before the multiplication and stored to shared memory after it.
//
// Within a warp, lane l is in row l / lane_columns and column l % lane_columns of a little grid. The
// 8 columns of a thread are two packs of 4, a grid's width apart, so that lanes side by side read
// packs side by side: all 32 banks of the shared memory at once, never the same twice.
//
//      lane 0   lane 1   lane 2  ...  lane 7 | lane 0   lane 1  ...          columns of a warp (64)
//     0 1 2 3  4 5 6 7  8 9 ..               | 32 33 34 35  36 37 ..
//
// Every sum, or part of one that was cut, is over k in rising order: whichever of the tiles a product
// gets, it has the same bits.
#pragma once

#include "activation.cuh"
#include "common.cuh"

enum { SLICE = 8 };  // how many k are copied and multiplied at a time

template <class T, int Rows, int Columns, int ThreadRows, int ThreadColumns, int BlocksAtOnce>
struct Tile {
    typedef T type;
    enum {
        rows = Rows,
        columns = Columns,
        thread_rows = ThreadRows,  // how many rows and columns of C a thread has
        thread_columns = ThreadColumns,
        threads = Rows / ThreadRows * (Columns / ThreadColumns),
        lane_columns = Columns / ThreadColumns < 8 ? Columns / ThreadColumns : 8,
        lane_rows = 32 / lane_columns,
        warp_rows = lane_rows * ThreadRows,
        warp_columns = lane_columns * ThreadColumns,
        // The compiler may use as many registers as let so many blocks run on a multiprocessor.
        blocks_at_once = BlocksAtOnce,
        // Behind each line of a slice, so that lines begin in different banks.
        padding = 16 / sizeof(T),
        a_width = Rows + padding,
        b_width = Columns + padding,
        is_strip = false,
    };
};

// A tile for matrices of a few columns only. With so few, A's elements are used too seldom for it to
// pay to share them: a thread multiplies what it has loaded, 4 of the 8 k's of a slice in several
// rows, with all columns of B; its neighbour has the other 4, and in the end they add up their sums.
// (So here the order of the sums is another one.)
template <class T, int Threads, int ThreadRows, int BlocksAtOnce>
struct Strip {
    typedef T type;
    enum {
        rows = Threads / 2 * ThreadRows,
        columns = 8,
        thread_rows = ThreadRows,
        thread_columns = 8,
        threads = Threads,
        blocks_at_once = BlocksAtOnce,
        a_width = 1,  // A's slices are in registers
        b_width = columns + 16 / sizeof(T),
        is_strip = true,
    };
};

// A slice of A and one of B.
template <class Tile>
struct alignas(16) Slices {
    typename Tile::type a[SLICE][Tile::a_width];
    alignas(16) typename Tile::type b[SLICE][Tile::b_width];
};

// Where in the tile the elements of this thread are. `row(i)` is the row of its i-th, `column(j)`
// likewise; packs of them are side by side.
template <class Tile>
struct Place {
    enum { pack = 16 / sizeof(typename Tile::type) };
    int first_row, first_column;

    __device__ __forceinline__ Place() {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const int warps_across = Tile::columns / Tile::warp_columns;
        first_row = warp / warps_across * Tile::warp_rows + lane / Tile::lane_columns * pack;
        first_column = warp % warps_across * Tile::warp_columns + lane % Tile::lane_columns * pack;
    }
    __device__ __forceinline__ int row(int i) const {
        return first_row + i / pack * (Tile::lane_rows * pack) + i % pack;
    }
    __device__ __forceinline__ int column(int j) const {
        return first_column + j / pack * (Tile::lane_columns * pack) + j % pack;
    }
    __device__ __forceinline__ bool has(int) const { return true; }
};

template <class T, int Threads, int ThreadRows, int BlocksAtOnce>
struct Place<Strip<T, Threads, ThreadRows, BlocksAtOnce>> {
    __device__ __forceinline__ int row(int i) const { return threadIdx.x / 2 + i * (Threads / 2); }
    __device__ __forceinline__ int column(int j) const { return j; }
    // Of the sums that both neighbours have, each stores those of every other row.
    __device__ __forceinline__ bool has(int i) const { return (threadIdx.x + i) % 2 == 0; }
};

// --- copying without registers -------------------------------------------------------------------

#if __CUDA_ARCH__ >= 800

// Start a copy of N elements to shared memory; zeros where not `valid`, and nothing is read.
template <int N, class T>
__device__ __forceinline__ void start_copy(T* shared, const T* global, bool valid) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int bytes = valid ? N * sizeof(T) : 0;
    if constexpr (N * sizeof(T) == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :: "r"(to), "l"(global), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     :: "r"(to), "l"(global), "n"(N * sizeof(T)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#else

__device__ __forceinline__ void await_copies() {}

#endif

// `Count` copies of N elements each from global to shared memory, `begin` and `finish` around what
// is to be done in the meantime.
template <class T, int N, int Count>
struct Copies {
#if __CUDA_ARCH__ >= 800
    __device__ __forceinline__ void begin(int, T* shared, const T* global, bool valid) {
        start_copy<N>(shared, global, valid);
    }
    __device__ __forceinline__ void finish(int, T*) {}
#else
    Pack<T, N> held[Count];

    __device__ __forceinline__ void begin(int copy, T*, const T* global, bool valid) {
        held[copy] = valid ? load_pack<N>(global) : Pack<T, N>{};
    }
    __device__ __forceinline__ void finish(int copy, T* shared) { store_pack(shared, held[copy]); }
#endif
};

// --- who copies what -----------------------------------------------------------------------------

// An operand whose elements lie side by side along the tile's side (of `Side` elements), in packs of
// N. A thread copies some packs of one line of the slice, or of several; threads side by side, packs
// side by side, so that a warp reads and writes whole stretches of memory.
template <class Tile, int Side, int N>
struct Across {
    enum {
        // Eight packs of 128 bits, or 32 single elements, keep all banks busy.
        least = Tile::threads / SLICE > 32 / N ? Tile::threads / SLICE : 32 / N,
        threads_across = Side / N < least ? Side / N : least,
        lines = Tile::threads / threads_across,  // that are copied at a time
        line_copies = SLICE / lines,
        column_copies = Side / N / threads_across,
    };
    static_assert(Side % (N * threads_across) == 0 && SLICE % lines == 0, "all threads take part");

    static __device__ __forceinline__ int line(int copy) {
        return threadIdx.x / threads_across + copy * lines;
    }
    static __device__ __forceinline__ int column(int copy) {
        return threadIdx.x % threads_across * N + copy * threads_across * N;
    }
};

// An operand whose elements lie side by side along k: a thread copies packs of N of them, of several
// rows of the tile, all at the same k. In shared memory they come to lie one under the other. (A
// warp writes 8 / N packs of each of 4 N rows; thanks to the padding, into 32 different banks.)
template <class Tile, int Side, int N>
struct Along {
    enum {
        threads_along = SLICE / N,
        together = Tile::threads / threads_along,  // rows that are copied at a time
        copies = (Side + together - 1) / together,
    };

    static __device__ __forceinline__ int line() { return threadIdx.x % threads_along * N; }
    static __device__ __forceinline__ int row(int copy) {
        return threadIdx.x / threads_along + copy * together;
    }
    static __device__ __forceinline__ bool exists(int copy) {
        return Side % together == 0 || row(copy) < Side;
    }
};

// --- multiplying ---------------------------------------------------------------------------------

template <class T, int Count, int LaneStep>
__device__ __forceinline__ void read_line(const T* line, T (&values)[Count]) {
    constexpr int N = Pack<T>::size;
#pragma unroll
    for (int g = 0; g < Count / N; g++) {
        const Pack<T> pack = load_pack(line + g * LaneStep * N);
#pragma unroll
        for (int e = 0; e < N; e++) values[g * N + e] = pack[e];
    }
}

template <class Tile>
using Sums = typename Tile::type[Tile::thread_rows][Tile::thread_columns];

// sum[i][j] += sum over a slice of a[k][row(i)] * b[k][column(j)].
template <class Tile, class T, int WidthA, int WidthB>
__device__ __forceinline__ void multiply_slice(const T (*a)[WidthA], const T (*b)[WidthB],
                                               const Place<Tile>& place, Sums<Tile>& sum) {
#pragma unroll
    for (int k = 0; k < SLICE; k++) {
        T ak[Tile::thread_rows], bk[Tile::thread_columns];
        read_line<T, Tile::thread_rows, Tile::lane_rows>(&a[k][place.first_row], ak);
        read_line<T, Tile::thread_columns, Tile::lane_columns>(&b[k][place.first_column], bk);
#pragma unroll
        for (int i = 0; i < Tile::thread_rows; i++)
#pragma unroll
            for (int j = 0; j < Tile::thread_columns; j++) sum[i][j] += ak[i] * bk[j];
    }
}

// The same for a strip, of which this thread has its rows' values at 4 k's.
template <class Strip, class T, int WidthB>
__device__ __forceinline__ void multiply_strip(const T (&a)[Strip::thread_rows][4],
                                               const T (*b)[WidthB], Sums<Strip>& sum) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
        T bk[Strip::thread_columns];
        read_line<T, Strip::thread_columns, 1>(&b[threadIdx.x % 2 * 4 + e][0], bk);
#pragma unroll
        for (int i = 0; i < Strip::thread_rows; i++)
#pragma unroll
            for (int j = 0; j < Strip::thread_columns; j++) sum[i][j] += a[i][e] * bk[j];
    }
}

// The tile's sums over `slices` slices. Of a loader, `begin` starts to copy the next slice and goes
// on to the one after it, `finish` writes to shared memory what `begin` left in registers. Beyond
// the last k loaders yield zeros and read nothing. (B's begins first: it may go by where A's is.)
template <class Tile, class LoaderA, class LoaderB>
__device__ __forceinline__ void multiply(LoaderA& a, LoaderB& b, int slices,
                                         Slices<Tile> (&memory)[2], Sums<Tile>& sum) {
    typedef typename Tile::type T;
    const Place<Tile> place;
#pragma unroll
    for (int i = 0; i < Tile::thread_rows; i++)
#pragma unroll
        for (int j = 0; j < Tile::thread_columns; j++) sum[i][j] = 0;

    b.begin(memory[0].b);
    a.begin(memory[0].a);
    if (!Tile::is_strip) a.finish(memory[0].a);
    b.finish(memory[0].b);
    await_copies();
    __syncthreads();
#pragma unroll 1
    for (int s = 0; s < slices; s++) {
        Slices<Tile>&now = memory[s % 2], &next = memory[1 - s % 2];
        if constexpr (Tile::is_strip) {
            T values[Tile::thread_rows][4];
#pragma unroll
            for (int i = 0; i < Tile::thread_rows; i++) {
                const Pack<T, 4> pack = a.get(i);
#pragma unroll
                for (int e = 0; e < 4; e++) values[i][e] = pack[e];
            }
            b.begin(next.b);
            a.begin(next.a);
            multiply_strip<Tile>(values, now.b, sum);
        } else {
            b.begin(next.b);
            a.begin(next.a);
            multiply_slice<Tile>(now.a, now.b, place, sum);
            a.finish(next.a);
        }
        b.finish(next.b);
        await_copies();
        __syncthreads();  // the next slice is there, and nobody reads this one any more
    }
    if constexpr (Tile::is_strip)
#pragma unroll
        for (int i = 0; i < Tile::thread_rows; i++)
#pragma unroll
            for (int j = 0; j < Tile::thread_columns; j++)
                sum[i][j] += __shfl_xor_sync(0xffffffff, sum[i][j], 1);
}

// --- the result ----------------------------------------------------------------------------------

// Write f(sum + bias). `line(row)` is where the tile's first element in that row goes, null where
// the matrix has no such row; `columns` is how many columns are left of the matrix; `bias` may be
// null. N elements go at a time.
//
// Registers cannot be counted through in a loop, and with the loop over rows unrolled the code of
// the activation would be there once for every element. So the rows are shifted up one by one.
template <class Tile, int N, class T, class Line>
__device__ __forceinline__ void store_tile(Sums<Tile>& sum, int columns, const T* bias,
                                           Activation activation, Line line) {
    const Place<Tile> place;
    T added[Tile::thread_columns];
#pragma unroll
    for (int j = 0; j < Tile::thread_columns; j++)
        added[j] = bias && place.column(j) < columns ? bias[place.column(j)] : T(0);
#pragma unroll 1
    for (int i = 0; i < Tile::thread_rows; i++) {
        if (T* to = place.has(i) ? line(place.row(i)) : nullptr) {
#pragma unroll
            for (int j = 0; j < Tile::thread_columns; j += N) {
                if (place.column(j) >= columns) continue;
                Pack<T, N> pack;
#pragma unroll
                for (int e = 0; e < N; e++)
                    pack[e] = activate(activation, sum[0][j + e] + added[j + e]);
                store_pack(to + place.column(j), pack);
            }
        }
#pragma unroll
        for (int r = 0; r + 1 < Tile::thread_rows; r++)
#pragma unroll
            for (int j = 0; j < Tile::thread_columns; j++) sum[r][j] = sum[r + 1][j];
    }
}

// --- the grid ------------------------------------------------------------------------------------

// Which tile of which matrix this block computes. It is needed before the multiplication and again
// after it; so as not to take registers in the meantime it waits in shared memory.
struct BlockTile {
    int row, column;  // the tile's first
    int matrix;

    // Of matrices of `rows` x `columns`. Blocks are numbered with columns innermost, so that those
    // who read the same rows of A run at about the same time and find them in the cache. All threads
    // call this, and meet at its end.
    template <class Tile>
    __device__ __forceinline__ void find(int rows, int columns) {
        if (threadIdx.x == 0) {
            const int across = max(1, ceil_div(columns, Tile::columns));
            const int down = max(1, ceil_div(rows, Tile::rows));
            const int line = blockIdx.x / across;
            column = (blockIdx.x - line * across) * Tile::columns;
            matrix = line / down;
            row = (line - matrix * down) * Tile::rows;
        }
        __syncthreads();
    }
};
