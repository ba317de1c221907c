// Activations, element by element: y = f(x), and from the gradient of y that of x.
//
// There is almost nothing to compute, so the time is that of the memory: each thread moves 128 bits
// of every array (see map_elements). Which activation it is comes at run time and is the same for
// all threads; the branch costs less than the memory takes, and one compiled kernel serves all.
//
// The gradient is computed from what is cheapest to keep: for relu, sigmoid and tanh the output y,
// for leaky_relu and silu the input x.
#include "common.cuh"

#include "activation.cuh"

// Those that only stand alone; their numbers go on after the others'.
enum { LEAKY_RELU = 4, SILU = 5 };

template <class T>
__global__ void __launch_bounds__(256) activation_forward(int activation, T slope, Index count,
                                                          bool aligned, const T* __restrict__ x,
                                                          T* __restrict__ y) {
    map_elements(count, aligned, y, [=](T value) {
        if (activation == LEAKY_RELU) return value > T(0) ? value : slope * value;
        if (activation == SILU) return value * sigmoid(value);
        return activate(Activation(activation), value);
    }, x);
}

template <class T>
__global__ void __launch_bounds__(256) activation_backward(int activation, T slope, Index count,
                                                           bool aligned,
                                                           const T* __restrict__ grad_output,
                                                           const T* __restrict__ kept,
                                                           T* __restrict__ grad_input) {
    map_elements(count, aligned, grad_input, [=](T grad, T value) {
        if (activation == LEAKY_RELU) return value > T(0) ? grad : slope * grad;
        if (activation == SILU) {
            const T s = sigmoid(value);
            return grad * s * (T(1) + value * (T(1) - s));
        }
        return activation_grad(Activation(activation), grad, value);
    }, grad_output, kept);
}
