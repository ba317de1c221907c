#include "activation.h"

#include "parallel.h"
#include "vector_math.h"

namespace {

constexpr long grain = 1 << 15;  // elements a thread at least: a parallel region takes some 5 us

// Call f(offset, load, store) over [begin, end) of an array at `to`; large arrays are streamed, since
// they would not stay in the cache anyway.
template <class T, class F>
void for_each_element(T* to, long begin, long end, bool streamed, F f) {
    if (streamed) {
        const auto get = [](const T* p) { return load(p); };
        long i = begin;
        const long misaligned = reinterpret_cast<uintptr_t>(to + begin) % vector_bytes / sizeof(T);
        const long head = std::min(end, begin + (misaligned ? lanes<T> - misaligned : 0));
        for_each_vector<T>(head - i, [=](long k, auto get_some, auto put) { f(i + k, get_some, put); });
        for (i = head; i + lanes<T> <= end; i += lanes<T>)
            f(i, get, [](T* p, Vector<T> v) { stream(p, v); });
        finish_streaming();
        begin = i;
    }
    for_each_vector<T>(end - begin, [=](long k, auto get, auto put) { f(begin + k, get, put); });
}

template <class T>
void forward_range(Activation activation, const T* x, T* y, long begin, long end, bool streamed,
                   T slope) {
    with_activation(activation, [=](auto a) {
        for_each_element<T>(y, begin, end, streamed, [=](long i, auto get, auto put) {
            put(y + i, activate<a.value, T>(get(x + i), slope));
        });
    });
}

template <class T>
void grad_range(Activation activation, const T* grad_output, const T* kept, T* grad_input,
                long begin, long end, bool streamed, T slope) {
    with_activation(activation, [=](auto a) {
        for_each_element<T>(grad_input, begin, end, streamed, [=](long i, auto get, auto put) {
            put(grad_input + i,
                activate_grad<a.value, T>(get(grad_output + i), get(kept + i), slope));
        });
    });
}

}  // namespace

template <class T>
void activation_forward(Activation activation, const T* x, T* y, long count, T slope) {
    const bool streamed = count * long(sizeof(T)) > beyond_caches && x != y;
    for_each_range(count, grain, [&](long begin, long end) {
        forward_range(activation, x, y, begin, end, streamed, slope);
    });
}

template <class T>
void activation_grad(Activation activation, const T* grad_output, const T* kept, T* grad_input,
                     long count, T slope) {
    const bool streamed = count * long(sizeof(T)) > beyond_caches;
    for_each_range(count, grain, [&](long begin, long end) {
        grad_range(activation, grad_output, kept, grad_input, begin, end, streamed, slope);
    });
}

template <class T>
void activate_here(Activation activation, T* y, long count) {
    if (activation != Activation::none) forward_range(activation, y, y, 0, count, false, T(0));
}

template <class T>
void activation_grad_here(Activation activation, const T* grad_output, const T* kept, T* grad_input,
                          long count) {
    if (activation == Activation::none)
        memcpy(grad_input, grad_output, size_t(count) * sizeof(T));
    else
        grad_range(activation, grad_output, kept, grad_input, 0, count, false, T(0));
}

#define INSTANTIATE(T)                                                                     \
    template void activation_forward<T>(Activation, const T*, T*, long, T);                \
    template void activation_grad<T>(Activation, const T*, const T*, T*, long, T);         \
    template void activate_here<T>(Activation, T*, long);                                  \
    template void activation_grad_here<T>(Activation, const T*, const T*, T*, long);
INSTANTIATE(float)
INSTANTIATE(double)
