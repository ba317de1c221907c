// Matrix products in blocks that fit the caches (Goto and van de Geijn, 'Anatomy of High-Performance
// Matrix Multiplication', 2008), with the tiles of the convolutions. NumPy's BLAS does as well by
// itself, but its threads, waiting for more to do, take the processors from ours.

#include "matmul.h"

#include "parallel.h"
#include "scratch.h"
#include "tile.h"
#include "transpose.h"

namespace {

// A block of B is 256 rows of up to 16 panels: one panel, 16 KiB, stays in the first cache while all
// rows of A's block go past it, the rest in the second.
constexpr long block_depth = 256;
constexpr long block_panels = 16;
constexpr long block_rows = 40 * tile_rows;

// Rows [first, first + depth) of b as packed panels of the columns [begin, end): row by row, since
// they lie side by side in memory. Zeros where there are no more columns.
template <class T>
void pack_rows(const T* b, long n, long first, long depth, long begin, long end, T* packed) {
    for (long i = 0; i < depth; i++) {
        const T* row = b + (first + i) * n;
        for (long column = begin; column < end; column += panel_width<T>) {
            const long width = panel_columns<T>(column, n);
            pack_row(row + column, n - column, packed + (column - begin) * depth + i * width, width);
        }
    }
}

// The same of b laid out as (n, k): its rows are the columns of the panels.
template <class T>
void pack_columns(const T* b, long n, long k, long first, long depth, long begin, long end,
                  T* packed) {
    for (long column = begin; column < end; column += panel_width<T>) {
        const long width = panel_columns<T>(column, n);
        const long filled = std::min(width, n - column);
        T* to = packed + (column - begin) * depth;
        copy_transposed(b + column * k + first, k, filled, depth, to, width);
        for (long i = 0; i < depth; i++) std::fill(to + i * width + filled, to + (i + 1) * width, T(0));
    }
}

// Long sums are sums of short ones: n products added one after the other err by up to n / 2
// roundings. `summed_at_once` products are added in registers, the sums of a segment in single
// precision, and segments in double precision.
constexpr long summed_at_once = 128;
constexpr long segment = 32 * summed_at_once;

struct Range {
    long begin, end;
    // The part of [0, count) that is for `part` of `parts`.
    static Range of(long count, long part, long parts) {
        return {part_begin(count, part, parts), part_begin(count, part + 1, parts)};
    }
    long size() const { return end - begin; }
};

// What is multiplied: a (m, k) and b (k, n), or (n, k) if it is transposed.
template <class T>
struct Product {
    long m, n, k;
    const T* a;
    const T* b;
    bool b_transposed;
};

// Call add(part, first) for the segments of `terms`, which writes the sums over a part into c (m, n,
// rows `step` apart), and leave in c the sums over all of them.
template <class T, class Add>
void sum_segments(Range terms, long m, long n, T* c, long step, Add add) {
    if (terms.size() <= segment) return add(terms, true);
    Scratch<double> total(m * n);
    for (long begin = terms.begin; begin < terms.end; begin += segment) {
        const bool first = begin == terms.begin;
        add(Range{begin, std::min(begin + segment, terms.end)}, first);
        for (long i = 0; i < m; i++)
            for (long j = 0; j < n; j++)
                total[i * n + j] = double(c[i * step + j]) + (first ? 0 : total[i * n + j]);
    }
    for (long i = 0; i < m; i++)
        for (long j = 0; j < n; j++) c[i * step + j] = T(total[i * n + j]);
}

// c += the sums over `terms` of the k, for one row of a and so many columns, N vectors at most.
template <class T, int N>
void add_row(const T* a, const T* b, long n, Range terms, long columns, T* c) {
    constexpr long whole = (N - 1) * lanes<T>;
    Vector<T> sum[N] = {};
    for (long i = terms.begin; i < terms.end; i++) {
        const T* row = b + i * n;
        const Vector<T> ai = broadcast(a[i]);
#pragma GCC unroll 8
        for (int v = 0; v < N - 1; v++) sum[v] += ai * load(row + v * lanes<T>);
        sum[N - 1] += ai * load_columns(row + whole, columns - whole);
    }
    for (int v = 0; v < N - 1; v++) store(c + v * lanes<T>, load(c + v * lanes<T>) + sum[v]);
    store_columns(c + whole, load_columns(c + whole, columns - whole) + sum[N - 1], columns - whole);
}

// For some columns of c, whose row is its only one, c = bias (or 0) + the sums over `terms` of the k: b,
// read once as it lies in memory, is all that takes time. Some of its rows at a time, so that what is
// read lies close together.
template <class T>
void multiply_row(const Product<T>& p, Range columns, Range terms, const T* bias, T* c) {
    constexpr int vectors = 8;
    constexpr long width = vectors * lanes<T>, rows_at_once = 32;
    sum_segments(terms, 1, columns.size(), c + columns.begin, 0, [&](Range part, bool first) {
        for (long column = columns.begin; column < columns.end; column++)
            c[column] = bias && first ? bias[column] : T(0);
        for (long row = part.begin; row < part.end; row += rows_at_once) {
            const Range some = {row, std::min(row + rows_at_once, part.end)};
            for (long column = columns.begin; column < columns.end; column += width) {
                const long left = std::min(width, columns.end - column);
                with_rows<vectors>((left + lanes<T> - 1) / lanes<T>, [&](auto count) {
                    add_row<T, count.value>(p.a, p.b + column, p.n, some, left, c + column);
                });
            }
        }
    });
}

// For some rows and columns of c, which begin with a panel, c = bias (or 0) + the sums over `terms`
// of the k.
template <class T>
void multiply_block(const Product<T>& p, Range rows, Range columns, Range terms, const T* bias, T* c) {
    const long most = std::min(block_depth, std::max<long>(terms.size(), 1));
    // A's rows are copied: apart by a power of 2 they would compete for the same cache lines.
    const long a_step = most + lanes<T>;
    const long width = packed_size<T>(1, columns.size());
    Scratch<T> packed_a(rows.size() * a_step), packed_b(width * most), packed_bias(width);
    if (bias) pack_rows<T>(bias, p.n, 0, 1, columns.begin, columns.end, packed_bias);
    T* corner = c + rows.begin * p.n + columns.begin;
    // Of a sum of a block or less nothing is gained by cutting it.
    const long at_once = terms.size() > block_depth ? summed_at_once : block_depth;
    sum_segments(terms, rows.size(), columns.size(), corner, p.n, [&](Range part, bool first_part) {
        for (long first = part.begin; first == part.begin || first < part.end; first += most) {
            const long depth = std::min(most, part.end - first);
            for (long i = 0; i < rows.size(); i++)
                std::copy_n(p.a + (rows.begin + i) * p.k + first, depth, packed_a + i * a_step);
            if (p.b_transposed)
                pack_columns<T>(p.b, p.n, p.k, first, depth, columns.begin, columns.end, packed_b);
            else
                pack_rows<T>(p.b, p.n, first, depth, columns.begin, columns.end, packed_b);
            for (long column = columns.begin; column < columns.end; column += panel_width<T>) {
                const long before = column - columns.begin;
                const T* start = bias && first_part ? packed_bias + before : nullptr;
                with_panel<T>(panel_columns<T>(column, p.n), [&](auto vectors) {
                    multiply_long_panel<T, vectors.value>(
                        rows.size(), packed_a, a_step, depth, at_once, packed_b + before * depth,
                        start, first > part.begin, corner + before, p.n, p.n - column);
                });
            }
        }
    });
}

}  // namespace

