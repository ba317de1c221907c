#include "conv2d.h"

#include <numeric>

#include "conv2d_grad.h"
#include "correlate.h"
#include "parallel.h"
#include "tile.h"

namespace {

// A convolution's own geometry, of one group: the window slides over x.
template <class T>
Correlation<T> over_input(const ConvShape& s, const T* x, long group) {
    const long channels = s.c / s.groups, outputs = s.o / s.groups;
    Correlation<T> p{};
    p.in = x + group * channels;
    p.n = s.n, p.h = s.h, p.w = s.w, p.channels = channels, p.pitch = s.c;
    p.rows = {s.p, s.kh, s.stride_h, s.dilation_h, -s.top};
    p.columns = {s.q, s.kw, s.stride_w, s.dilation_w, -s.left};
    p.weight_row = s.kw * channels * s.o, p.weight_column = channels * s.o;
    p.weight_channel = s.o, p.weight_output = 1;
    p.out_h = s.p, p.out_w = s.q, p.outputs = outputs, p.out_pitch = s.o;
    return p;
}

// How the window of the input's gradient lies along an axis, for the pixels `phase`, `phase` +
// stride, ...: pixel h = phase + r * stride collects from result r + (phase + padding - i *
// dilation) / stride through each tap i for which that is a whole number. These are every
// `stride / gcd`-th tap from `tap` on; `taps` of them, in reverse order. 0 where there is none.
struct Phase {
    Axis axis;
    long last_tap, tap_step;
};

Phase phase_of(long phase, long pixels, long taps, long stride, long padding, long dilation) {
    const long gcd = std::gcd(stride, dilation), tap_step = stride / gcd;
    long tap = 0;
    while (tap < std::min(tap_step, taps) && (phase + padding - tap * dilation) % stride != 0) tap++;
    const long count = tap < std::min(tap_step, taps) ? (taps - tap - 1) / tap_step + 1 : 0;
    const long step = dilation / gcd;
    const long origin = (phase + padding - tap * dilation) / stride - (count - 1) * step;
    const long results = phase < pixels ? (pixels - phase - 1) / stride + 1 : 0;
    return {{results, count, 1, step, origin, phase, stride}, tap + (count - 1) * tap_step, tap_step};
}

template <class T>
void zero_results(const Correlation<T>& p) {
    for_each_task(p.n * p.rows.results, [&](long task) {
        for (long s = 0; s < p.columns.results; s++)
            std::fill_n(p.out_at(task / p.rows.results, task % p.rows.results, s), p.outputs, T(0));
    });
}

// A window of one pixel needs no rows: all images can be rows of another length, as many as the threads
// want, and so short that a row stays in a core's cache while each panel of weights goes past it.
template <class T>
void flatten(Correlation<T>& p) {
    const auto single = [](const Axis& a, long pixels) {
        return a.taps == 1 && a.stride == 1 && a.origin == 0 && a.results == pixels &&
               a.out_start == 0 && a.out_step == 1;
    };
    if (!single(p.rows, p.h) || !single(p.columns, p.w) || p.out_h != p.h || p.out_w != p.w) return;
    constexpr long cache = 192 << 10, least = 4 * tile_rows;  // pixels in a row
    const long pixels = p.n * p.h * p.w, bytes = pixels * (p.channels + p.outputs) * long(sizeof(T));
    long rows = std::max<long>(2 * get_num_threads(), (bytes + cache - 1) / cache);
    while (rows * least <= pixels && pixels % rows != 0) rows++;
    if (rows * least > pixels) return;
    p.n = 1, p.h = rows, p.w = pixels / rows;
    p.rows.results = p.out_h = p.h, p.columns.results = p.out_w = p.w;
}

}  // namespace

template <class T>
void correlate(const Correlation<T>& given) {
    if (given.n * given.rows.results * given.columns.results * given.outputs == 0) return;
    Correlation<T> p = given;
    flatten(p);
    if (few_outputs_pay(p)) return correlate_few_outputs(p);
    if constexpr (sizeof(T) == sizeof(float)) {
        if (winograd_pays(p)) return correlate_winograd(p);
        if (winograd_rows_pay(p)) return correlate_winograd_rows(p);
    }
    correlate_direct(p);
}

template <class T>
void conv2d(const ConvShape& s, const T* x, const T* weight, const T* bias, Activation activation,
            T* y) {
    conv2d<T>(s, x, weight, bias, nullptr, activation, y, nullptr);
}

