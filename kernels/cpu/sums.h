// Sums of columns: of the terms of many rows for each element of a row, in an order that depends on their
// number alone. Terms are added one by one in groups, and the groups one by one: a sum of n terms in a
// single chain would err by up to n / 2 roundings.
//
// Several vectors of a row are added up at a time, since each addition waits for the one before it in
// its chain, and a vector addition takes four cycles.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "simd.h"

constexpr long sum_group = 16;              // terms in a group
constexpr long sum_block = 16 * sum_group;  // terms whose sum is kept in single precision

// The sums of `count` vectors of columns from i on, see below.
template <class T, int count, size_t N, class Term, class Get, class Put>
inline void sum_vectors(long i, long begin, long end, long step, Term term, Get get, Put put,
                        const std::array<T*, N>& sums) {
    Vector<T> sum[count][N] = {};
    for (long first = begin; first < end; first += sum_group * step) {
        Vector<T> part[count][N] = {};
        for (long k = first; k < std::min(end, first + sum_group * step); k += step)
            for (int v = 0; v < count; v++) {
                const std::array<Vector<T>, N> found = term(k, i + v * lanes<T>, get);
                for (size_t n = 0; n < N; n++) part[v][n] += found[n];
            }
        for (int v = 0; v < count; v++)
            for (size_t n = 0; n < N; n++) sum[v][n] += part[v][n];
    }
    for (int v = 0; v < count; v++)
        for (size_t n = 0; n < N; n++) put(sums[n] + i + v * lanes<T>, sum[v][n]);
}

// sums[n][i] = the sum of term(k, i, get)[n] for k = begin, begin + step, ... below end, for the columns
// i in [0, columns). term gives N vectors, those of the columns from i on; it loads with get.
template <class T, size_t N, class Term>
inline void sum_columns(long columns, long begin, long end, long step, Term term,
                        const std::array<T*, N>& sums) {
    constexpr int count = 4;
    long first = 0;
    for (; first + count * lanes<T> <= columns; first += count * lanes<T>)
        sum_vectors<T, count>(
            first, begin, end, step, term, [](const T* p) { return load(p); },
            [](T* p, Vector<T> v) { store(p, v); }, sums);
    for_each_vector<T>(columns - first, [=](long i, auto get, auto put) {
        sum_vectors<T, 1>(first + i, begin, end, step, term, get, put, sums);
    });
}
