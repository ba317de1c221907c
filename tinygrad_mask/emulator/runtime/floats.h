// PTX instructions on floating-point numbers, and conversions from and to them.
#pragma once
#include "types.h"

namespace emulator {

template <class T>
OP T nan() {
    return as<T>(Info<T>::nan);
}
template <class T>
OP Bits<T> magnitude(T x) {
    return as<Bits<T>>(x) & ~Info<T>::sign;
}

// A denormal becomes a zero of its sign.
template <class T>
OP T flush(T x) {
    return magnitude(x) < Info<T>::least_normal ? as<T>(as<Bits<T>>(x) & Info<T>::sign) : x;
}
template <class T>
OP T saturate(T x) {
    return x > T(1) ? T(1) : x > T(0) ? x : T(0);
}

enum Round { RN, RZ, RM, RP };

// opaque() keeps the compiler from moving an operation past a change of the rounding mode.
#if defined(__x86_64__)
template <class T>
OP T opaque(T x) {
    asm volatile("" : "+x"(x));
    return x;
}
using Control = u32;
OP Control control() {
    Control word;
    asm volatile("stmxcsr %0" : "=m"(word));
    return word;
}
OP void set_control(Control word) { asm volatile("ldmxcsr %0" : : "m"(word)); }
OP Control with_rounding(Control word, Round round) {
    constexpr Control field[] = {0, 3, 1, 2};  // RN, RZ, RM, RP
    return (word & ~(Control(3) << 13)) | field[round] << 13;
}
#elif defined(__aarch64__)
template <class T>
OP T opaque(T x) {
    asm volatile("" : "+w"(x));
    return x;
}
using Control = u64;
OP Control control() {
    Control word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
}
OP void set_control(Control word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
OP Control with_rounding(Control word, Round round) {
    constexpr Control field[] = {0, 3, 2, 1};  // RN, RZ, RM, RP
    return (word & ~(Control(3) << 22)) | field[round] << 22;
}
#else
#error "the emulator runs on x86-64 and aarch64 hosts"
#endif

// While it lives the host rounds so.
template <Round R>
struct Rounding {
    Control before;
    INLINE Rounding() : before(control()) { set_control(with_rounding(before, R)); }
    INLINE ~Rounding() { set_control(before); }
};

#define ROUNDED(EXPRESSION, NEAREST) \
    if (R == RN) return NEAREST;     \
    Rounding<R> rounding;            \
    return opaque(EXPRESSION)

OP float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
OP double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
OP float root(float x) { return __builtin_sqrtf(x); }
OP double root(double x) { return __builtin_sqrt(x); }
template <Round R, class T>
OP T add(T a, T b) {
    ROUNDED(opaque(a) + opaque(b), a + b);
}
template <Round R, class T>
OP T sub(T a, T b) {
    ROUNDED(opaque(a) - opaque(b), a - b);
}
template <Round R, class T>
OP T mul(T a, T b) {
    ROUNDED(opaque(a) * opaque(b), a * b);
}
template <Round R, class T>
OP T div(T a, T b) {
    ROUNDED(opaque(a) / opaque(b), a / b);
}
template <Round R, class T>
OP T fma(T a, T b, T c) {
    ROUNDED(fused(opaque(a), opaque(b), opaque(c)), fused(a, b, c));
}
template <Round R, class T>
OP T rcp(T a) {
    ROUNDED(opaque(T(1)) / opaque(a), T(1) / a);
}
template <Round R, class T>
OP T sqrt(T a) {
    ROUNDED(root(opaque(a)), root(a));
}
template <class T>
OP T rsqrt(T a) {
    return T(1) / root(a);
}

template <class T>
OP T neg(T a) {
    return as<T>(as<Bits<T>>(a) ^ Info<T>::sign);
}
template <class T>
OP T fabs(T a) {
    return as<T>(magnitude(a));
}
template <class T>
OP T copysign(T sign, T a) {
    return as<T>(magnitude(a) | (as<Bits<T>>(sign) & Info<T>::sign));
}
// Of two zeros the minimum is the negative one; a NaN gives way to a number, or not.
template <class T>
OP T fmin(T a, T b) {
    if (a != a) return b != b ? nan<T>() : b;
    if (b != b) return a;
    return a < b ? a : b < a ? b : as<T>(as<Bits<T>>(a) | as<Bits<T>>(b));
}
template <class T>
OP T fmax(T a, T b) {
    if (a != a) return b != b ? nan<T>() : b;
    if (b != b) return a;
    return a > b ? a : b > a ? b : as<T>(as<Bits<T>>(a) & as<Bits<T>>(b));
}
template <class T>
OP T fmin_nan(T a, T b) {
    return a != a || b != b ? nan<T>() : fmin(a, b);
}
template <class T>
OP T fmax_nan(T a, T b) {
    return a != a || b != b ? nan<T>() : fmax(a, b);
}
template <class T>
OP T xor_sign(T result, T a, T b) {
    return as<T>(magnitude(result) | ((as<Bits<T>>(a) ^ as<Bits<T>>(b)) & Info<T>::sign));
}

// The device computes these to a few units in the last place; the host's are nearer to the truth.
OP float ex2(float x) { return __builtin_exp2f(x); }
OP float lg2(float x) { return __builtin_log2f(x); }
OP float sin(float x) { return __builtin_sinf(x); }
OP float cos(float x) { return __builtin_cosf(x); }
OP float tanh(float x) { return __builtin_tanhf(x); }
OP double upper_half(double x) { return as<double>(as<u64>(x) >> 32 << 32); }

template <class T>
OP bool finite(T x) {
    return magnitude(x) < Info<T>::infinity;
}
template <class T>
OP bool infinite(T x) {
    return magnitude(x) == Info<T>::infinity;
}
template <class T>
OP bool is_nan(T x) {
    return x != x;
}
template <class T>
OP bool normal(T x) {
    return finite(x) && magnitude(x) >= Info<T>::least_normal;
}
template <class T>
OP bool subnormal(T x) {
    return magnitude(x) && magnitude(x) < Info<T>::least_normal;
}

// ---- conversions

OP float to_integral(float x, Round r) {
    return r == RN   ? __builtin_rintf(x)
           : r == RZ ? __builtin_truncf(x)
           : r == RM ? __builtin_floorf(x)
                     : __builtin_ceilf(x);
}
OP double to_integral(double x, Round r) {
    return r == RN   ? __builtin_rint(x)
           : r == RZ ? __builtin_trunc(x)
           : r == RM ? __builtin_floor(x)
                     : __builtin_ceil(x);
}

// Floating point to integer: clamped to what the integer holds, NaN gives 0.
template <class T, Round R, class F>
OP T to_integer(F x) {
    x = to_integral(x, R);
    constexpr F above = F(Bits<T>(1) << (width<T> - 1)) * (Info<T>::is_signed ? 1 : 2);
    constexpr F below = Info<T>::is_signed ? -above : F(0);
    return x != x ? T(0) : x >= above ? Info<T>::highest : x <= below ? Info<T>::lowest : T(x);
}
template <class F, Round R, class T>
OP F from_integer(T x) {
    if (R == RN) return F(x);
    Rounding<R> rounding;
    asm volatile("" : "+r"(x));
    return opaque(F(x));
}
template <Round R>
OP float narrow(double x) {
    ROUNDED(float(opaque(x)), float(x));
}
template <class T, class S>
OP T clamp(S x) {
    if (Info<S>::is_signed && x < 0)
        return Info<T>::is_signed ? (s64(x) < s64(Info<T>::lowest) ? Info<T>::lowest : T(x)) : T(0);
    return u64(x) > u64(Info<T>::highest) ? Info<T>::highest : T(x);
}

// float16 and bfloat16 are kept as their bits. Arithmetic on them is done in double and rounded to
// odd there, so that the one rounding that follows gives the nearest.
OP double odd_sum(double a, double b) {
    double sum = a + b, head = sum - a, rest = (a - (sum - head)) + (b - head);
    if (rest == 0 || rest != rest || (as<u64>(sum) & 1)) return sum;
    return as<double>(as<u64>(sum) + ((rest > 0) == (sum > 0) ? 1 : -1));
}
// To `mantissa` stored bits and exponents down to `least`, nearest even or toward zero.
OP u32 to_small(double x, u32 mantissa, int least, u32 infinity, bool truncate) {
    u64 bits = as<u64>(x);
    u32 sign = u32(bits >> 63) << 15;
    if (x != x) return 0x7fff;
    int exponent = int(bits >> 52 & 0x7ff) - 1023;
    u64 significand = (bits & ((1ull << 52) - 1)) | (bits >> 52 & 0x7ff ? 1ull << 52 : 0);
    if (exponent == 1024) return sign | infinity;
    int shift = 52 - int(mantissa) + (exponent < least ? least - exponent : 0);
    if (shift > 63) return sign;
    u64 kept = significand >> shift, rest = significand & ((1ull << shift) - 1),
        half = 1ull << (shift - 1);
    if (!truncate && (rest > half || (rest == half && (kept & 1)))) ++kept;
    u64 value = exponent < least ? kept : kept + (u64(exponent - least) << mantissa);
    return sign | (value >= infinity ? (truncate ? infinity - 1 : infinity) : u32(value));
}
OP u16 to_half(double x, bool truncate = false) {
    return u16(to_small(x, 10, -14, 0x7c00, truncate));
}
OP u16 to_bfloat(double x, bool truncate = false) {
    return u16(to_small(x, 7, -126, 0x7f80, truncate));
}
OP float from_half(u16 h) {
    u32 sign = u32(h >> 15) << 31, exponent = h >> 10 & 31, rest = h & 1023;
    if (exponent == 31) return as<float>(sign | 0x7f800000u | rest << 13);
    if (exponent == 0) return as<float>(sign | as<u32>(float(rest) * 0x1p-24f));
    return as<float>(sign | (exponent + 112) << 23 | rest << 13);
}
OP float from_bfloat(u16 b) { return as<float>(u32(b) << 16); }
struct Half {
    static double value(u16 x) { return from_half(x); }
    static u16 rounded(double x) { return to_half(x); }
};
struct Bfloat {
    static double value(u16 x) { return from_bfloat(x); }
    static u16 rounded(double x) { return to_bfloat(x); }
};
template <class S>
OP u16 small_add(u16 a, u16 b) {
    return S::rounded(odd_sum(S::value(a), S::value(b)));
}
template <class S>
OP u16 small_sub(u16 a, u16 b) {
    return S::rounded(odd_sum(S::value(a), -S::value(b)));
}
template <class S>
OP u16 small_mul(u16 a, u16 b) {
    return S::rounded(S::value(a) * S::value(b));
}
template <class S>
OP u16 small_fma(u16 a, u16 b, u16 c) {
    return S::rounded(odd_sum(S::value(a) * S::value(b), S::value(c)));
}
template <class S>
OP u16 small_min(u16 a, u16 b) {
    return S::rounded(fmin(S::value(a), S::value(b)));
}
template <class S>
OP u16 small_max(u16 a, u16 b) {
    return S::rounded(fmax(S::value(a), S::value(b)));
}
template <class S>
OP u16 small_min_nan(u16 a, u16 b) {
    return S::rounded(fmin_nan(S::value(a), S::value(b)));
}
template <class S>
OP u16 small_max_nan(u16 a, u16 b) {
    return S::rounded(fmax_nan(S::value(a), S::value(b)));
}
OP u16 small_neg(u16 a) { return a ^ 0x8000; }
OP u16 small_abs(u16 a) { return a & 0x7fff; }
OP u16 lower(u32 pair) { return u16(pair); }
OP u16 upper(u32 pair) { return u16(pair >> 16); }
OP u32 pair(u16 low, u16 high) { return u32(high) << 16 | low; }

// To the 19 bits of tf32, ties away from zero.
OP float to_tf32(float x) {
    u32 bits = as<u32>(x);
    return finite(x) ? as<float>((bits + 0x1000u) & ~0x1fffu) : x;
}

}  // namespace emulator
