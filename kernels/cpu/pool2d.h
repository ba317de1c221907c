// Maximum and mean over windows of an image, NHWC, and their gradients.
#pragma once

#include <cstdint>

// N images of H x W pixels with C channels; a window of KH x KW taps; results of P x Q pixels.
struct PoolShape {
    long n, h, w, c;
    long kh, kw;
    long p, q;
    long stride_h, stride_w;
    long top, left, bottom, right;  // padding
    long dilation_h, dilation_w;
};

// y (N, P, Q, C): the maximum; taps: which tap held it, row * KW + column of the first maximum in
// reading order, or of the first NaN. Padding counts as minus infinity. Tap is uint8_t or int32_t.
template <class T, class Tap>
void max_pool2d(const PoolShape&, const T* x, T* y, Tap* taps);

// The maximum alone.
template <class T>
void max_pool2d(const PoolShape&, const T* x, T* y);

template <class T, class Tap>
void max_pool2d_grad(const PoolShape&, const T* grad_output, const Tap* taps, T* grad_input);

// The mean; padding counts as zeros where `count_padding`, else not at all.
template <class T>
void avg_pool2d(const PoolShape&, bool count_padding, const T* x, T* y);

template <class T>
void avg_pool2d_grad(const PoolShape&, bool count_padding, const T* grad_output, T* grad_input);
