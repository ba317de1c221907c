// The innermost loops of convolutions and matrix products: a tile of results is kept in registers
// while products are added to it. `pixels` rows of A times a packed panel of B, `2 * lanes` wide.
#pragma once

#include <algorithm>
#include <type_traits>

#include "simd.h"

// A tile has 12 of AVX2's 16 registers (16 of AVX-512's and NEON's 32): what is left holds two
// vectors of B and one element of A; and 8 or more sums at a time hide the latency of an addition.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int tile_rows = 8;
#else
constexpr int tile_rows = 6;
#endif

template <class T>
constexpr int panel_width = 2 * lanes<T>;

// Tiles may be wider, and lower in return: 4 vectors take fewer loads for as many products, if the
// panel of B, twice as long, still is in the first cache.
constexpr int widest = 4;
constexpr int rows_of_tile(int vectors) { return vectors <= 2 ? tile_rows : 2 * tile_rows / vectors; }

// How many columns the packed panel that begins with `column` has: the last one has as many whole
// vectors as it needs.
template <class T>
inline long panel_columns(long column, long columns, long width = panel_width<T>) {
    return std::min((columns - column + lanes<T> - 1) / lanes<T> * lanes<T>, width);
}

// How wide panels of `depth` rows are: tiles read one over and over, wherefore it shall be in the
// first cache.
template <class T>
inline long width_of_panels(long depth) {
    constexpr long cache = 24 << 10;
    return depth * widest * vector_bytes <= cache ? widest * lanes<T> : panel_width<T>;
}

// How many elements `columns` columns of `depth` elements take when packed.
template <class T>
inline long packed_size(long depth, long columns) {
    return (columns + lanes<T> - 1) / lanes<T> * lanes<T> * depth;
}

// Where the elements of A lie that one row of the tile meets, in the order of the rows of B: `rows`
// times `taps` runs of `length` elements side by side.
struct Runs {
    long rows, row_step, taps, tap_step, length;

    // The same elements in as few and as long runs as possible.
    Runs merged() const {
        Runs r = *this;
        if (r.taps == 1 || r.tap_step == r.length) r = {r.rows, r.row_step, 1, 0, r.taps * r.length};
        if (r.taps == 1 && (r.rows == 1 || r.row_step == r.length))
            r = {1, 0, 1, 0, r.rows * r.length};
        return r;
    }

    long depth() const { return rows * taps * length; }
};

// A vector of a row that has `columns` more elements: a whole one, a part, or nothing.
template <class T>
inline Vector<T> load_columns(const T* p, long columns) {
    if (columns >= lanes<T>) return load(p);
    return columns > 0 ? load_some(p, columns) : Vector<T>{};
}

template <class T>
inline void store_columns(T* p, Vector<T> v, long columns) {
    if (columns >= lanes<T>)
        store(p, v);
    else if (columns > 0)
        store_some(p, v, columns);
}

// A row of a packed panel: `columns` elements, zeros behind them up to `width`, whole vectors.
template <class T>
inline void pack_row(const T* from, long columns, T* to, long width) {
    for (long v = 0; v < width; v += lanes<T>) store(to + v, load_columns(from + v, columns - v));
}

// Call f with a number of rows, from 1 to `most`, as a constant.
template <int most, class F>
__attribute__((always_inline)) inline void with_rows(long rows, F f) {
    if constexpr (most > 1)
        if (rows < most) return with_rows<most - 1>(rows, f);
    f(std::integral_constant<int, most>{});
}

// Call f with the number of vectors in a panel of this width as a constant, `most` at most.
template <class T, int most = 2, class F>
inline void with_panel(long width, F f) {
    with_rows<most>(width / lanes<T>, f);
}

// c[m, :columns] = initial + sum_k a[m, k] b[k, :] for M rows of A, `a_step` apart, NV vectors wide.
// `initial` is what c holds where `accumulate`, else `bias` (a packed panel), else 0. What c holds is
// added last: two short sums round less than a long one.
template <class T, int M, int NV>
__attribute__((always_inline)) inline void multiply_tile(const T* a, long a_step, const Runs& runs,
                                                         const T* b, const T* bias, bool accumulate,
                                                         T* c, long c_step, long columns) {
    constexpr int L = lanes<T>;
    Vector<T> sum[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) {
            sum[m][v] = bias && !accumulate ? load(bias + v * L) : Vector<T>{};
        }
    for (long row = 0; row < runs.rows; row++)
        for (long tap = 0; tap < runs.taps; tap++) {
            const T* run = a + row * runs.row_step + tap * runs.tap_step;
            for (long k = 0; k < runs.length; k++, b += NV * L) {
                Vector<T> bk[NV];
#pragma GCC unroll 4
                for (int v = 0; v < NV; v++) bk[v] = load(b + v * L);
#pragma GCC unroll 16
                for (int m = 0; m < M; m++) {
                    Vector<T> am = broadcast(run[m * a_step + k]);
#pragma GCC unroll 4
                    for (int v = 0; v < NV; v++) sum[m][v] += am * bk[v];
                }
            }
        }
    if (accumulate) {
#pragma GCC unroll 16
        for (int m = 0; m < M; m++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++)
                sum[m][v] += load_columns(c + m * c_step + v * L, columns - v * L);
    }
    if (columns >= NV * L) {  // asked once, not of each vector
#pragma GCC unroll 16
        for (int m = 0; m < M; m++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) store(c + m * c_step + v * L, sum[m][v]);
        return;
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < NV; v++) store_columns(c + m * c_step + v * L, sum[m][v], columns - v * L);
}

