// Each pass goes over one axis at a time: down first, a whole row of the image by vectors; then across
// within that row, from a buffer in the L1 cache.
//
// The gradient of a row of the input gathers from the rows of the output that were made from it, so no
// two threads add to one place. Sources advance with the output pixels, so the output pixels of one
// source pixel lie side by side.
#include "interpolate.h"

#include <algorithm>
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
    std::vector<long> begin;  // of each input pixel the first output with it as lower source

    Sources(const ResizeAxis& axis, bool linear, bool align_corners)
        : lower(size_t(axis.out)), upper(size_t(axis.out)), weight(size_t(axis.out)),
          begin(size_t(axis.in) + 1) {
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
        for (long k = 0; k <= axis.in; k++)
            begin[size_t(k)] = std::lower_bound(lower.begin(), lower.end(), k) - lower.begin();
    }

    // Call f(output, weight) for the outputs that come from an input pixel, in order.
    template <class F>
    void for_outputs(long k, F f) const {
        for (long r = begin[size_t(std::max(0L, k - 1))]; r < begin[size_t(k) + 1]; r++) {
            const T w = weight[size_t(r)];
            f(r, (lower[size_t(r)] == k ? T(1) - w : T(0)) + (upper[size_t(r)] == k ? w : T(0)));
        }
    }
};

// The most rows that a thread takes at once.
long grain(long row_elements) { return 1 + (1 << 14) / (row_elements + 1); }

// From a row of pixels to one of other size, C channels each.
template <class T>
void across(const Sources<T>& sources, long c, bool linear, const T* from, T* to) {
    const long count = long(sources.lower.size());
    for (long q = 0; q < count; q++) {
        const T* lower = from + sources.lower[size_t(q)] * c;
        const T* upper = from + sources.upper[size_t(q)] * c;
        const T w = sources.weight[size_t(q)];
        T* out = to + q * c;
        if (c < lanes<T>) {
            for (long i = 0; i < c; i++)
                out[i] = linear ? lower[i] * (T(1) - w) + upper[i] * w : lower[i];
        } else {
            for_each_vector<T>(c, [=](long i, auto get, auto put) {
                if (linear) put(out + i, get(lower + i) * (T(1) - w) + get(upper + i) * w);
                else put(out + i, get(lower + i));
            });
        }
    }
}

}  // namespace

template <class T>
void interpolate(const ResizeShape& s, const T* x, T* y) {
    const Sources<T> rows(s.down, s.linear, s.align_corners);
    const Sources<T> columns(s.across, s.linear, s.align_corners);
    const long in_row = s.across.in * s.c, out_row = s.across.out * s.c;
    for_each_range(s.n * s.down.out, grain(out_row), [&](long begin, long end) {
        Scratch<T> blended(in_row);
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
            if (s.linear) {
                const T w = rows.weight[p];
                T* to = blended;
                for_each_vector<T>(in_row, [=](long i, auto get, auto put) {
                    put(to + i, get(lower + i) * (T(1) - w) + get(upper + i) * w);
                });
                from = blended;
            }
            across(columns, s.c, s.linear, from, y + k * out_row);
        }
    });
}

template <class T>
void interpolate_grad(const ResizeShape& s, const T* grad_output, T* grad_input) {
    const Sources<T> rows(s.down, s.linear, s.align_corners);
    const Sources<T> columns(s.across, s.linear, s.align_corners);
    const long c = s.c, in_row = s.across.in * c, out_row = s.across.out * c;
    for_each_range(s.n * s.down.in, grain(std::max(in_row, out_row)), [&](long begin, long end) {
        Scratch<T> scratch(out_row);
        T* blended = scratch;
        for (long k = begin; k < end; k++) {
            const long image = k / s.down.in;
            std::fill(blended, blended + out_row, T(0));
            rows.for_outputs(k % s.down.in, [&](long p, T w) {
                const T* from = grad_output + (image * s.down.out + p) * out_row;
                for_each_vector<T>(out_row, [=](long i, auto get, auto put) {
                    put(blended + i, get(blended + i) + get(from + i) * w);
                });
            });
            T* to = grad_input + k * in_row;
            std::fill(to, to + in_row, T(0));
            for (long j = 0; j < s.across.in; j++)
                columns.for_outputs(j, [=](long q, T w) {
                    const T* from = blended + q * c;
                    T* out = to + j * c;
                    if (c < lanes<T>) {
                        for (long i = 0; i < c; i++) out[i] += from[i] * w;
                    } else {
                        for_each_vector<T>(c, [=](long i, auto get, auto put) {
                            put(out + i, get(out + i) + get(from + i) * w);
                        });
                    }
                });
        }
    });
}

#define INSTANTIATE(T)                                                \
    template void interpolate<T>(const ResizeShape&, const T*, T*);   \
    template void interpolate_grad<T>(const ResizeShape&, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
