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

// The results [s, s + M) of a row, of which all see the same taps: in rows `down`, columns `across`.
template <class T, int M, class Count>
inline void correlate_pixels(const Correlation<T>& p, const T* image, long row, long s,
                             const Inside& down, const Inside& across, const T* weights, long c,
                             Vector<T> bias, T* out, bool streamed, Count count) {
    Vector<T> sum[M];
    for (int m = 0; m < M; m++) sum[m] = bias;
    const long a_step = p.columns.stride * p.pitch, out_step = p.columns.out_step * p.out_pitch;
    for (long i = down.first; i < down.last; i++) {
        const T* a = image + ((row + i * p.rows.step) * p.w + s * p.columns.stride +
                              p.columns.origin + across.first * p.columns.step) * p.pitch + c;
        const T* w = weights + (i * p.columns.taps + across.first) * p.channels + c;
        for (long j = across.first; j < across.last; j++) {
            const Vector<T> wj = get(w, count);
            for (int m = 0; m < M; m++) sum[m] += get(a + m * a_step, count) * wj;
            a += p.columns.step * p.pitch, w += p.channels;
        }
    }
    for (int m = 0; m < M; m++) write<T>(out + m * out_step, sum[m], streamed, count);
}

inline Inside inside(const Axis& a, long r, long pixels) {
    return Inside(r, a.stride, -a.origin, a.taps, a.step, pixels);
}

// A correlation with its weights tap after tap; which taps the results of a row see, of which those in
// [begin, end) see all; and whether results are written past the caches.
template <class T>
struct Ready {
    Correlation<T> p;
    const T* weights;
    std::vector<Inside> columns;
    long begin, end;
    bool streamed;

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
        const long bytes = p.n * p.out_h * p.out_w * p.out_pitch * long(sizeof(T));
        streamed = aligned && bytes > beyond_caches && p.activation == Activation::none;
    }
};

// A row of results, whose taps meet rows `down`, several results at a time.
template <class T>
void correlate_row(const Ready<T>& ready, long n, long r, const Inside& down) {
    const Correlation<T>& p = ready.p;
    constexpr long at_once = 4;  // results that share a load of the weights
    const T* image = p.in + n * p.h * p.w * p.pitch;
    const long row = r * p.rows.stride + p.rows.origin;
    for (long s = 0; s < p.columns.results;) {
        const Inside& across = ready.columns[size_t(s)];
        const bool several = s >= ready.begin && s + at_once <= ready.end;
        T* out = p.out_at(n, r, s);
        for_each_channels<T>(p.channels, [&](long c, auto count) {
            const Vector<T> bias = p.bias ? get(p.bias + c, count) : Vector<T>{};
            if (several)
                correlate_pixels<T, at_once>(p, image, row, s, down, across, ready.weights, c, bias,
                                             out + c, ready.streamed, count);
            else
                correlate_pixels<T, 1>(p, image, row, s, down, across, ready.weights, c, bias,
                                       out + c, ready.streamed, count);
        });
        s += several ? at_once : 1;
    }
}

// All channels of a result: what it was (0 where `from` is null) and what some taps of a row meet. The
// number of taps may be a constant to the compiler.
template <class T, class Taps>
inline void add_taps(const T* pixels, long tap_step, Taps taps, const T* weights, long channels,
                     const T* from, T* to, bool streamed) {
    for_each_channels<T>(channels, [=](long c, auto count) {
        Vector<T> sum = from ? get(from + c, count) : Vector<T>{};
        for (long j = 0; j < taps; j++)
            sum += get(pixels + j * tap_step + c, count) * get(weights + j * channels + c, count);
        write<T>(to + c, sum, streamed, count);
    });
}

// The same with a stride, when most of an image is read once, and from memory. That is fastest from
// one end of a row to the other: one row of taps after the other is added to the results, which stay
// in the cache meanwhile, in `buffer` if they are to be streamed.
template <class T>
void correlate_strided_row(const Ready<T>& ready, long n, long r, const Inside& down, T* buffer) {
    const Correlation<T>& p = ready.p;
    const long tap_step = p.columns.step * p.pitch;
    for (long i = down.first; i < down.last; i++) {
        const long row = r * p.rows.stride + p.rows.origin + i * p.rows.step;
        const T* line = p.in + ((n * p.h + row) * p.w + p.columns.origin) * p.pitch;
        const T* weights = ready.weights + i * p.columns.taps * p.channels;
        const bool last = i + 1 == down.last;
        for (long s = 0; s < p.columns.results; s++) {
            const Inside& across = ready.columns[size_t(s)];
            const T* pixels = line + s * p.columns.stride * p.pitch + across.first * tap_step;
            const T* w = weights + across.first * p.channels;
            T* out = p.out_at(n, r, s);
            T* partial = ready.streamed ? buffer + s * p.channels : out;
            const T* from = i == down.first ? p.bias : partial;
            T* to = last ? out : partial;
            const bool streamed = last && ready.streamed;
            if (const long taps = across.last - across.first; taps == 3)
                add_taps(pixels, tap_step, std::integral_constant<long, 3>{}, w, p.channels, from,
                         to, streamed);
            else
                add_taps(pixels, tap_step, taps, w, p.channels, from, to, streamed);
        }
    }
}

// The results [first, last) of a row whose tap in column j meets pixels, and how far from pixel
// s * stride that is.
struct Meeting {
    long first, last, offset;
    Meeting(const Axis& a, long j, long pixels) : offset(j * a.step + a.origin) {
        first = offset < 0 ? (-offset + a.stride - 1) / a.stride : 0;
        last = offset < pixels ? std::min((pixels - 1 - offset) / a.stride + 1, a.results) : 0;
        last = std::max(first, last);
    }
};

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
    bool streamed = false;
    T* to = weights;
    for (const Correlation<T>& p : parts) {
        ready.emplace_back(p, to);
        streamed |= ready.back().streamed;
        if (one.gate != Activation::none) ready.back().p.in = gated;
        to += p.rows.taps * p.columns.taps * p.channels;
    }
    for_each_range(one.n * rows, 1 + (1 << 13) / (pixels * one.channels + 1),
                   [&](long first, long last) {
        Scratch<T> buffer(streamed ? pixels * one.channels : 0);
        for (long task = first; task < last; task++)
            for (const Ready<T>& part : ready)
                if (const long n = task / rows, r = task % rows; r < part.p.rows.results) {
                    const Inside down = inside(part.p.rows, r, part.p.h);
                    if (part.p.columns.stride > 1 && down.last > down.first)
                        correlate_strided_row<T>(part, n, r, down, buffer);
                    else
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
            for_each_channels<T>(p.channels, [&](long c, auto count) {
                for (long i = 0; i < p.rows.taps; i++) {
                    const long row = r * p.rows.stride + i * p.rows.step + p.rows.origin;
                    if (row < 0 || row >= p.h) continue;
                    const T* pixels = p.in + (image * p.h + row) * p.w * p.pitch + c;
                    T* to = sums + i * p.columns.taps * p.channels + c;
                    long j = 0;
                    for (; j + 3 <= p.columns.taps; j += 3)
                        add_met<T, 3>(p, pixels, g + c, &columns[j], to + j * p.channels, count);
                    for (; j < p.columns.taps; j++)
                        add_met<T, 1>(p, pixels, g + c, &columns[j], to + j * p.channels, count);
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
