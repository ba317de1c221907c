#include "activation.h"

#include "parallel.h"
#include "vector_math.h"

namespace {

constexpr long grain = 1 << 15;  // elements a thread at least: a parallel region takes some 5 us

template <class T>
void forward_range(Activation activation, const T* x, T* y, long count, T slope) {
    with_activation(activation, [&](auto a) {
        for_each_vector<T>(count, [&](long i, auto get, auto put) {
            put(y + i, activate<a.value, T>(get(x + i), slope));
        });
    });
}

template <class T>
void grad_range(Activation activation, const T* grad_output, const T* kept, T* grad_input,
                long count, T slope) {
    with_activation(activation, [&](auto a) {
        for_each_vector<T>(count, [&](long i, auto get, auto put) {
            put(grad_input + i,
                activate_grad<a.value, T>(get(grad_output + i), get(kept + i), slope));
        });
    });
}

}  // namespace

template <class T>
void activation_forward(Activation activation, const T* x, T* y, long count, T slope) {
    for_each_range(count, grain, [&](long begin, long end) {
        forward_range(activation, x + begin, y + begin, end - begin, slope);
    });
}

template <class T>
void activation_grad(Activation activation, const T* grad_output, const T* kept, T* grad_input,
                     long count, T slope) {
    for_each_range(count, grain, [&](long begin, long end) {
        grad_range(activation, grad_output + begin, kept + begin, grad_input + begin, end - begin,
                   slope);
    });
}

template <class T>
void activate_here(Activation activation, T* y, long count) {
    if (activation != Activation::none) forward_range(activation, y, y, count, T(0));
}

template <class T>
void activation_grad_here(Activation activation, const T* grad_output, const T* kept, T* grad_input,
                          long count) {
    if (activation == Activation::none)
        memcpy(grad_input, grad_output, size_t(count) * sizeof(T));
    else
        grad_range(activation, grad_output, kept, grad_input, count, T(0));
}

#define INSTANTIATE(T)                                                                     \
    template void activation_forward<T>(Activation, const T*, T*, long, T);                \
    template void activation_grad<T>(Activation, const T*, const T*, T*, long, T);         \
    template void activate_here<T>(Activation, T*, long);                                  \
    template void activation_grad_here<T>(Activation, const T*, const T*, T*, long);
INSTANTIATE(float)
INSTANTIATE(double)
