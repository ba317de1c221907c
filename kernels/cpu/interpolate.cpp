// Each pass goes over one axis at a time: down first, a whole row of the image by vectors; then across
// within that row, from a buffer in the L1 cache.
//
// The gradient of a row of the input gathers from the rows of the output that were made from it, so no
// two threads add to one place. Sources advance with the output pixels, so the output pixels of one
// source pixel lie side by side.
#include "interpolate.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace {

// Where each output pixel along an axis comes from: (1 - weight) lower + weight upper.
template <class T>
struct Sources {
    std::vector<long> lower, upper;
    std::vector<T> weight;

    Sources(const ResizeAxis& axis, bool linear, bool align_corners)
        : lower(size_t(axis.out)), upper(size_t(axis.out)), weight(size_t(axis.out)) {
        for (long r = 0; r < axis.out; r++) {
            double place;
            if (!linear || align_corners) place = double(r) * axis.step;
            else place = std::max(0.0, (double(r) + 0.5) * axis.step - 0.5);
            place = std::min(place, double(axis.in - 1));
            const long k = long(place);
            const size_t at = size_t(r);
            lower[at] = k;
            upper[at] = linear ? std::min(axis.in - 1, k + 1) : k;
            weight[at] = linear ? T(place - double(k)) : T(0);
        }
    }
};

// The other way round: the outputs that an input pixel along an axis goes to, which lie side by side, and
// by what they are multiplied. Those of pixel k have the weights from first[k] to first[k + 1].
template <class T>
struct Targets {
    std::vector<long> output, first;  // of each input pixel: its first output, and its first weight
    std::vector<T> weight;
    bool same = true;  // whether all inputs go to as many outputs

    Targets(const ResizeAxis& axis, const Sources<T>& sources) : output(size_t(axis.in)) {
        long r = 0;  // the first output that an input from k on goes to
        for (long k = 0; k < axis.in; k++) {
            while (r < axis.out && sources.upper[size_t(r)] < k) r++;
            output[size_t(k)] = r;
            first.push_back(long(weight.size()));
            for (long q = r; q < axis.out && sources.lower[size_t(q)] <= k; q++) {
                const T w = sources.weight[size_t(q)];
                weight.push_back((sources.lower[size_t(q)] == k ? T(1) - w : T(0)) +
                                 (sources.upper[size_t(q)] == k ? w : T(0)));
            }
        }
        first.push_back(long(weight.size()));
        for (long k = 0; k < axis.in; k++) same = same && count(k) == count(0);
    }

    long count(long k) const { return first[size_t(k) + 1] - first[size_t(k)]; }
    bool all_have(long count) const { return same && this->count(0) == count; }
    const T* weights(long k) const { return weight.data() + first[size_t(k)]; }
};

// The sum over k < count of from[k * step + i] * weights[k] as to[i], of n elements. `most`, if not 0, is
// `count`, so that the loop over it is unrolled.
template <class T, int most>
void weighted_sum_of(long n, long count, long step, const T* from, const T* weights, T* to) {
    for_each_vector<T>(n, [=](long i, auto get, auto put) {
        Vector<T> sum = get(from + i) * weights[0];
        for (long k = 1; k < (most ? most : count); k++) sum += get(from + k * step + i) * weights[k];
        put(to + i, sum);
    });
}

template <class T>
void weighted_sum(long n, long count, long step, const T* from, const T* weights, T* to) {
    switch (count) {
    case 0: std::fill(to, to + n, T(0)); break;
    case 1: weighted_sum_of<T, 1>(n, count, step, from, weights, to); break;
    case 2: weighted_sum_of<T, 2>(n, count, step, from, weights, to); break;
    case 3: weighted_sum_of<T, 3>(n, count, step, from, weights, to); break;
    case 4: weighted_sum_of<T, 4>(n, count, step, from, weights, to); break;
    default: weighted_sum_of<T, 0>(n, count, step, from, weights, to);
    }
}

