// Two-dimensional convolution, NHWC by HWIO, and its gradients.
#pragma once

#include "activation.h"
#include "packed_weights.h"

// N images of H x W pixels with C channels; a window of KH x KW taps; O outputs of P x Q pixels.
// Groups divide the channels: each part is seen by its own part of the outputs.
struct ConvShape {
    long n, h, w, c;
    long kh, kw, o;
    long p, q;
    long stride_h, stride_w;
    long top, left;  // padding
    long dilation_h, dilation_w;
    long groups;
};

// Whether each channel makes one output by itself.
inline bool is_depthwise(const ConvShape& s) { return s.groups > 1 && s.groups == s.c && s.c == s.o; }

// y (N, P, Q, O) = f(conv(x (N, H, W, C), weight (KH, KW, C / groups, O)) + bias (O) or null).
template <class T>
void conv2d(const ConvShape&, const T* x, const T* weight, const T* bias, Activation, T* y);

// The same with `addend` (N, P, Q, O), or null, added before f, and with packed weights kept in
// `kept`, one per group. A depthwise convolution takes no addend.
template <class T>
void conv2d(const ConvShape&, const T* x, const T* weight, const T* bias, const T* addend,
            Activation, T* y, PackedWeights<T>* kept);

// The gradient of x. `grad_output` is that of y; `y` may be null where there was no activation.
template <class T>
void conv2d_grad_input(const ConvShape&, const T* grad_output, const T* y, Activation,
                       const T* weight, T* grad_input);

// The gradients of weight and, unless null, bias.
template <class T>
void conv2d_grad_weight(const ConvShape&, const T* grad_output, const T* y, Activation, const T* x,
                        T* grad_weight, T* grad_bias);
