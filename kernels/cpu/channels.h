// What pooling and depthwise convolution share: a window's taps that meet pixels, and channels, a
// vector at a time.
#pragma once

#include <algorithm>
#include <type_traits>

#include "simd.h"

// The taps [first, last) of a window at result r that meet pixels, not padding.
struct Inside {
    long first, last;
    Inside(long r, long stride, long padding, long taps, long dilation, long pixels) {
        const long start = r * stride - padding;
        first = start < 0 ? (-start + dilation - 1) / dilation : 0;
        last = start < pixels ? std::min(taps, (pixels - 1 - start) / dilation + 1) : 0;
        first = std::min(first, taps), last = std::max(last, first);
    }
};

// Call f(c, count) for the channels, a vector at a time; the last may be shorter.
template <class T, class F>
inline void for_each_channels(long channels, F f) {
    long c = 0;
    for (; c + lanes<T> <= channels; c += lanes<T>) f(c, std::integral_constant<long, lanes<T>>{});
    if (c < channels) f(c, channels - c);
}

// Call f(c, vectors, count) for the channels, `most` vectors of `count` of them at a time, then one by
// one.
template <class T, int most, class F>
inline void for_some_channels(long channels, F f) {
    long c = 0;
    if constexpr (most > 1)
        for (; c + most * lanes<T> <= channels; c += most * lanes<T>)
            f(c, std::integral_constant<int, most>{}, std::integral_constant<long, lanes<T>>{});
    for_each_channels<T>(channels - c, [&](long more, auto count) {
        f(c + more, std::integral_constant<int, 1>{}, count);
    });
}

template <class T>
inline Vector<T> get(const T* p, long count) {
    return count == lanes<T> ? load(p) : load_some(p, count);
}

template <class T>
inline void put(T* p, Vector<T> v, long count) {
    count == lanes<T> ? store(p, v) : store_some(p, v, count);
}