// The most rows that a thread takes at once.
long grain(long row_elements) { return 1 + (1 << 14) / (row_elements + 1); }

// A few elements, for pixels with fewer channels than a vector has lanes.
template <class T>
struct FewOf { typedef T type __attribute__((vector_size(4 * sizeof(T)))); };

// From a row of pixels to one of other size, C channels each. A pixel of few channels is loaded and
// stored as a vector of type V, whose end the next pixel overwrites, but for the last ones of the row.
// `padded` elements may be read from `from`.
template <class T, class V>
void across_few(const Sources<T>& sources, long c, bool linear, const T* from, long padded, T* to) {
    constexpr long wide = long(sizeof(V) / sizeof(T));
    const long count = long(sources.lower.size());
    long q = 0;
    for (; q * c + wide <= count * c; q++) {
        const long below = sources.lower[size_t(q)] * c, above = sources.upper[size_t(q)] * c;
        if (std::max(below, above) + wide > padded) break;
        V lower, upper;
        memcpy(&lower, from + below, sizeof(V));
        if (linear) {
            memcpy(&upper, from + above, sizeof(V));
            const T w = sources.weight[size_t(q)];
            lower = lower * (T(1) - w) + upper * w;
        }
        memcpy(to + q * c, &lower, sizeof(V));
    }
    for (; q < count; q++) {
        const T* lower = from + sources.lower[size_t(q)] * c;
        const T* upper = from + sources.upper[size_t(q)] * c;
        const T w = sources.weight[size_t(q)];
        for (long i = 0; i < c; i++)
            to[q * c + i] = linear ? lower[i] * (T(1) - w) + upper[i] * w : lower[i];
    }
}

template <class T>
void across(const Sources<T>& sources, long c, bool linear, const T* from, long padded, T* to) {
    if (c <= 4) return across_few<T, typename FewOf<T>::type>(sources, c, linear, from, padded, to);
    if (c < lanes<T>) return across_few<T, Vector<T>>(sources, c, linear, from, padded, to);
    const long count = long(sources.lower.size());
    for (long q = 0; q < count; q++) {
        const T* lower = from + sources.lower[size_t(q)] * c;
        const T* upper = from + sources.upper[size_t(q)] * c;
        const T w = sources.weight[size_t(q)];
        T* out = to + q * c;
        for_each_vector<T>(c, [=](long i, auto get, auto put) {
            if (linear) put(out + i, get(lower + i) * (T(1) - w) + get(upper + i) * w);
            else put(out + i, get(lower + i));
        });
    }
}

// The gradient of `across`: for each pixel that went into the row `from`, what comes back to it.
// As many elements as a vector has may be read behind the row.
template <class T, class V>
void gather_few(const Targets<T>& targets, long c, const T* from, T* to) {
    constexpr long wide = long(sizeof(V) / sizeof(T));
    const long count = long(targets.output.size());
    long j = 0;
    for (; j * c + wide <= count * c; j++) {
        const T *first = from + targets.output[size_t(j)] * c, *weights = targets.weights(j);
        V sum{};
        for (long k = 0; k < targets.count(j); k++) {
            V part;
            memcpy(&part, first + k * c, sizeof(V));
            sum += part * weights[k];
        }
        memcpy(to + j * c, &sum, sizeof(V));
    }
    for (; j < count; j++)
        for (long i = 0; i < c; i++) {
            const T *first = from + targets.output[size_t(j)] * c + i, *weights = targets.weights(j);
            T sum = 0;
            for (long k = 0; k < targets.count(j); k++) sum += first[k * c] * weights[k];
            to[j * c + i] = sum;
        }
}

template <class T>
void gather(const Targets<T>& targets, long c, const T* from, T* to) {
    if (c <= 4) return gather_few<T, typename FewOf<T>::type>(targets, c, from, to);
    if (c < lanes<T>) return gather_few<T, Vector<T>>(targets, c, from, to);
    for (long j = 0; j < long(targets.output.size()); j++)
        weighted_sum(c, targets.count(j), c, from + targets.output[size_t(j)] * c,
                     targets.weights(j), to + j * c);
}