template <class T>
void matmul(long m, long n, long k, const T* a, const T* b, bool b_transposed, const T* bias,
            Activation activation, T* c) {
    if (m == 0 || n == 0) return;
    const Product<T> product = {m, n, k, a, b, b_transposed};
    const bool one_row = m == 1 && !b_transposed;
    const long panels = (n + panel_width<T> - 1) / panel_width<T>;
    const long row_blocks = (m + block_rows - 1) / block_rows;
    const int threads = m * n * k < (1 << 16) ? 1 : get_num_threads();
    // A task is a block of rows and some of the panels: few tasks, since each copies its rows. Where
    // there are fewer than threads, sums are cut if they are long, so that each thread reads its part of
    // b from end to end; half of each row takes longer. Else the panels are dealt out.
    const long least = one_row ? 1 : (panels + block_panels - 1) / block_panels;
    const long wanted = (threads + row_blocks - 1) / row_blocks;
    const long cuts = std::clamp<long>(k / block_depth, 1, (wanted + least - 1) / least);
    const long groups = std::min(panels, std::max((wanted + cuts - 1) / cuts, least));
    Scratch<T> others((cuts - 1) * m * n);  // sums of all parts but the first, which are in c
    for_each_task(row_blocks * groups * cuts, threads, [&](long task) {
        const long cut = task / (row_blocks * groups), block = task / groups % row_blocks;
        const Range rows = Range::of(m, block, row_blocks);
        Range columns = Range::of(panels, task % groups, groups);
        columns = {columns.begin * panel_width<T>, std::min(n, columns.end * panel_width<T>)};
        const Range terms = Range::of(k, cut, cuts);
        T* sums = cut == 0 ? c : others + (cut - 1) * m * n;
        const T* start = cut == 0 ? bias : nullptr;
        if (one_row)
            multiply_row(product, columns, terms, start, sums);
        else
            multiply_block(product, rows, columns, terms, start, sums);
        if (cuts == 1)
            for (long i = rows.begin; i < rows.end; i++)
                activate_here(activation, c + i * n + columns.begin, columns.size());
    });
    if (cuts == 1) return;
    for_each_range(m * n, 1 << 14, [&](long begin, long end) {
        for (long cut = 1; cut < cuts; cut++)
            for (long i = begin; i < end; i++) c[i] += others[(cut - 1) * m * n + i];
        activate_here(activation, c + begin, end - begin);
    });
}