// Call f(m, first) for `count` rows, cut into tiles of about the same height: m, a constant, is that of
// the tile which begins with row `first`.
template <int most, class F>
__attribute__((always_inline)) inline void for_each_tile_of(long count, F f) {
    const long tiles = (count + most - 1) / most;
    const long least = tiles ? count / tiles : 0, higher = count - least * tiles;
    long first = 0;
    for (long t = 0; t < tiles; t++) {
        const long rows = least + (t < higher);
        with_rows<most>(rows, [&](auto m) { f(m, first); });
        first += rows;
    }
}

// multiply_tile for any number of rows.
template <class T, int NV>
inline void multiply_panel(long count, const T* a, long a_step, const Runs& runs, const T* b,
                           const T* bias, bool accumulate, T* c, long c_step, long columns) {
    for_each_tile_of<rows_of_tile(NV)>(count, [&](auto m, long first) {
        multiply_tile<T, m.value, NV>(a + first * a_step, a_step, runs, b, bias, accumulate,
                                      c + first * c_step, c_step, columns);
    });
}

// multiply_tile for rows of `depth` elements side by side, whose products are added `at_once` at a
// time. A function of its own: inlined, the compiler runs out of registers for addresses.
template <class T, int M, int NV>
__attribute__((noinline)) void multiply_long_tile(const T* a, long a_step, long depth, long at_once,
                                                  const T* b, const T* bias, bool accumulate, T* c,
                                                  long c_step, long columns) {
    do {
        const long some = std::min(at_once, depth);
        multiply_tile<T, M, NV>(a, a_step, {1, 0, 1, 0, some}, b, bias, accumulate, c, c_step,
                                columns);
        a += some, b += some * NV * lanes<T>, depth -= some;
        accumulate = true;
    } while (depth > 0);
}

// The same for any number of rows.
template <class T, int NV>
inline void multiply_long_panel(long count, const T* a, long a_step, long depth, long at_once,
                                const T* b, const T* bias, bool accumulate, T* c, long c_step,
                                long columns) {
    for_each_tile_of<rows_of_tile(NV)>(count, [&](auto m, long first) {
        multiply_long_tile<T, m.value, NV>(a + first * a_step, a_step, depth, at_once, b, bias,
                                           accumulate, c + first * c_step, c_step, columns);
    });
}

// c[m, :columns] = initial + sum_p a[p, m] b[p, :] for M columns of A side by side, over `rows` times
// `pixels` rows p of A; b is packed. What A's rows are apart is given, those of B follow on each
// other. `initial` is what c holds where `accumulate`, else 0, and added last.
template <class T, int M, int NV>
inline void multiply_transposed_tile(const T* a, long rows, long row_step, long pixels, long step,
                                     const T* b, bool accumulate, T* c, long c_step, long columns) {
    constexpr int L = lanes<T>;
    Vector<T> sum[M][NV];
    for (int m = 0; m < M; m++)
        for (int v = 0; v < NV; v++) sum[m][v] = Vector<T>{};
    for (long row = 0; row < rows; row++) {
        const T* pixel = a + row * row_step;
        for (long p = 0; p < pixels; p++, pixel += step, b += NV * L) {
            Vector<T> bp[NV];
            for (int v = 0; v < NV; v++) bp[v] = load(b + v * L);
#pragma GCC unroll 16
            for (int m = 0; m < M; m++) {
                Vector<T> am = broadcast(pixel[m]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; v++) sum[m][v] += am * bp[v];
            }
        }
    }
    if (accumulate)
        for (int m = 0; m < M; m++)
            for (int v = 0; v < NV; v++)
                sum[m][v] += load_columns(c + m * c_step + v * L, columns - v * L);
    for (int m = 0; m < M; m++)
        for (int v = 0; v < NV; v++) store_columns(c + m * c_step + v * L, sum[m][v], columns - v * L);
}

// The same for any number of columns of A.
template <class T, int NV>
inline void multiply_transposed(long count, const T* a, long rows, long row_step, long pixels,
                                long step, const T* b, bool accumulate, T* c, long c_step,
                                long columns) {
    for_each_tile_of<tile_rows>(count, [&](auto m, long first) {
        multiply_transposed_tile<T, m.value, NV>(a + first, rows, row_step, pixels, step, b,
                                                 accumulate, c + first * c_step, c_step, columns);
    });
}

// multiply_transposed_tile for `depth` rows of A, `step` apart, whose products are added `at_once` at
// a time.
template <class T, int M, int NV>
__attribute__((noinline)) void multiply_long_transposed_tile(const T* a, long depth, long at_once,
                                                             long step, const T* b, bool accumulate,
                                                             T* c, long c_step, long columns) {
    do {
        const long some = std::min(at_once, depth);
        multiply_transposed_tile<T, M, NV>(a, 1, 0, some, step, b, accumulate, c, c_step, columns);
        a += some * step, b += some * NV * lanes<T>, depth -= some;
        accumulate = true;
    } while (depth > 0);
}

// The same for any number of columns of A.
template <class T, int NV>
inline void multiply_long_transposed(long count, const T* a, long depth, long at_once, long step,
                                     const T* b, bool accumulate, T* c, long c_step, long columns) {
    for_each_tile_of<tile_rows>(count, [&](auto m, long first) {
        multiply_long_transposed_tile<T, m.value, NV>(a + first, depth, at_once, step, b, accumulate,
                                                      c + first * c_step, c_step, columns);
    });
}
