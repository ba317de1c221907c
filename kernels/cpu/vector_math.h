// Functions of vectors: exp, and the activations made of it.
#pragma once

#include "activation.h"
#include "simd.h"

template <class T>
inline Vector<T> select(Mask<T> mask, Vector<T> yes, Vector<T> no) {
    return mask ? yes : no;
}

template <class T>
inline Vector<T> as_vector(Mask<T> bits) {
    Vector<T> v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <class T>
inline Mask<T> as_bits(Vector<T> v) {
    Mask<T> bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

template <class T>
inline Vector<T> absolute(Vector<T> x) {
    constexpr Integer<T> sign = Integer<T>(1) << (sizeof(T) * 8 - 1);
    return as_vector<T>(as_bits<T>(x) & ~sign);
}

// The lesser and the greater; b where either is NaN, which is what one instruction does.
template <class T>
inline Vector<T> lesser(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return (Vector<T>)_mm512_min_ps((__m512)a, (__m512)b);
    else return (Vector<T>)_mm512_min_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (Vector<T>)_mm256_min_ps((__m256)a, (__m256)b);
    else return (Vector<T>)_mm256_min_pd((__m256d)a, (__m256d)b);
#else
    return select<T>(a < b, a, b);
#endif
}

template <class T>
inline Vector<T> greater(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return (Vector<T>)_mm512_max_ps((__m512)a, (__m512)b);
    else return (Vector<T>)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (Vector<T>)_mm256_max_ps((__m256)a, (__m256)b);
    else return (Vector<T>)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
    return select<T>(a > b, a, b);
#endif
}

// e^x: x = k log 2 + r with |r| <= log(2) / 2, a polynomial for e^r, and 2^k by the exponent's bits.
// Within 2 units of the last place. Infinity where the result would be too large; where it would be
// less than the smallest normal number, about that number; NaN stays NaN.
template <class T>
inline Vector<T> exp(Vector<T> x) {
    constexpr bool single = sizeof(T) == 4;
    constexpr T low = single ? T(-87.3) : T(-708.3), high = single ? T(89) : T(710);
    const Vector<T> clamped = lesser<T>(broadcast(high), greater<T>(broadcast(low), x));
    // Adding 1.5 * 2^mantissa rounds to an integer, which then stands in the lowest bits.
    constexpr T shift = single ? T(12582912) : T(6755399441055744);
    const Vector<T> shifted = clamped * T(1.4426950408889634074) + shift;
    const Vector<T> whole = shifted - shift;
    // log 2 in two parts, the first with so few bits that its product is exact.
    constexpr T log2_high = single ? T(0.693359375) : T(6.93145751953125e-1);
    constexpr T log2_low = single ? T(-2.12194440054690583e-4) : T(1.42860682030941723212e-6);
    Vector<T> r = clamped - whole * log2_high;
    r = r - whole * log2_low;
    Vector<T> q;  // (e^r - 1 - r) / r^2
    if constexpr (single) {
        // The coefficients that make the largest relative error least, 3e-9.
        q = broadcast(T(0.0013814598474660884));
        q = q * r + T(0.008368716887329757);
        q = q * r + T(0.04166838804883384);
        q = q * r + T(0.16666520631627338);
        q = q * r + T(0.499999934477791);
    } else {
        // The series, as long as its terms count.
        q = broadcast(T(1.0 / 6227020800));
        q = q * r + T(1.0 / 479001600);
        q = q * r + T(1.0 / 39916800);
        q = q * r + T(1.0 / 3628800);
        q = q * r + T(1.0 / 362880);
        q = q * r + T(1.0 / 40320);
        q = q * r + T(1.0 / 5040);
        q = q * r + T(1.0 / 720);
        q = q * r + T(1.0 / 120);
        q = q * r + T(1.0 / 24);
        q = q * r + T(1.0 / 6);
        q = q * r + T(0.5);
    }
    q = (q * r + T(1)) * r + T(1);
    // The integer in the lowest bits, moved to the exponent, leaves those above it behind.
    constexpr int mantissa = single ? 23 : 52;
    constexpr Integer<T> one = (single ? Integer<T>(127) : Integer<T>(1023)) << mantissa;
    return q * as_vector<T>((as_bits<T>(shifted) << mantissa) + one);
}

// 1 / (1 + e^-x): where e^-x is infinite, 0.
template <class T>
inline Vector<T> sigmoid(Vector<T> x) {
    return T(1) / (T(1) + exp<T>(-x));
}

// (1 - e) / (1 + e) with e = e^(-2 |x|); near 0, where 1 - e would lose digits, the expansion of
// tanh as a continued fraction, x / (1 + x^2 / (3 + x^2 / (5 + ...))).
template <class T>
inline Vector<T> tanh(Vector<T> x) {
    Vector<T> size = absolute<T>(x);
    Vector<T> e = exp<T>(size * T(-2));
    Vector<T> large = (T(1) - e) / (T(1) + e);
    large = select<T>(x < T(0), -large, large);
    Vector<T> square = x * x, fraction = broadcast(T(sizeof(T) == 4 ? 11 : 21));
    for (int k = sizeof(T) == 4 ? 9 : 19; k >= 1; k -= 2) fraction = T(k) + square / fraction;
    return select<T>(size < T(0.55), x / fraction, large);
}

template <Activation A, class T>
inline Vector<T> activate(Vector<T> x, T slope = 0) {
    if constexpr (A == Activation::relu) return select<T>(x < T(0), Vector<T>{}, x);  // NaN stays
    if constexpr (A == Activation::leaky_relu) return select<T>(x > T(0), x, x * slope);
    if constexpr (A == Activation::sigmoid) return sigmoid<T>(x);
    if constexpr (A == Activation::tanh) return tanh<T>(x);
    if constexpr (A == Activation::silu) return x * sigmoid<T>(x);
    return x;
}

// The gradient of x, from the output's and what was kept (see activation_grad).
template <Activation A, class T>
inline Vector<T> activate_grad(Vector<T> grad, Vector<T> kept, T slope = 0) {
    if constexpr (A == Activation::relu)
        return select<T>(kept > T(0), grad, grad * T(0));  // infinity times 0 is NaN, as in NumPy
    if constexpr (A == Activation::leaky_relu)
        return select<T>(kept > T(0), grad, grad * slope);
    if constexpr (A == Activation::sigmoid) return grad * kept * (T(1) - kept);
    if constexpr (A == Activation::tanh) return grad * (T(1) - kept * kept);
    if constexpr (A == Activation::silu) {
        Vector<T> s = sigmoid<T>(kept);
        return grad * s * (T(1) + kept * (T(1) - s));
    }
    return grad;
}

// Call f with the activation as a constant of the type std::integral_constant.
template <Activation A>
struct Constant {
    static constexpr Activation value = A;
};

template <class F>
inline void with_activation(Activation activation, F f) {
    switch (activation) {
        case Activation::none: return f(Constant<Activation::none>{});
        case Activation::relu: return f(Constant<Activation::relu>{});
        case Activation::leaky_relu: return f(Constant<Activation::leaky_relu>{});
        case Activation::sigmoid: return f(Constant<Activation::sigmoid>{});
        case Activation::tanh: return f(Constant<Activation::tanh>{});
        case Activation::silu: return f(Constant<Activation::silu>{});
    }
}
