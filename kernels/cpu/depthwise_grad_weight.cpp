// The gradient of a depthwise convolution's weight: vectors of channels, as in depthwise.cpp.

#include <vector>

#include "channels.h"
#include "conv2d_grad.h"
#include "tile.h"

namespace {

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

// The same for 3 taps side by side, that move on by a pixel, in each of I rows: each pixel is read once,
// and three gradients stay at hand as the window slides over them.
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
                const auto pixels = [&](long i) {
                    const long row = r * p.rows.stride + i * p.rows.step + p.rows.origin;
                    return p.in + (image * p.h + row) * p.w * p.pitch + c;
                };
                const auto sum = [&](long i, long j) {
                    return sums + (i * p.columns.taps + j) * p.channels + c;
                };
                for (long i = down.first; dense && i < down.last; i += 3)
                    with_rows<3>(std::min<long>(down.last - i, 3), [&](auto rows) {
                        add_met_dense<T, rows.value>(p, pixels(i), g + c, sum(i, 0), count);
                    });
                for (long i = down.first; !dense && i < down.last; i++) {
                    long j = 0;
                    for (; j + 3 <= p.columns.taps; j += 3)
                        add_met<T, 3>(p, pixels(i), g + c, &columns[j], sum(i, j), count);
                    for (; j < p.columns.taps; j++)
                        add_met<T, 1>(p, pixels(i), g + c, &columns[j], sum(i, j), count);
                }
                T* to = sums + taps * p.channels + c;
                Vector<T> total{};  // of the row: short sums round less than a long one
                for (long s = 0; s < p.columns.results; s++)
                    total += get(g + s * p.channels + c, count);
                put(to, get(to, count) + total, count);
            });
        }
    }, [&](const T* sums) {
        std::copy_n(sums, taps * p.channels, grad_weight);
        if (grad_bias) std::copy_n(sums + taps * p.channels, p.channels, grad_bias);
    });
}

template void grad_weight_depthwise<float>(const Correlation<float>&, const OutputGradient<float>&,
                                           float*, float*);
template void grad_weight_depthwise<double>(const Correlation<double>&,
                                            const OutputGradient<double>&, double*, double*);