template <class T>
void matmul_transposed(long m, long n, long k, const T* a, const T* b, T* c) {
    if (m == 0 || n == 0) return;
    const long columns = packed_size<T>(1, n), most = std::min(block_depth, std::max<long>(k, 1));
    const long blocks = (m + 95) / 96;
    const int threads = m * n * k < (1 << 16) ? 1 : get_num_threads();
    const long at_once = k > block_depth ? summed_at_once : block_depth;
    Scratch<T> packed_b(columns * most);
    sum_segments(Range{0, k}, m, n, c, n, [&](Range part, bool) {
        for (long first = part.begin; first == part.begin || first < part.end; first += most) {
            const long depth = std::min(most, part.end - first);
            pack_rows<T>(b, n, first, depth, 0, n, packed_b);
            for_each_task(blocks, threads, [&](long block) {
                const Range rows = Range::of(m, block, blocks);
                Scratch<T> packed_a(rows.size() * depth);
                for (long i = 0; i < depth; i++)
                    std::copy_n(a + (first + i) * m + rows.begin, rows.size(),
                                packed_a + i * rows.size());
                for (long column = 0; column < n; column += panel_width<T>)
                    with_panel<T>(panel_columns<T>(column, n), [&](auto vectors) {
                        multiply_long_transposed<T, vectors.value>(
                            rows.size(), packed_a, depth, at_once, rows.size(),
                            packed_b + column * depth, first > part.begin,
                            c + rows.begin * n + column, n, n - column);
                    });
            });
        }
    });
}

#define INSTANTIATE(T)                                                                         \
    template void matmul<T>(long, long, long, const T*, const T*, bool, const T*, Activation,  \
                            T*);                                                               \
    template void matmul_transposed<T>(long, long, long, const T*, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
