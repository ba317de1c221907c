// Group normalisation of images x (N, pixels, C): mean and variance of each image and group of C / G
// channels that lie side by side. Layer normalisation is the case of one pixel and one group.
#pragma once

struct GroupNormShape {
    long n, pixels, c, groups;
};

// y = (x - mean) * inverse_std * weight + bias with inverse_std = 1 / sqrt(variance + eps); weight and
// bias (C), or nullptr for 1 and 0; mean and inverse_std (N, G) are results.
template <class T>
void group_norm(const GroupNormShape& s, const T* x, const T* weight, const T* bias, double eps, T* y,
                T* mean, T* inverse_std);

// The gradients of x (N, pixels, C), weight and bias (C).
template <class T>
void group_norm_grad(const GroupNormShape& s, const T* grad_output, const T* x, const T* weight,
                     const T* mean, const T* inverse_std, T* grad_input, T* grad_weight,
                     T* grad_bias);