// A row of the gradient with `nearest`, where all weights are 1: the sums of rectangles of pixels.
template <class T, long most>
void add_rectangles_of(const Targets<T>& targets, long c, long rows, long row_step, const T* from, T* to) {
    for (long j = 0; j < long(targets.output.size()); j++) {
        const long columns = most ? most : targets.count(j);
        const T* corner = from + targets.output[size_t(j)] * c;
        for_each_vector<T>(c, [=](long i, auto get, auto put) {
            Vector<T> sum{};
            for (long q = 0; q < columns; q++) {
                Vector<T> column{};
                for (long r = 0; r < (most ? most : rows); r++)
                    column += get(corner + r * row_step + q * c + i);
                sum += column;
            }
            put(to + j * c + i, sum);
        });
    }
}

template <class T>
void add_rectangles(const Targets<T>& targets, long c, long rows, long row_step, const T* from, T* to) {
    if (rows == 2 && targets.all_have(2))
        return add_rectangles_of<T, 2>(targets, c, rows, row_step, from, to);
    add_rectangles_of<T, 0>(targets, c, rows, row_step, from, to);
}

}  // namespace

template <class T>
void interpolate(const ResizeShape& s, const T* x, T* y) {
    const Sources<T> rows(s.down, s.linear, s.align_corners);
    const Sources<T> columns(s.across, s.linear, s.align_corners);
    const long in_row = s.across.in * s.c, out_row = s.across.out * s.c;
    for_each_range(s.n * s.down.out, grain(out_row), [&](long begin, long end) {
        Scratch<T> blended(in_row + lanes<T>);
        for (long k = begin; k < end; k++) {
            const long image = k / s.down.out;
            const size_t p = size_t(k % s.down.out);
            const T* lower = x + (image * s.down.in + rows.lower[p]) * in_row;
            const T* upper = x + (image * s.down.in + rows.upper[p]) * in_row;
            if (!s.linear && k > begin && p > 0 && rows.lower[p] == rows.lower[p - 1]) {
                std::copy_n(y + (k - 1) * out_row, out_row, y + k * out_row);
                continue;
            }
            const T* from = lower;
            long padded = in_row;
            if (s.linear) {
                const T w = rows.weight[p];
                T* to = blended;
                for_each_vector<T>(in_row, [=](long i, auto get, auto put) {
                    put(to + i, get(lower + i) * (T(1) - w) + get(upper + i) * w);
                });
                from = blended, padded = in_row + lanes<T>;
            }
            across(columns, s.c, s.linear, from, padded, y + k * out_row);
        }
    });
}

template <class T>
void interpolate_grad(const ResizeShape& s, const T* grad_output, T* grad_input) {
    const Sources<T> rows(s.down, s.linear, s.align_corners);
    const Sources<T> columns(s.across, s.linear, s.align_corners);
    const Targets<T> down(s.down, rows), right(s.across, columns);
    const long c = s.c, in_row = s.across.in * c, out_row = s.across.out * c;
    for_each_range(s.n * s.down.in, grain(std::max(in_row, out_row)), [&](long begin, long end) {
        Scratch<T> scratch(out_row + lanes<T>);
        T* blended = scratch;
        for (long k = begin; k < end; k++) {
            const long image = k / s.down.in, row = k % s.down.in;
            const T* from = grad_output + (image * s.down.out + down.output[size_t(row)]) * out_row;
            if (!s.linear && c >= lanes<T>) {
                add_rectangles(right, c, down.count(row), out_row, from, grad_input + k * in_row);
                continue;
            }
            weighted_sum(out_row, down.count(row), out_row, from, down.weights(row), blended);
            gather(right, c, blended, grad_input + k * in_row);
        }
    });
}

#define INSTANTIATE(T)                                                \
    template void interpolate<T>(const ResizeShape&, const T*, T*);   \
    template void interpolate_grad<T>(const ResizeShape&, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
