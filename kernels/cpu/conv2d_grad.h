// The gradient of a convolution's weight: what each tap met, times the gradients of the results.
#pragma once

#include "band.h"
#include "correlate.h"

// The gradient of the results, (N, P, Q, pitch), of which some columns belong to this group; unless
// `activation` is `none` it is that after an activation whose output was y.
template <class T>
struct OutputGradient {
    const T* data;
    const T* y;
    Activation activation;
    long pitch;
};

// Here a Correlation stands for the geometry alone: the image and how the window lies on it. Its
// `weight_*` say how the gradient of the weight is laid out; `weight` and `out` are not looked at.
template <class T>
void grad_weight_direct(const Correlation<T>&, const OutputGradient<T>&, T* grad_weight,
                        T* grad_bias);
template <class T>
void grad_weight_depthwise(const Correlation<T>&, const OutputGradient<T>&, T* grad_weight,
                           T* grad_bias);
template <class T>
void grad_weight_few_outputs(const Correlation<T>&, const OutputGradient<T>&, T* grad_weight,
                             T* grad_bias);
bool winograd_grad_weight_pays(const Correlation<float>&);
void grad_weight_winograd(const Correlation<float>&, const OutputGradient<float>&,
                          float* grad_weight, float* grad_bias);

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

// Add up over bands: body(image, first, results, sums) adds to `sums`, which has `size` elements
// and begins as zeros; finish(sums) takes the total. The bands are dealt out to as many sums as
// there are threads, always in the same way, and the sums are added in the same order. What the
// bands of about `summed_apart` results add up to is kept apart and then added as one: short sums of
// short sums round less than a long one.
template <class T, class Body, class Finish>
inline void sum_over_bands(const Correlation<T>& p, long size, Body body, Finish finish) {
    const long most = band_results(p);
    const long bands = (p.rows.results + most - 1) / most, tasks = p.n * bands;
    const long parts = std::clamp<long>(tasks, 1, get_num_threads());
    constexpr long summed_apart = 1024;
    const bool apart = p.n * p.rows.results * p.columns.results > 2 * summed_apart * parts;
    Scratch<T> sums(parts * size), recent(apart ? parts * size : 0);
    for_each_task(parts, [&](long part) {
        T* own = sums + part * size;
        T* to = apart ? recent + part * size : own;
        std::fill_n(own, size, T(0));
        if (apart) std::fill_n(to, size, T(0));
        long added = 0;
        const long end = part_begin(tasks, part + 1, parts);
        for (long task = part_begin(tasks, part, parts); task < end; task++) {
            const long band = task % bands, first = part_begin(p.rows.results, band, bands);
            const long results = part_begin(p.rows.results, band + 1, bands) - first;
            body(task / bands, first, results, to);
            added += results * p.columns.results;
            if (apart && (added >= summed_apart || task + 1 == end)) {
                for (long k = 0; k < size; k++) own[k] += to[k], to[k] = T(0);
                added = 0;
            }
        }
    });
    for_each_range(size, 1 << 14, [&](long begin, long end) {
        for (long part = 1; part < parts; part++)
            for (long k = begin; k < end; k++) sums[k] += sums[part * size + k];
    });
    finish((const T*)sums);
}
