// What convolution and its input gradient have in common: a window slides over an image.
//
// The input gradient of a convolution is a convolution of the output's gradient with the window
// turned round. With a stride s every s-th row (and column) of pixels meets its own part of the
// window's taps, so that it is s x s convolutions of stride 1, each writing every s-th pixel.
#pragma once

#include <vector>

#include "activation.h"
#include "packed_weights.h"

// How the window lies along one axis: result r, tap i meets pixel r * stride + i * step + origin,
// and the result goes to place out_start + r * out_step.
struct Axis {
    long results, taps, stride, step, origin;
    long out_start = 0, out_step = 1;
};

template <class T>
struct Correlation {
    // The image: (n, h, w, pitch), of which `channels` from `in` on are seen. Unless `gate` is
    // `none`, each pixel is first multiplied by the derivative of that activation, known from
    // `gate_output`, which has the image's layout.
    const T* in;
    long n, h, w, channels, pitch;
    Activation gate = Activation::none;
    const T* gate_output = nullptr;

    Axis rows, columns;

    // The weight of tap (i, j) from channel c to output o; the steps may be negative.
    const T* weight;
    long weight_row, weight_column, weight_channel, weight_output;

    // The result: (n, out_h, out_w, out_pitch), of which `outputs` from `out` on are written.
    T* out;
    long out_h, out_w, outputs, out_pitch;
    const T* bias = nullptr;  // (outputs)
    // Added before the activation, unless null; laid out as the result. Not by the depthwise kernel.
    const T* addend = nullptr;
    Activation activation = Activation::none;

    // Where packed weights are kept from call to call, unless null.
    PackedWeights<T>* kept = nullptr;

    T weight_at(long i, long j, long c, long o) const {
        return weight[i * weight_row + j * weight_column + c * weight_channel + o * weight_output];
    }
    const T* addend_at(const T* result) const { return addend ? addend + (result - out) : nullptr; }
    T* out_at(long image, long r, long s) const {
        return out + ((image * out_h + rows.out_start + r * rows.out_step) * out_w +
                      columns.out_start + s * columns.out_step) * out_pitch;
    }
};

template <class T>
void correlate(const Correlation<T>&);

// The ways to do it. Winograd's algorithm is for windows of 2 x 2, 3 x 3 and 5 x 5 of stride 1, see
// winograd.cpp, and for large ones over few channels, see winograd_rows.cpp; depthwise means that
// channel c alone makes output c, and ignores `weight_channel`. It takes several that see the same
// image, and does some rows of each in turn while their pixels are in the cache.
template <class T>
void correlate_direct(const Correlation<T>&);
template <class T>
void correlate_depthwise(const std::vector<Correlation<T>>&);
template <class T>
bool few_outputs_pay(const Correlation<T>&);
template <class T>
void correlate_few_outputs(const Correlation<T>&);
bool winograd_pays(const Correlation<float>&);

// Whether Winograd's algorithm may be used at all, by this module, in all threads.
void set_winograd(bool enable);
bool winograd_enabled();
void correlate_winograd(const Correlation<float>&);
bool winograd_rows_pay(const Correlation<float>&);
void correlate_winograd_rows(const Correlation<float>&);
