// Depthwise convolution: each channel has a window of its own, so that a vector of channels meets a
// vector of weights and nothing is summed across channels.

#include <vector>

#include "band.h"
#include "channels.h"
#include "correlate.h"

namespace {

// A vector of results, past the caches where they are `streamed`.
template <class T, class Count>
inline void write(T* to, Vector<T> v, bool streamed, Count count) {
    if (streamed && count == lanes<T>)
        stream(to, v);
    else
        put(to, v, count);
}

// What lies how far from the other: rows and columns of taps in the image, results in the image and
// in the result, rows of taps in the weights. By value, since the compiler must expect a member that
// it was given by reference to change with every vector that is stored.
struct Steps {
    long row, tap, pixel, out, weight_row, weight_tap;
};

template <int N>
constexpr std::integral_constant<int, N> number{};

// A row of taps side by side that moves on by `stride` pixels, both constants to the compiler. Of some
// results the first one's first tap, or the last one's last, meets no pixel (`misses`).
template <int Count, int Stride, bool First = false, bool Last = false>
struct Dense {
    static constexpr int count = Count, stride = Stride;
    static constexpr bool misses_first = First, misses_last = Last;

    template <bool F, bool L>
    static constexpr Dense<Count, Stride, F, L> missing(std::bool_constant<F>, std::bool_constant<L>) {
        return {};
    }
};

// Call f with a truth value as a constant.
template <class F>
inline void with_flag(bool flag, F f) {
    flag ? f(std::true_type{}) : f(std::false_type{});
}

// M results beside each other that all see the same `rows` times `taps` taps, in N vectors of
// channels. Where the taps are `Dense`, a pixel is read once for all the results that it meets.
template <class T, int M, int N, class Taps, class Count>
inline void correlate_pixels(const T* pixels, const T* weights, const Steps steps, long rows,
                             Taps taps, const T* bias, T* out, bool streamed, Count count) {
    constexpr int L = lanes<T>;
    Vector<T> sum[M][N];
#pragma GCC unroll 8
    for (int v = 0; v < N; v++) {
        const Vector<T> first = bias ? get(bias + v * L, count) : Vector<T>{};
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) sum[m][v] = first;
    }
    for (long i = 0; i < rows; i++, pixels += steps.row, weights += steps.weight_row)
        if constexpr (std::is_integral_v<Taps>) {
            for (long j = 0; j < taps; j++) {
                for (int v = 0; v < N; v++) {
                    const Vector<T> w = get(weights + j * steps.weight_tap + v * L, count);
                    for (int m = 0; m < M; m++)
                        sum[m][v] += get(pixels + j * steps.tap + m * steps.pixel + v * L, count) * w;
                }
            }
        } else {
            constexpr int K = Taps::count, S = Taps::stride;
            Vector<T> w[K][N];
#pragma GCC unroll 8
            for (int j = 0; j < K; j++)
#pragma GCC unroll 4
                for (int v = 0; v < N; v++)
                    w[j][v] = get(weights + j * steps.weight_tap + v * L, count);
#pragma GCC unroll 16
            for (int k = Taps::misses_first; k < (M - 1) * S + K - Taps::misses_last; k++)
#pragma GCC unroll 4
                for (int v = 0; v < N; v++) {
                    const Vector<T> x = get(pixels + k * steps.tap + v * L, count);
#pragma GCC unroll 8
                    for (int m = 0; m < M; m++)
                        if (k - m * S >= 0 && k - m * S < K) sum[m][v] += x * w[k - m * S][v];
                }
        }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int v = 0; v < N; v++)
            write<T>(out + m * steps.out + v * L, sum[m][v], streamed, count);
}

// A correlation with its weights tap after tap; which taps the results of a column and those of a row
// see, of which those in [begin, end) see all, and those in [first, last) too, but for the first one's
// first and the last one's last where these are further; whether results are written past the caches,
// and whether the image comes from beyond them.
template <class T>
struct Ready {
    Correlation<T> p;
    const T* weights;
    std::vector<Inside> rows, columns;
    long begin, end, first, last;
    bool streamed, from_memory;

