// Matrix products.
#pragma once

#include "activation.h"

// c (m, n) = f(a (m, k) b (k, n) + bias (n) or null). With `b_transposed` b is laid out as (n, k).
template <class T>
void matmul(long m, long n, long k, const T* a, const T* b, bool b_transposed, const T* bias,
            Activation, T* c);

// c (m, n) = a^T b with a laid out as (k, m), b (k, n).
template <class T>
void matmul_transposed(long m, long n, long k, const T* a, const T* b, T* c);
