#include "reduction.h"

#include <algorithm>

#include "channels.h"
#include "parallel.h"
#include "scratch.h"
#include "sums.h"

namespace {

constexpr long chunk = 1024;  // columns: their sums stay in the L1 cache

// out[i] = the sum of up to `sum_block` rows, `row_step` apart, in `columns` columns; groups
// of rows are added in pairs of pairs.
template <class T>
void add_block(const T* x, long rows, long row_step, long columns, T* out) {
    for_each_channels<T>(columns, [=](long i, auto count) { put(out + i, Vector<T>{}, count); });
    long row = 0;
    for (; row + sum_group <= rows; row += sum_group) {
        const T* first = x + row * row_step;
        for_each_channels<T>(columns, [=](long i, auto count) {
            Vector<T> sums[sum_group];
#pragma GCC unroll 16
            for (long k = 0; k < sum_group; k++) sums[k] = get(first + k * row_step + i, count);
#pragma GCC unroll 4
            for (long half = sum_group / 2; half > 0; half /= 2)
#pragma GCC unroll 8
                for (long k = 0; k < half; k++) sums[k] += sums[k + half];
            put(out + i, get(out + i, count) + sums[0], count);
        });
    }
    for (; row < rows; row++) {
        const T* from = x + row * row_step;
        for_each_channels<T>(columns, [=](long i, auto count) {
            put(out + i, get(out + i, count) + get(from + i, count), count);
        });
    }
}

}  // namespace

template <class T>
void sum_axis(long outer, long reduced, long inner, const T* x, T* y) {
    if (outer * inner == 0) return;
    // Short rows are taken several at a time, as one long row: whole vectors of it are added, and at
    // the end its parts. With `inner` 1 these are the sums of contiguous elements.
    constexpr long least_width = 8 * lanes<T>;
    const long fold = std::clamp<long>(least_width / inner, 1, std::max<long>(reduced, 1));
    const long width = fold * inner, rows = reduced / fold;
    const long blocks = std::max<long>((rows + sum_block - 1) / sum_block, 1);
    const long chunks = (width + chunk - 1) / chunk;
    Scratch<T> sums(outer * blocks * width);
    const long elements = std::min(rows, sum_block) * std::min(width, chunk);  // of a task
    for_each_range(outer * blocks * chunks, 1 + (1 << 15) / (elements + 1), [&](long begin, long end) {
        for (long task = begin; task < end; task++) {
            const long o = task / (blocks * chunks), k = task / chunks % blocks;
            const long first = k * sum_block, column = task % chunks * chunk;
            add_block<T>(x + (o * reduced + first * fold) * inner + column,
                         std::min(sum_block, rows - first), width, std::min(chunk, width - column),
                         sums + (o * blocks + k) * width + column);
        }
    });
    for_each_range(outer * inner, 1 + (1 << 13) / (blocks * fold + 1), [&](long begin, long end) {
        for (long to = begin; to < end; to++) {
            const long o = to / inner, i = to % inner;
            double sum = 0;
            for (long k = 0; k < blocks * fold; k++)
                sum += double(sums[o * blocks * width + k * inner + i]);
            for (long row = rows * fold; row < reduced; row++)
                sum += double(x[(o * reduced + row) * inner + i]);
            y[to] = T(sum);
        }
    });
}

template void sum_axis<float>(long, long, long, const float*, float*);
template void sum_axis<double>(long, long, long, const double*, double*);