    Ready(const Correlation<T>& given, T* to) : p(given), weights(to) {
        for (long i = 0; i < p.rows.taps; i++)
            for (long j = 0; j < p.columns.taps; j++)
                for (long c = 0; c < p.channels; c++)
                    *to++ = p.weight[i * p.weight_row + j * p.weight_column + c * p.weight_output];
        for (long r = 0; r < p.rows.results; r++) rows.push_back(inside(p.rows, r, p.h));
        for (long s = 0; s < p.columns.results; s++)
            columns.push_back(inside(p.columns, s, p.w));
        const auto misses = [&](long s, long before, long behind) {
            const Inside& across = columns[size_t(s)];
            return across.first == before && across.last == p.columns.taps - behind;
        };
        begin = 0, end = p.columns.results;
        while (begin < end && !misses(begin, 0, 0)) begin++;
        while (end > begin && !misses(end - 1, 0, 0)) end--;
        const bool several = p.columns.taps > 1;
        first = begin - (several && begin > 0 && misses(begin - 1, 1, 0));
        last = end + (several && end < p.columns.results && misses(end, 0, 1));
        const bool aligned = reinterpret_cast<uintptr_t>(p.out) % vector_bytes == 0 &&
                             p.out_pitch % lanes<T> == 0;
        const auto beyond = [&](long pixels) {
            return p.n * pixels * long(sizeof(T)) > beyond_caches;
        };
        streamed = aligned && beyond(p.out_h * p.out_w * p.out_pitch) &&
                   p.activation == Activation::none;
        from_memory = beyond(p.h * p.w * p.pitch);
    }
};

// Ask for what the same results of the next row will be the first to meet, a line of each pixel: the
// pixels of a row are too far apart for a processor to see the next one coming.
template <class T>
inline void prefetch_next_row(const T* pixels, const Steps steps, long taps, long rows, long columns) {
    for (long i = taps; i < taps + rows; i++)
        for (long k = 0; k < columns; k++)
            __builtin_prefetch(pixels + i * steps.row + k * steps.tap);
}

