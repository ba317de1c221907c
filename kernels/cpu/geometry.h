// Activations by name, and the geometry of windows from what Python gives: checked.
#pragma once

#include "activation.h"
#include "arguments.h"
#include "conv2d.h"
#include "pool2d.h"

inline Activation activation_named(const std::string& name) {
    if (name == "none") return Activation::none;
    if (name == "relu") return Activation::relu;
    if (name == "leaky_relu") return Activation::leaky_relu;
    if (name == "sigmoid") return Activation::sigmoid;
    if (name == "tanh") return Activation::tanh;
    if (name == "silu") return Activation::silu;
    wrong_value("activation: expected none, relu, leaky_relu, sigmoid, tanh or silu, got " + name);
}

// What a convolution or product can end with: those whose derivative is known from their output.
inline Activation final_activation(const char* function, const std::string& name) {
    const Activation a = activation_named(name);
    if (a == Activation::leaky_relu || a == Activation::silu)
        wrong_value(std::string(function) +
                    ": activation: expected none, relu, sigmoid or tanh, got " + name);
    return a;
}

inline ConvShape conv_shape(const char* f, const Shape& x, const Shape& weight, Pair stride,
                     const Padding& padding, Pair dilation, long groups) {
    ConvShape s{};
    s.n = x[0], s.h = x[1], s.w = x[2], s.c = x[3];
    s.kh = weight[0], s.kw = weight[1], s.o = weight[3];
    s.stride_h = stride.first, s.stride_w = stride.second;
    s.top = padding.first.first, s.left = padding.second.first;
    s.dilation_h = dilation.first, s.dilation_w = dilation.second;
    s.groups = window_number(f, "groups", groups, 1);
    if (s.o % groups || weight[2] * groups != s.c)
        wrong_value(std::string(f) + ": " + std::to_string(groups) + " groups do not fit an input " +
                    text(x) + " and a weight " + text(weight));
    // What the window can reach is copied where it leaves the image: that must be possible.
    const auto padded = [](long side, Pair padding) {
        return double(side) + double(padding.first) + double(padding.second);
    };
    const double pixels = padded(s.h, padding.first) * padded(s.w, padding.second);
    if (pixels * double(std::max(s.c, s.o) + 1) > 0x1p44)
        wrong_value(std::string(f) + ": padding: a padded image of " + std::to_string(pixels) +
                    " pixels is more than memory can hold");
    if (s.c == 0) s.groups = 1;  // any number of groups of nothing are alike
    s.p = window_results(f, s.h, padding.first, s.kh, s.stride_h, s.dilation_h);
    s.q = window_results(f, s.w, padding.second, s.kw, s.stride_w, s.dilation_w);
    return s;
}

inline PoolShape pool_shape(const char* f, const Shape& x, Pair size, Pair stride, const Padding& padding,
                     Pair dilation) {
    PoolShape s{};
    s.n = x[0], s.h = x[1], s.w = x[2], s.c = x[3];
    s.kh = size.first, s.kw = size.second;
    s.stride_h = stride.first, s.stride_w = stride.second;
    s.top = padding.first.first, s.bottom = padding.first.second;
    s.left = padding.second.first, s.right = padding.second.second;
    s.dilation_h = dilation.first, s.dilation_w = dilation.second;
    s.p = window_results(f, s.h, padding.first, s.kh, s.stride_h, s.dilation_h);
    s.q = window_results(f, s.w, padding.second, s.kw, s.stride_w, s.dilation_w);
    return s;
}
