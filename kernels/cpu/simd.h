// Vectors of floats or doubles as wide as the instruction set that this file is compiled for, by the
// vector extension of GCC and Clang: operators work on all lanes, comparisons give masks of integers.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else  // SSE2, NEON
constexpr int vector_bytes = 16;
#endif

template <class T>
constexpr int lanes = vector_bytes / int(sizeof(T));

// An integer type of T's size, for masks and for bits of the exponent.
template <class T> struct IntegerOf;
template <> struct IntegerOf<float> { using type = int32_t; };
template <> struct IntegerOf<double> { using type = int64_t; };
template <class T> using Integer = typename IntegerOf<T>::type;

template <class T> struct VectorOf { typedef T type __attribute__((vector_size(vector_bytes))); };
template <class T> using Vector = typename VectorOf<T>::type;
template <class T> using Mask = Vector<Integer<T>>;

template <class T>
inline Vector<T> load(const T* p) {
    Vector<T> v;
    memcpy(&v, p, sizeof v);  // no alignment asked for
    return v;
}

template <class T>
inline void store(T* p, Vector<T> v) { memcpy(p, &v, sizeof v); }

template <class T>
inline Vector<T> broadcast(T value) { return value - Vector<T>{}; }  // x - 0 is x, as 0 + x is not

// The first `count` elements, zeros behind them; nothing beyond is touched.
template <class T>
inline Vector<T> load_some(const T* p, long count) {
    Vector<T> v{};
    memcpy(&v, p, size_t(count) * sizeof(T));
    return v;
}

template <class T>
inline void store_some(T* p, Vector<T> v, long count) { memcpy(p, &v, size_t(count) * sizeof(T)); }

// Store past the caches, to an address aligned to the vector: what is not read again soon need not be
// fetched before it is overwritten. `finish_streaming` before another thread may look.
template <class T>
inline void stream(T* p, Vector<T> v) {
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i*)p, (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256((__m256i*)p, (__m256i)v);
#elif defined(__SSE2__)
    _mm_stream_si128((__m128i*)p, (__m128i)v);
#else
    store(p, v);
#endif
}

// Bytes of an array of which little would be left in the caches by the time that it is read.
constexpr long beyond_caches = 16 << 20;

inline void finish_streaming() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// Call f(offset, load, store) for each vector of a row of n elements: the last one may be shorter.
// f is instantiated for whole vectors and for the rest.
// Where speed counts f captures by value: a vector's store may change anything in memory, so that
// what is captured by reference is read again after each.
template <class T, class F>
inline void for_each_vector(long n, F f) {
    long i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>)
        f(i, [](const T* p) { return load(p); }, [](T* p, Vector<T> v) { store(p, v); });
    if (long rest = n - i)
        f(
            i, [rest](const T* p) { return load_some(p, rest); },
            [rest](T* p, Vector<T> v) { store_some(p, v, rest); });
}
