// The activations that a convolution or a linear map can end with. They are those whose derivative
// is known from their output, so that the input need not be kept.
#pragma once

enum Activation { NONE = 0, RELU = 1, SIGMOID = 2, TANH = 3 };

// For large negative x the exponential is infinite, and the quotient 0 as it should be.
template <class T>
__device__ __forceinline__ T sigmoid(T x) {
    return T(1) / (T(1) + exp(-x));
}

// Which activation is the same for all threads, so the branches do not diverge.
template <class T>
__device__ __forceinline__ T activate(Activation activation, T x) {
    switch (activation) {
        case RELU: return x > T(0) || x != x ? x : T(0);  // a NaN stays
        case SIGMOID: return sigmoid(x);
        case TANH: return tanh(x);
        default: return x;
    }
}

// The gradient of x, from that of the output and the output y itself.
template <class T>
__device__ __forceinline__ T activation_grad(Activation activation, T grad, T y) {
    switch (activation) {
        case RELU: return y > T(0) ? grad : grad * T(0);  // NaN and infinity times 0 are NaN
        case SIGMOID: return grad * y * (T(1) - y);
        case TANH: return grad * (T(1) - y * y);
        default: return grad;
    }
}
