// Batch normalisation over all axes but the last.
#pragma once

// y = (x - mean) * inverse_std * weight + bias; x and y (rows, C), the others (C).
template <class T>
void batch_norm(long rows, long c, const T* x, const T* weight, const T* bias, const T* mean,
                const T* inverse_std, T* y);

// Mean and (biased) variance of each channel.
template <class T>
void batch_norm_statistics(long rows, long c, const T* x, T* mean, T* variance);

// The gradients of x, weight and bias; in training mean and variance depend on x.
template <class T>
void batch_norm_grad(long rows, long c, const T* grad_output, const T* x, const T* weight,
                     const T* mean, const T* inverse_std, bool training, T* grad_input,
                     T* grad_weight, T* grad_bias);
