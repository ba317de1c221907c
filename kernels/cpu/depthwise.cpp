// Depthwise convolution: each channel has a window of its own, so that a vector of channels meets a
// vector of weights and nothing is summed across channels.

#include <vector>

#include "band.h"
#include "channels.h"
#include "conv2d_grad.h"
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

// A row of taps side by side that moves on by `stride` pixels, both constants to the compiler.
template <int Count, int Stride>
struct Dense {
    static constexpr int count = Count, stride = Stride;
};

// M results beside each other that all see the same `rows` times `taps` taps. Where the taps are
// `Dense`, a pixel is read once for all the results that it meets.
template <class T, int M, class Taps, class Count>
inline void correlate_pixels(const T* pixels, const T* weights, const Steps steps, long rows,
                             Taps taps, Vector<T> bias, T* out, bool streamed, Count count) {
    Vector<T> sum[M];
    for (int m = 0; m < M; m++) sum[m] = bias;
    for (long i = 0; i < rows; i++, pixels += steps.row, weights += steps.weight_row)
        if constexpr (std::is_integral_v<Taps>) {
            for (long j = 0; j < taps; j++) {
                const Vector<T> w = get(weights + j * steps.weight_tap, count);
                for (int m = 0; m < M; m++)
                    sum[m] += get(pixels + j * steps.tap + m * steps.pixel, count) * w;
            }
        } else {
            constexpr int K = Taps::count, S = Taps::stride;
            Vector<T> w[K];
            for (int j = 0; j < K; j++) w[j] = get(weights + j * steps.weight_tap, count);
#pragma GCC unroll 16
            for (int k = 0; k < (M - 1) * S + K; k++) {
                const Vector<T> x = get(pixels + k * steps.tap, count);
#pragma GCC unroll 8
                for (int m = 0; m < M; m++)
                    if (k - m * S >= 0 && k - m * S < K) sum[m] += x * w[k - m * S];
            }
        }
    for (int m = 0; m < M; m++) write<T>(out + m * steps.out, sum[m], streamed, count);
}

