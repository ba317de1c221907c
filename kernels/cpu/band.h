// Bands: the rows of an image that some rows of results need.
#pragma once

#include <algorithm>

#include "channels.h"
#include "correlate.h"
#include "parallel.h"
#include "scratch.h"

// Where the pixels of a band lie: pixel (i, j) at data[i * row_step + j * pixel_step].
template <class T>
struct Band {
    const T* data;
    long row_step, pixel_step;
};

// How many pixels `results` results need along an axis.
inline long reach(const Axis& axis, long results) {
    return (results - 1) * axis.stride + (axis.taps - 1) * axis.step + 1;
}

inline bool leaves(const Axis& axis, long pixels) {
    return axis.origin < 0 || axis.origin + reach(axis, axis.results) > pixels;
}

// The taps of result r that meet pixels.
inline Inside inside(const Axis& axis, long r, long pixels) {
    return Inside(r, axis.stride, -axis.origin, axis.taps, axis.step, pixels);
}

// Whether a band must be copied: where the window leaves the image there are no zeros to meet.
template <class T>
inline bool needs_copy(const Correlation<T>& p) {
    return p.gate != Activation::none || leaves(p.rows, p.h) || leaves(p.columns, p.w);
}

template <class T>
inline long band_size(const Correlation<T>& p, long results) {
    return reach(p.rows, results) * reach(p.columns, p.columns.results) * p.channels;
}

// Copy `count` pixels, multiplied by the gate, to one after the other.
template <class T>
inline void copy_pixels(const Correlation<T>& p, const T* from, T* to, long count) {
    const T* gate = p.gate_output ? p.gate_output + (from - p.in) : nullptr;
    if (p.channels == p.pitch)
        activation_grad_here(p.gate, from, gate, to, count * p.channels);
    else
        for (long j = 0; j < count; j++)
            activation_grad_here(p.gate, from + j * p.pitch, gate ? gate + j * p.pitch : nullptr,
                                 to + j * p.channels, p.channels);
}

// Copy `height` x `width` pixels from (row, column) on, zeros where they lie outside the image.
template <class T>
inline void copy_patch(const Correlation<T>& p, long image, long row, long column, long height,
                       long width, T* to) {
    const long before = std::clamp<long>(-column, 0, width);
    const long behind = std::clamp<long>(column + width - p.w, 0, width - before);
    const long inside = width - before - behind;
    for (long i = row; i < row + height; i++, to += width * p.channels) {
        if (i < 0 || i >= p.h || inside == 0) {
            std::fill_n(to, width * p.channels, T(0));
            continue;
        }
        std::fill_n(to, before * p.channels, T(0));
        copy_pixels(p, p.in + ((image * p.h + i) * p.w + column + before) * p.pitch,
                    to + before * p.channels, inside);
        std::fill_n(to + (before + inside) * p.channels, behind * p.channels, T(0));
    }
}

// The band that `results` rows of results from `first` on need, where it lies or in `buffer`.
template <class T>
inline Band<T> take_band(const Correlation<T>& p, long image, long first, long results, T* buffer) {
    const long row = first * p.rows.stride + p.rows.origin;
    if (!needs_copy(p))
        return {p.in + ((image * p.h + row) * p.w + p.columns.origin) * p.pitch, p.w * p.pitch,
                p.pitch};
    const long width = reach(p.columns, p.columns.results);
    copy_patch(p, image, row, p.columns.origin, reach(p.rows, results), width, buffer);
    return {buffer, width * p.channels, p.channels};
}

// How many rows of results go into a band: it shall fit a core's cache with what is computed from
// it, and there shall be a few bands for each thread.
template <class T>
inline long band_results(const Correlation<T>& p) {
    constexpr long cache = 192 << 10;
    const long row_bytes = (p.rows.stride * reach(p.columns, p.columns.results) * p.channels +
                            p.columns.results * p.outputs) * long(sizeof(T));
    const long fit = std::max<long>(cache / std::max<long>(row_bytes, 1), 1);
    const long share = (p.n * p.rows.results + 4 * get_num_threads() - 1) / (4 * get_num_threads());
    return std::clamp<long>(std::min(fit, share), 1, p.rows.results);
}

// Call f(image, first, results) for bands that together are all rows of results.
template <class T, class F>
inline void for_each_band(const Correlation<T>& p, F f) {
    const long most = band_results(p);
    const long bands = (p.rows.results + most - 1) / most;
    for_each_task(p.n * bands, [&](long task) {
        const long band = task % bands;
        const long first = part_begin(p.rows.results, band, bands);
        f(task / bands, first, part_begin(p.rows.results, band + 1, bands) - first);
    });
}

template <class T>
inline void add_to(const T* addend, long count, T* to) {
    for_each_vector<T>(count, [=](long i, auto get, auto put) {
        put(to + i, get(to + i) + get(addend + i));
    });
}

// Add the addend and apply the activation to a row of results, which is still in the cache.
template <class T>
inline void activate_row(const Correlation<T>& p, long image, long r) {
    if (p.addend) {
        for (long s = 0; s < p.columns.results; s++) {
            T* to = p.out_at(image, r, s);
            add_to(p.addend_at(to), p.outputs, to);
        }
    }
    if (p.activation == Activation::none) return;
    if (p.outputs == p.out_pitch && p.columns.out_step == 1)
        return activate_here(p.activation, p.out_at(image, r, 0), p.columns.results * p.outputs);
    for (long s = 0; s < p.columns.results; s++)
        activate_here(p.activation, p.out_at(image, r, s), p.outputs);
}
