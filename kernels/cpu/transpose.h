// Copying a matrix so that its columns become rows, in blocks of as many vectors as one has lanes.
#pragma once

#include <algorithm>
#include <utility>

#include "simd.h"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)  // GCC from 12 on, Clang
#define CAN_SHUFFLE 1
#endif
#endif

// Exchange, of a square of 2 x 2 blocks of `half` lanes, the one at the top right with the one at the
// bottom left: a is a row at the top, b the same at the bottom.
template <class T, int half, size_t... lane>
inline void exchange(Vector<T>& a, Vector<T>& b, std::index_sequence<lane...>) {
    constexpr size_t L = lanes<T>, h = half;
#if defined(CAN_SHUFFLE)
    const Vector<T> top = __builtin_shufflevector(a, b, (lane & h ? L + lane - h : lane)...);
    const Vector<T> bottom = __builtin_shufflevector(a, b, (lane & h ? L + lane : lane + h)...);
#else
    const Vector<T> top = {(lane & h ? b[(lane - h) % L] : a[lane])...};
    const Vector<T> bottom = {(lane & h ? b[lane] : a[(lane + h) % L])...};
#endif
    a = top, b = bottom;
}

// Transpose a square of vectors: blocks of half its side are exchanged, then, in each, those of half
// theirs (Eklundh, 'A Fast Computer Method for Matrix Transposing', 1972).
template <class T, int half = lanes<T> / 2>
inline void transpose(Vector<T>* rows) {
#pragma GCC unroll 16
    for (int row = 0; row < lanes<T>; row++)
        if (!(row & half))
            exchange<T, half>(rows[row], rows[row + half], std::make_index_sequence<lanes<T>>{});
    if constexpr (half > 1) transpose<T, half / 2>(rows);
}

// to[column * to_step + row] = from[row * from_step + column]. Rows are taken by as many as fill a
// line of the copy.
template <class T>
inline void copy_transposed(const T* from, long from_step, long rows, long columns, T* to,
                            long to_step) {
    constexpr long L = lanes<T>, line = std::max<long>(64 / long(sizeof(T)), L);
    for (long first = 0; first < rows; first += line) {
        const long last = std::min(first + line, rows);
        long column = 0;
        for (; column + L <= columns; column += L) {
            long row = first;
            for (; row + L <= last; row += L) {
                Vector<T> block[L];
#pragma GCC unroll 16
                for (long k = 0; k < L; k++) block[k] = load(from + (row + k) * from_step + column);
                transpose<T>(block);
#pragma GCC unroll 16
                for (long k = 0; k < L; k++) store(to + (column + k) * to_step + row, block[k]);
            }
            for (; row < last; row++)
                for (long k = column; k < column + L; k++)
                    to[k * to_step + row] = from[row * from_step + k];
        }
        for (; column < columns; column++)
            for (long row = first; row < last; row++)
                to[column * to_step + row] = from[row * from_step + column];
    }
}
