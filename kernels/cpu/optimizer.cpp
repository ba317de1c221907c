#include "optimizer.h"

#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace {

constexpr long grain = 1 << 15;  // elements a thread at least

template <class T>
Vector<T> square_root(Vector<T> v) {
    for (int k = 0; k < lanes<T>; k++) v[k] = std::sqrt(v[k]);
    return v;
}

}  // namespace

template <class T>
void sgd_update(const SgdSettings& s, long count, T* parameter, const T* gradient, T* velocity) {
    const T lr = T(s.lr), momentum = T(s.momentum), decay = T(s.weight_decay);
    for_each_range(count, grain, [&](long begin, long end) {
        for_each_vector<T>(end - begin, [=](long k, auto get, auto put) {
            const long i = begin + k;
            const Vector<T> w = get(parameter + i);
            Vector<T> update = get(gradient + i);
            if (s.weight_decay != 0) update += decay * w;
            if (velocity) {
                const Vector<T> v = momentum * get(velocity + i) + update;
                put(velocity + i, v);
                update = s.nesterov ? update + momentum * v : v;
            }
            put(parameter + i, w - lr * update);
        });
    });
}

template <class T>
void adam_update(const AdamSettings& s, long step, long count, T* parameter, const T* gradient,
                 T* first_moment, T* second_moment) {
    const T beta1 = T(s.beta1), beta2 = T(s.beta2), eps = T(s.eps);
    const T rate1 = T(1 - s.beta1), rate2 = T(1 - s.beta2);
    const T lr = T(s.lr / (1 - std::pow(s.beta1, double(step))));
    const T correction = T(1 / (1 - std::pow(s.beta2, double(step))));
    const T keep = T(1 - s.lr * s.weight_decay), decay = T(s.weight_decay);
    for_each_range(count, grain, [&](long begin, long end) {
        for_each_vector<T>(end - begin, [=](long k, auto get, auto put) {
            const long i = begin + k;
            Vector<T> w = get(parameter + i), g = get(gradient + i);
            if (s.decoupled)
                w *= keep;
            else if (s.weight_decay != 0)
                g += decay * w;
            const Vector<T> m = beta1 * get(first_moment + i) + rate1 * g;
            const Vector<T> v = beta2 * get(second_moment + i) + rate2 * g * g;
            put(first_moment + i, m);
            put(second_moment + i, v);
            put(parameter + i, w - lr * m / (square_root<T>(v * correction) + eps));
        });
    });
}

#define INSTANTIATE(T)                                                                        \
    template void sgd_update<T>(const SgdSettings&, long, T*, const T*, T*);                  \
    template void adam_update<T>(const AdamSettings&, long, long, T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