template <class T>
void conv2d(const ConvShape& s, const T* x, const T* weight, const T* bias, const T* addend,
            Activation activation, T* y, PackedWeights<T>* kept) {
    const bool depthwise = is_depthwise(s);
    for (long group = 0; group < (depthwise ? 1 : s.groups); group++) {
        Correlation<T> p = over_input(s, x, group);
        const long first = group * p.outputs;
        p.weight = weight + first, p.bias = bias ? bias + first : nullptr;
        p.out = y + first, p.activation = activation;
        p.addend = addend ? addend + first : nullptr, p.kept = kept ? kept + group : nullptr;
        if (depthwise) {
            p.channels = p.outputs = s.c;
            p.weight_row = s.kw * s.c, p.weight_column = s.c;
            correlate_depthwise<T>({p});
        } else {
            correlate(p);
        }
    }
}

template <class T>
void conv2d_grad_input(const ConvShape& s, const T* grad_output, const T* y, Activation activation,
                       const T* weight, T* grad_input) {
    const long channels = s.c / s.groups, outputs = s.o / s.groups;
    const bool depthwise = is_depthwise(s);
    const long row = s.kw * channels * s.o, column = channels * s.o;
    std::vector<Correlation<T>> parts;
    for (long a = 0; a < std::min(s.stride_h, s.h); a++)
        for (long b = 0; b < std::min(s.stride_w, s.w); b++) {
            const Phase down = phase_of(a, s.h, s.kh, s.stride_h, s.top, s.dilation_h);
            const Phase across = phase_of(b, s.w, s.kw, s.stride_w, s.left, s.dilation_w);
            Correlation<T> p{};
            p.n = s.n, p.h = s.p, p.w = s.q, p.pitch = s.o;
            p.rows = down.axis, p.columns = across.axis;
            p.weight_row = -down.tap_step * row, p.weight_column = -across.tap_step * column;
            p.gate = activation;
            p.out_h = s.h, p.out_w = s.w, p.out_pitch = s.c;
            const bool touched = down.axis.taps > 0 && across.axis.taps > 0 && s.p > 0 && s.q > 0;
            for (long group = 0; group < (depthwise ? 1 : s.groups); group++) {
                p.in = grad_output + group * outputs;
                p.gate_output = y ? y + group * outputs : nullptr;
                p.channels = depthwise ? s.c : outputs, p.outputs = depthwise ? s.c : channels;
                p.weight_channel = 1, p.weight_output = depthwise ? 1 : s.o;
                p.out = grad_input + group * channels;
                if (!touched || p.channels == 0) {
                    zero_results(p);
                    continue;
                }
                p.weight = weight + down.last_tap * row + across.last_tap * column + group * outputs;
                if (depthwise)
                    parts.push_back(p);
                else
                    correlate(p);
            }
        }
    correlate_depthwise(parts);
}

template <class T>
void conv2d_grad_weight(const ConvShape& s, const T* grad_output, const T* y, Activation activation,
                        const T* x, T* grad_weight, T* grad_bias) {
    const bool depthwise = is_depthwise(s);
    for (long group = 0; group < (depthwise ? 1 : s.groups); group++) {
        Correlation<T> p = over_input(s, x, group);
        const long first = group * p.outputs;
        const OutputGradient<T> grad = {grad_output + first, y ? y + first : nullptr, activation,
                                        s.o};
        T* bias = grad_bias ? grad_bias + first : nullptr;
        if (depthwise) {
            p.channels = p.outputs = s.c;
            grad_weight_depthwise(p, grad, grad_weight, bias);
            continue;
        }
        if (few_outputs_pay(p)) {
            grad_weight_few_outputs(p, grad, grad_weight + first, bias);
            continue;
        }
        if constexpr (sizeof(T) == sizeof(float))
            if (winograd_grad_weight_pays(p)) {
                grad_weight_winograd(p, grad, grad_weight + first, bias);
                continue;
            }
        grad_weight_direct(p, grad, grad_weight + first, bias);
    }
}

#define INSTANTIATE(T)                                                                           \
    template void correlate<T>(const Correlation<T>&);                                           \
    template void conv2d<T>(const ConvShape&, const T*, const T*, const T*, Activation, T*);     \
    template void conv2d<T>(const ConvShape&, const T*, const T*, const T*, const T*,            \
                            Activation, T*, PackedWeights<T>*);                                  \
    template void conv2d_grad_input<T>(const ConvShape&, const T*, const T*, Activation,         \
                                       const T*, T*);                                            \
    template void conv2d_grad_weight<T>(const ConvShape&, const T*, const T*, Activation,        \
                                        const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