inline Inside inside(const Axis& a, long r, long pixels) {
    return Inside(r, a.stride, -a.origin, a.taps, a.step, pixels);
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
    const auto results = [&](long s, auto many, auto taps, long first_tap) {
        const T* pixels = line + s * steps.pixel + first_tap * steps.tap;
        const T* w = weights + first_tap * steps.weight_tap;
        T* out = p.out_at(n, r, s);
        const T* bias = p.bias;
        const bool streamed = ready.streamed, from_memory = ready.from_memory;
        const long all_rows = p.rows.taps, new_rows = p.rows.stride;
        const long new_columns = many.value * p.columns.stride;
        constexpr long line = 64 / sizeof(T);
        for_each_channels<T>(p.channels, [=](long c, auto count) {
            if (from_memory && c % line == 0)
                prefetch_next_row(pixels + c, steps, all_rows, new_rows, new_columns);
            correlate_pixels<T, many.value>(pixels + c, w + c, steps, rows, taps,
                                            bias ? get(bias + c, count) : Vector<T>{}, out + c,
                                            streamed, count);
        });
    };
    const auto partly = [&](long begin, long end) {
        for (long s = begin; s < end; s++) {
            const Inside& across = ready.columns[size_t(s)];
            results(s, std::integral_constant<int, 1>{}, across.last - across.first, across.first);
        }
    };
    // Several results share a load of the weights. The last ones overlap, which takes less time than
    // to do what is left one by one. Past the caches, lines are best completed few at a time.
    const auto wholly = [&](auto taps) {
        const auto cover = [&](auto many) {
            for (long s = ready.begin; s < ready.end; s += many)
                results(std::min(s, ready.end - many), many, taps, 0);
        };
        constexpr bool dense = !std::is_integral_v<decltype(taps)>;
        const long count = ready.end - ready.begin;
        if (dense && count >= 8 && !ready.streamed)
            cover(std::integral_constant<int, 8>{});
        else if (count >= 4)
            cover(std::integral_constant<int, 4>{});
        else
            cover(std::integral_constant<int, 1>{});
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

// Add to the gradients of J taps beside each other what they met in a row of pixels, times the
// gradients g of the row of results, each of which is read once for all of them.
template <class T, int J, class Count>
inline void add_met(const Correlation<T>& p, const T* pixels, const T* g, const Meeting* meeting,
                    T* to, Count count) {
    const long x_step = p.columns.stride * p.pitch, g_step = p.channels;
    const T* x[J];
    Vector<T> even[J], odd[J];
    long first = 0, last = p.columns.results;
    for (int j = 0; j < J; j++) {
        x[j] = pixels + meeting[j].offset * p.pitch;
        even[j] = get(to + j * p.channels, count), odd[j] = Vector<T>{};
        first = std::max(first, meeting[j].first), last = std::min(last, meeting[j].last);
    }
    last = std::max(first, last);
    long s = first;
    for (; s + 2 <= last; s += 2) {
        const Vector<T> g0 = get(g + s * g_step, count), g1 = get(g + (s + 1) * g_step, count);
        for (int j = 0; j < J; j++) {
            even[j] += get(x[j] + s * x_step, count) * g0;
            odd[j] += get(x[j] + (s + 1) * x_step, count) * g1;
        }
    }
    for (int j = 0; j < J; j++) {
        const auto add = [&](long begin, long end) {
            for (long k = begin; k < end; k++)
                even[j] += get(x[j] + k * x_step, count) * get(g + k * g_step, count);
        };
        add(meeting[j].first, std::min(first, meeting[j].last));
        add(s, last);
        add(std::max(last, meeting[j].first), meeting[j].last);
        put(to + j * p.channels, even[j] + odd[j], count);
    }
}

// The same for I rows of 3 taps side by side that move on by a pixel: each pixel is read once, and three
// gradients stay at hand as the window slides over them.
template <class T, int I, class Count>
inline void add_met_dense(const Correlation<T>& p, const T* pixels, const T* g, T* to, Count count) {
    const long row_step = p.w * p.pitch, x_step = p.pitch, w = p.w;
    const long g_step = p.channels, to_step = p.channels, left = -p.columns.origin;
    const long results = p.columns.results;
    Vector<T> sum[I][3];
    for (int i = 0; i < I; i++)
        for (int j = 0; j < 3; j++) sum[i][j] = get(to + (3 * i + j) * to_step, count);
    const long begin = std::clamp<long>(2 - left, 0, w);
    const long end = std::clamp<long>(results - left, begin, w);
    const auto add_partly = [&](long k) {
        for (int j = 0; j < 3; j++)
            if (const long s = k + left - j; s >= 0 && s < results)
                for (int i = 0; i < I; i++)
                    sum[i][j] += get(pixels + i * row_step + k * x_step, count) *
                                 get(g + s * g_step, count);
    };
    for (long k = 0; k < begin; k++) add_partly(k);
    if (begin < end) {
        Vector<T> g2 = get(g + (begin + left - 2) * g_step, count);
        Vector<T> g1 = get(g + (begin + left - 1) * g_step, count);
        for (long k = begin; k < end; k++) {
            const Vector<T> g0 = get(g + (k + left) * g_step, count);
            for (int i = 0; i < I; i++) {
                const Vector<T> x = get(pixels + i * row_step + k * x_step, count);
                sum[i][0] += x * g0, sum[i][1] += x * g1, sum[i][2] += x * g2;
            }
            g2 = g1, g1 = g0;
        }
    }
    for (long k = end; k < w; k++) add_partly(k);
    for (int i = 0; i < I; i++)
        for (int j = 0; j < 3; j++) put(to + (3 * i + j) * to_step, sum[i][j], count);
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

// The gradient of the weight of tap (i, j) and channel c is the sum over all results of what they
// met there, times their own gradients.
template <class T>
void grad_weight_depthwise(const Correlation<T>& p, const OutputGradient<T>& grad, T* grad_weight,
                           T* grad_bias) {
    const long taps = p.rows.taps * p.columns.taps, size = (taps + 1) * p.channels;
    const bool dense = p.columns.taps == 3 && p.columns.stride == 1 && p.columns.step == 1 &&
                       p.rows.step == 1;
    std::vector<Meeting> columns;
    for (long j = 0; j < p.columns.taps; j++) columns.emplace_back(p.columns, j, p.w);
    sum_over_bands<T>(p, size, [&](long image, long first, long results, T* sums) {
        Scratch<T> copy(grad.activation == Activation::none ? 0
                                                            : p.columns.results * p.channels);
        for (long r = first; r < first + results; r++) {
            const long at = (image * p.rows.results + r) * p.columns.results * p.channels;
            const T* g = grad.data + at;
            if (grad.activation != Activation::none) {
                activation_grad_here<T>(grad.activation, g, grad.y + at, copy,
                                        p.columns.results * p.channels);
                g = copy;
            }
            const Inside down = inside(p.rows, r, p.h);
            for_each_channels<T>(p.channels, [&](long c, auto count) {
                for (long i = down.first; i < down.last;) {
                    const long row = r * p.rows.stride + i * p.rows.step + p.rows.origin;
                    const T* pixels = p.in + (image * p.h + row) * p.w * p.pitch + c;
                    T* to = sums + i * p.columns.taps * p.channels + c;
                    if (dense) {
                        const long left = down.last - i;
                        if (left >= 3)
                            add_met_dense<T, 3>(p, pixels, g + c, to, count);
                        else if (left == 2)
                            add_met_dense<T, 2>(p, pixels, g + c, to, count);
                        else
                            add_met_dense<T, 1>(p, pixels, g + c, to, count);
                        i += std::min<long>(left, 3);
                        continue;
                    }
                    long j = 0;
                    for (; j + 3 <= p.columns.taps; j += 3)
                        add_met<T, 3>(p, pixels, g + c, &columns[j], to + j * p.channels, count);
                    for (; j < p.columns.taps; j++)
                        add_met<T, 1>(p, pixels, g + c, &columns[j], to + j * p.channels, count);
                    i++;
                }
                T* to = sums + taps * p.channels + c;
                Vector<T> total = get(to, count);
                for (long s = 0; s < p.columns.results; s++)
                    total += get(g + s * p.channels + c, count);
                put(to, total, count);
            });
        }
    }, [&](const T* sums) {
        std::copy_n(sums, taps * p.channels, grad_weight);
        if (grad_bias) std::copy_n(sums + taps * p.channels, p.channels, grad_bias);
    });
}

#define INSTANTIATE(T)                                                                        \
    template void correlate_depthwise<T>(const std::vector<Correlation<T>>&);                  \
    template void grad_weight_depthwise<T>(const Correlation<T>&, const OutputGradient<T>&, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
