// Activations, element by element: y = f(x), and from the output's gradient that of x.
#pragma once

#include "simd.h"

enum class Activation { none, relu, leaky_relu, sigmoid, tanh, silu };

// y = f(x) over `count` elements; may be in place. `slope` is leaky_relu's.
template <class T>
void activation_forward(Activation, const T* x, T* y, long count, T slope = 0);

// The gradient of x from `kept`, which is the output y for relu, sigmoid and tanh, and the input x
// for leaky_relu and silu.
template <class T>
void activation_grad(Activation, const T* grad_output, const T* kept, T* grad_input, long count,
                     T slope = 0);

// The same within one thread: for kernels that apply it to what they have at hand.
template <class T>
void activate_here(Activation, T* y, long count);
template <class T>
void activation_grad_here(Activation, const T* grad_output, const T* kept, T* grad_input, long count);