// Some rows of results, several results at a time from the first row to the last: what they meet is still
// in the first cache when the next row meets it.
template <class T>
void correlate_rows(const Ready<T>& ready, long n, long begin, long end) {
    const Correlation<T>& p = ready.p;
    const Steps steps = {p.rows.step * p.w * p.pitch,      p.columns.step * p.pitch,
                         p.columns.stride * p.pitch,       p.columns.out_step * p.out_pitch,
                         p.columns.taps * p.channels,      p.channels};
    constexpr long in_a_line = 64 / sizeof(T);
    const auto results = [&](long s, auto many, auto vectors, auto taps, long first_tap) {
        const T* bias = p.bias;
        const bool streamed = ready.streamed, from_memory = ready.from_memory;
        const long all_rows = p.rows.taps, new_rows = p.rows.stride;
        const long new_columns = many.value * p.columns.stride;
        for (long r = begin; r < end; r++) {
            const Inside& down = ready.rows[size_t(r)];
            const long rows = down.last - down.first;
            const long row = r * p.rows.stride + p.rows.origin + down.first * p.rows.step;
            const T* pixels = p.in + ((n * p.h + row) * p.w + p.columns.origin) * p.pitch +
                              s * steps.pixel + first_tap * steps.tap;
            const T* w = ready.weights + down.first * steps.weight_row + first_tap * steps.weight_tap;
            T* out = p.out_at(n, r, s);
            for_some_channels<T, vectors.value>(p.channels, [=](long c, auto some, auto count) {
                if (from_memory && c % in_a_line == 0)
                    prefetch_next_row(pixels + c, steps, all_rows, new_rows, new_columns);
                correlate_pixels<T, many.value, some.value>(pixels + c, w + c, steps, rows, taps,
                                                            bias ? bias + c : nullptr, out + c,
                                                            streamed, count);
            });
        }
    };
    const auto partly = [&](long begin, long end) {
        for (long s = begin; s < end; s++) {
            const Inside& across = ready.columns[size_t(s)];
            results(s, number<1>, number<1>, across.last - across.first, across.first);
        }
    };
    // Several results share a load of the weights. The last ones overlap, which takes less time than
    // to do what is left one by one.
    const auto sparsely = [&](auto many) {
        partly(0, ready.begin);
        for (long s = ready.begin; s < ready.end; s += many)
            results(std::min(s, ready.end - many), many, number<1>, p.columns.taps, 0);
        partly(ready.end, p.columns.results);
    };
    const auto sparse = [&] {
        if (ready.end - ready.begin >= 4) return sparsely(number<4>);
        sparsely(number<1>);
    };
    const auto densely = [&](auto many, auto vectors, auto taps) {
        partly(0, ready.first);
        for (long next = ready.first; next < ready.last; next += many) {
            const long s = std::min(next, ready.last - many);
            if constexpr (taps.count == 1)
                results(s, many, vectors, taps, 0);
            else
                with_flag(s < ready.begin, [&](auto first) {
                    with_flag(s + many > ready.end, [&](auto last) {
                        results(s, many, vectors, taps.missing(first, last), 0);
                    });
                });
        }
        partly(ready.last, p.columns.results);
    };
    // Where few results share a pixel, or are written past the caches, all vectors of a line are done at
    // once: pixels a power of 2 apart compete for the same places in the cache, and would have to be
    // fetched again for the second vector.
    const auto dense = [&](auto taps) {
        const long count = ready.last - ready.first;
        constexpr int line = int(in_a_line) / lanes<T>, fewer = 8 / line;
        if ((taps.stride > 1 || ready.streamed) && count >= fewer)
            return densely(number<fewer>, number<line>, taps);
        if (count >= 8) return densely(number<8>, number<1>, taps);
        sparse();
    };
    const long taps = p.columns.step == 1 ? p.columns.taps : 0;
    if (taps == 3 && p.columns.stride == 1)
        dense(Dense<3, 1>{});
    else if (taps == 3 && p.columns.stride == 2)
        dense(Dense<3, 2>{});
    else if (taps == 2 && p.columns.stride == 1)  // of the input gradient of the last
        dense(Dense<2, 1>{});
    else if (taps == 1 && p.columns.stride == 1)
        dense(Dense<1, 1>{});
    else
        sparse();
    for (long r = begin; r < end; r++) activate_row(p, n, r);
}

}  // namespace

template <class T>
void correlate_depthwise(const std::vector<Correlation<T>>& parts) {
    if (parts.empty()) return;
    const Correlation<T>& one = parts.front();
    long rows = 0, pixels = 0, taps = 0;
    for (const Correlation<T>& p : parts) {
        rows = std::max(rows, p.rows.results), taps += p.rows.taps * p.columns.taps;
        pixels += p.columns.results;
    }
    const long size = one.n * one.h * one.w * one.pitch;
    Scratch<T> weights(taps * one.channels), gated(one.gate == Activation::none ? 0 : size);
    if (one.gate != Activation::none)
        activation_grad<T>(one.gate, one.in, one.gate_output, gated, size);
    std::vector<Ready<T>> ready;
    T* to = weights;
    for (const Correlation<T>& p : parts) {
        ready.emplace_back(p, to);
        if (one.gate != Activation::none) ready.back().p.in = gated;
        to += p.rows.taps * p.columns.taps * p.channels;
    }
    // Several rows at a time, as many as stay in a core's cache for all parts; but what comes from memory
    // comes fastest in the order in which it lies there.
    constexpr long cache = 128 << 10;
    const long row = one.w * one.pitch * long(sizeof(T));
    const long most = ready.front().from_memory ? 1 : std::max<long>(cache / (row + 1), 1);
    for_each_range(one.n * rows, 1 + (1 << 13) / (pixels * one.channels + 1),
                   [&](long first, long last) {
        while (first < last) {
            const long n = first / rows, begin = first % rows;
            const long end = std::min({begin + most, rows, begin + last - first});
            for (const Ready<T>& part : ready)
                correlate_rows(part, n, begin, std::min(end, part.p.rows.results));
            first += end - begin;
        }
        finish_streaming();
    });
}

template void correlate_depthwise<float>(const std::vector<Correlation<float>>&);
template void correlate_depthwise<double>(const std::vector<Correlation<double>>&);
