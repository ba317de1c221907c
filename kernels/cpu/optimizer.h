// The optimisers' updates, in place.
#pragma once

struct SgdSettings {
    double lr, momentum, weight_decay;
    bool nesterov;
};

// parameter -= lr * g, g = gradient + weight_decay * parameter; with a velocity, v = momentum * v + g
// takes g's place (with Nesterov's, g + momentum * v). `velocity` may be null.
template <class T>
void sgd_update(const SgdSettings&, long count, T* parameter, const T* gradient, T* velocity);

struct AdamSettings {
    double lr, beta1, beta2, eps, weight_decay;
    bool decoupled;  // AdamW
};

// `step` counts from 1.
template <class T>
void adam_update(const AdamSettings&, long step, long count, T* parameter, const T* gradient,
                 T* first_moment, T* second_moment);
