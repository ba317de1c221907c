// Depthwise convolution: each channel has a window of its own, so that a vector of channels meets a
// vector of weights and nothing is summed across channels.

#include "band.h"
#include "conv2d_grad.h"
#include "correlate.h"

namespace {

constexpr int pixels_at_once = 4;  // results that share a load of the weights

template <class T, int M, class Get, class Put>
inline void correlate_pixels(const Correlation<T>& p, const T* a, long row_step, long pixel_step,
                             const T* weights, Vector<T> bias, T* out, long out_step, Get get,
                             Put put) {
    Vector<T> sum[M];
    for (int m = 0; m < M; m++) sum[m] = bias;
    const long a_step = p.columns.stride * pixel_step;
    for (long i = 0; i < p.rows.taps; i++)
        for (long j = 0; j < p.columns.taps; j++, weights += p.channels) {
            const Vector<T> w = get(weights);
            const T* tap = a + i * row_step + j * p.columns.step * pixel_step;
            for (int m = 0; m < M; m++) sum[m] += get(tap + m * a_step) * w;
        }
    for (int m = 0; m < M; m++) put(out + m * out_step, sum[m]);
}

}  // namespace

template <class T>
void correlate_depthwise(const Correlation<T>& p) {
    Scratch<T> weights(p.rows.taps * p.columns.taps * p.channels);
    T* to = weights;
    for (long i = 0; i < p.rows.taps; i++)
        for (long j = 0; j < p.columns.taps; j++)
            for (long c = 0; c < p.channels; c++)
                *to++ = p.weight[i * p.weight_row + j * p.weight_column + c * p.weight_output];
    for_each_band(p, [&](long image, long first, long results) {
        Scratch<T> buffer(needs_copy(p) ? band_size(p, results) : 0);
        const Band<T> band = take_band<T>(p, image, first, results, buffer);
        const long out_step = p.columns.out_step * p.out_pitch;
        const long a_step = p.columns.stride * band.pixel_step;
        for (long r = 0; r < results; r++) {
            const T* row = band.data + r * p.rows.stride * band.row_step;
            T* out = p.out_at(image, first + r, 0);
            for_each_vector<T>(p.channels, [&](long c, auto get, auto put) {
                const Vector<T> bias = p.bias ? get(p.bias + c) : Vector<T>{};
                long s = 0;
                for (; s + pixels_at_once <= p.columns.results; s += pixels_at_once)
                    correlate_pixels<T, pixels_at_once>(
                        p, row + s * a_step + c, p.rows.step * band.row_step, band.pixel_step,
                        weights + c, bias, out + s * out_step + c, out_step, get, put);
                for (; s < p.columns.results; s++)
                    correlate_pixels<T, 1>(p, row + s * a_step + c, p.rows.step * band.row_step,
                                           band.pixel_step, weights + c, bias,
                                           out + s * out_step + c, out_step, get, put);
            });
            activate_row(p, image, first + r);
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
