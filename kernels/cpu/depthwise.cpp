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

// A row of taps side by side that moves on by `stride` pixels, both constants to the compiler.
template <int Count, int Stride>
struct Dense {
    static constexpr int count = Count, stride = Stride;
};

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
            for (int k = 0; k < (M - 1) * S + K; k++)
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

// A correlation with its weights tap after tap; which taps the results of a row see, of which those in
// [begin, end) see all; whether results are written past the caches, and whether the image comes from
// beyond them.
template <class T>
struct Ready {
    Correlation<T> p;
    const T* weights;
    std::vector<Inside> columns;
    long begin, end;
    bool streamed, from_memory;

    Ready(const Correlation<T>& given, T* to) : p(given), weights(to) {
        for (long i = 0; i < p.rows.taps; i++)
            for (long j = 0; j < p.columns.taps; j++)
                for (long c = 0; c < p.channels; c++)
                    *to++ = p.weight[i * p.weight_row + j * p.weight_column + c * p.weight_output];
        for (long s = 0; s < p.columns.results; s++)
            columns.push_back(inside(p.columns, s, p.w));
        const auto partly = [&](long s) {
            const Inside& across = columns[size_t(s)];
            return across.last - across.first < p.columns.taps;
        };
        begin = 0, end = p.columns.results;
        while (begin < end && partly(begin)) begin++;
        while (end > begin && partly(end - 1)) end--;
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

// A row of results, whose taps meet rows `down`, several results at a time.
template <class T>
void correlate_row(const Ready<T>& ready, long n, long r, const Inside& down) {
    const Correlation<T>& p = ready.p;
    const Steps steps = {p.rows.step * p.w * p.pitch,      p.columns.step * p.pitch,
                         p.columns.stride * p.pitch,       p.columns.out_step * p.out_pitch,
                         p.columns.taps * p.channels,      p.channels};
    const long row = r * p.rows.stride + p.rows.origin + down.first * p.rows.step;
    const T* line = p.in + ((n * p.h + row) * p.w + p.columns.origin) * p.pitch;
    const T* weights = ready.weights + down.first * steps.weight_row;
    const long rows = std::max<long>(down.last - down.first, 0);
    constexpr long in_a_line = 64 / sizeof(T);
    const auto results = [&](long s, auto many, auto vectors, auto taps, long first_tap) {
        const T* pixels = line + s * steps.pixel + first_tap * steps.tap;
        const T* w = weights + first_tap * steps.weight_tap;
        T* out = p.out_at(n, r, s);
        const T* bias = p.bias;
        const bool streamed = ready.streamed, from_memory = ready.from_memory;
        const long all_rows = p.rows.taps, new_rows = p.rows.stride;
        const long new_columns = many.value * p.columns.stride;
        for_some_channels<T, vectors.value>(p.channels, [=](long c, auto some, auto count) {
            if (from_memory && c % in_a_line == 0)
                prefetch_next_row(pixels + c, steps, all_rows, new_rows, new_columns);
            correlate_pixels<T, many.value, some.value>(pixels + c, w + c, steps, rows, taps,
                                                        bias ? bias + c : nullptr, out + c, streamed,
                                                        count);
        });
    };
    const auto partly = [&](long begin, long end) {
        for (long s = begin; s < end; s++) {
            const Inside& across = ready.columns[size_t(s)];
            results(s, number<1>, number<1>, across.last - across.first, across.first);
        }
    };
    // Several results share a load of the weights. The last ones overlap, which takes less time than
    // to do what is left one by one. Where few results share a pixel, or are written past the caches,
    // all vectors of a line are done at once: pixels a power of 2 apart compete for the same places in
    // the cache, and would have to be fetched again for the second vector.
    const auto wholly = [&](auto taps) {
        const long count = ready.end - ready.begin;
        const auto cover = [&](auto many, auto vectors) {
            for (long s = ready.begin; s < ready.end; s += many)
                results(std::min(s, ready.end - many), many, vectors, taps, 0);
        };
        if constexpr (!std::is_integral_v<decltype(taps)>) {
            constexpr int line = int(in_a_line) / lanes<T>, fewer = 8 / line;
            if ((decltype(taps)::stride > 1 || ready.streamed) && count >= fewer)
                return cover(number<fewer>, number<line>);
            if (count >= 8) return cover(number<8>, number<1>);
        }
        if (count >= 4) return cover(number<4>, number<1>);
        cover(number<1>, number<1>);
    };
    const long taps = p.columns.step == 1 ? p.columns.taps : 0;
    partly(0, ready.begin);
    if (taps == 3 && p.columns.stride == 1)
        wholly(Dense<3, 1>{});
    else if (taps == 3 && p.columns.stride == 2)
        wholly(Dense<3, 2>{});
    else if (taps == 2 && p.columns.stride == 1)  // of the input gradient of the last
        wholly(Dense<2, 1>{});
    else if (taps == 1 && p.columns.stride == 1)
        wholly(Dense<1, 1>{});
    else
        wholly(p.columns.taps);
    partly(ready.end, p.columns.results);
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
    for_each_range(one.n * rows, 1 + (1 << 13) / (pixels * one.channels + 1),
                   [&](long first, long last) {
        for (long task = first; task < last; task++)
            for (const Ready<T>& part : ready)
                if (const long n = task / rows, r = task % rows; r < part.p.rows.results) {
                    const Inside down = inside(part.p.rows, r, part.p.h);
                    correlate_row(part, n, r, down);
                    activate_row(part.p, n, r);
                }
        finish_streaming();
    });
}

template void correlate_depthwise<float>(const std::vector<Correlation<float>>&);
template void correlate_depthwise<double>(const std::vector<Correlation<double>>&);
