// Depthwise convolution: each channel has a window of its own, so that a vector of channels meets a
// vector of weights and nothing is summed across channels.

#include "band.h"
#include "channels.h"
#include "conv2d_grad.h"
#include "correlate.h"

namespace {

// The results [s, s + M) of a row, of which all see the same taps: in rows `down`, columns `across`.
template <class T, int M, class Count>
inline void correlate_pixels(const Correlation<T>& p, const T* image, long row, long s,
                             const Inside& down, const Inside& across, const T* weights, long c,
                             Vector<T> bias, T* out, Count count) {
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
    for (int m = 0; m < M; m++) put(out + m * out_step, sum[m], count);
}

}  // namespace

template <class T>
void correlate_depthwise(const Correlation<T>& given) {
    Correlation<T> p = given;
    const long taps = p.rows.taps * p.columns.taps, size = p.n * p.h * p.w * p.pitch;
    Scratch<T> weights(taps * p.channels), gated(p.gate == Activation::none ? 0 : size);
    T* to = weights;
    for (long i = 0; i < p.rows.taps; i++)
        for (long j = 0; j < p.columns.taps; j++)
            for (long c = 0; c < p.channels; c++)
                *to++ = p.weight[i * p.weight_row + j * p.weight_column + c * p.weight_output];
    if (p.gate != Activation::none) {
        activation_grad<T>(p.gate, p.in, p.gate_output, gated, size);
        p.in = gated;
    }
    const auto inside = [](const Axis& a, long r, long pixels) {
        return Inside(r, a.stride, -a.origin, a.taps, a.step, pixels);
    };
    // Of the results of a row, those in the middle see all columns of taps.
    long begin = 0, end = p.columns.results;
    while (begin < end && inside(p.columns, begin, p.w).first > 0) begin++;
    while (end > begin && inside(p.columns, end - 1, p.w).last < p.columns.taps) end--;
    constexpr long at_once = 4;  // results that share a load of the weights
    for_each_range(p.n * p.rows.results, 1 + (1 << 13) / (p.columns.results * p.channels + 1),
                   [&](long first, long last) {
        for (long task = first; task < last; task++) {
            const long n = task / p.rows.results, r = task % p.rows.results;
            const Inside down = inside(p.rows, r, p.h);
            const T* image = p.in + n * p.h * p.w * p.pitch;
            const long row = r * p.rows.stride + p.rows.origin;
            const long out_step = p.columns.out_step * p.out_pitch;
            T* out = p.out_at(n, r, 0);
            for (long s = 0; s < p.columns.results;) {
                const Inside across = inside(p.columns, s, p.w);
                const bool several = s >= begin && s + at_once <= end;
                for_each_channels<T>(p.channels, [&](long c, auto count) {
                    const Vector<T> bias = p.bias ? get(p.bias + c, count) : Vector<T>{};
                    T* to = out + s * out_step + c;
                    if (several)
                        correlate_pixels<T, at_once>(p, image, row, s, down, across, weights, c,
                                                     bias, to, count);
                    else
                        correlate_pixels<T, 1>(p, image, row, s, down, across, weights, c, bias, to,
                                               count);
                });
                s += several ? at_once : 1;
            }
            activate_row(p, n, r);
        }
    });
}

// The gradient of the weight of tap (i, j) and channel c is the sum over all results of what they
// met there, times their own gradients.
template <class T>
void grad_weight_depthwise(const Correlation<T>& p, const OutputGradient<T>& grad, T* grad_weight,
                           T* grad_bias) {
    const long taps = p.rows.taps * p.columns.taps, size = (taps + 1) * p.channels;
    sum_over_bands<T>(p, size, [&](long image, long first, long results, T* sums) {
        Scratch<T> buffer(needs_copy(p) ? band_size(p, results) : 0);
        const Band<T> band = take_band<T>(p, image, first, results, buffer);
        Scratch<T> copy(grad.activation == Activation::none ? 0
                                                            : p.columns.results * p.channels);
        for (long r = 0; r < results; r++) {
            const long at = (image * p.rows.results + first + r) * p.columns.results * p.channels;
            const T* g = grad.data + at;
            if (grad.activation != Activation::none) {
                activation_grad_here<T>(grad.activation, g, grad.y + at, copy,
                                        p.columns.results * p.channels);
                g = copy;
            }
            const T* row = band.data + r * p.rows.stride * band.row_step;
            const long a_step = p.columns.stride * band.pixel_step;
            for_each_vector<T>(p.channels, [&](long c, auto get, auto put) {
                for (long i = 0; i < p.rows.taps; i++)
                    for (long j = 0; j < p.columns.taps; j++) {
                        T* to = sums + (i * p.columns.taps + j) * p.channels + c;
                        const T* tap = row + i * p.rows.step * band.row_step +
                                       j * p.columns.step * band.pixel_step + c;
                        Vector<T> even = get(to), odd{};
                        long s = 0;
                        for (; s + 2 <= p.columns.results; s += 2) {
                            even += get(tap + s * a_step) * get(g + s * p.channels + c);
                            odd += get(tap + (s + 1) * a_step) * get(g + (s + 1) * p.channels + c);
                        }
                        if (s < p.columns.results)
                            even += get(tap + s * a_step) * get(g + s * p.channels + c);
                        put(to, even + odd);
                    }
                T* to = sums + taps * p.channels + c;
                Vector<T> total = get(to);
                for (long s = 0; s < p.columns.results; s++) total += get(g + s * p.channels + c);
                put(to, total);
            });
        }
    }, [&](const T* sums) {
        std::copy_n(sums, taps * p.channels, grad_weight);
        if (grad_bias) std::copy_n(sums + taps * p.channels, p.channels, grad_bias);
    });
}

#define INSTANTIATE(T)                                                                        \
    template void correlate_depthwise<T>(const Correlation<T>&);                              \
    template void grad_weight_depthwise<T>(const Correlation<T>&, const OutputGradient<T>&, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
