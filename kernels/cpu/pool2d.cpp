#include "pool2d.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "parallel.h"
#include "vector_math.h"

namespace {

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

// The results whose window meets a pixel, with the tap that does: result `r` through tap `tap`, in
// order of taps. f(r, tap).
template <class F>
inline void for_each_meeting(long pixel, long padding, long taps, long stride, long dilation,
                             long results, F f) {
    for (long tap = 0; tap < taps; tap++) {
        const long at = pixel + padding - tap * dilation;
        if (at < 0) return;
        if (at % stride == 0 && at / stride < results) f(at / stride, tap);
    }
}

// Taps beside a vector of T are kept as integers of T's size, and narrowed to be stored.
template <class T, class Tap>
inline Mask<T> load_taps(const Tap* taps, long count) {
    typedef Tap Narrow __attribute__((vector_size(lanes<T> * sizeof(Tap))));
    Narrow narrow{};
    memcpy(&narrow, taps, size_t(count) * sizeof(Tap));
    return __builtin_convertvector(narrow, Mask<T>);
}

template <class T, class Tap>
inline void store_taps(Tap* taps, Mask<T> wide, long count) {
    typedef Tap Narrow __attribute__((vector_size(lanes<T> * sizeof(Tap))));
    Narrow narrow = __builtin_convertvector(wide, Narrow);
    memcpy(taps, &narrow, size_t(count) * sizeof(Tap));
}

// Call f(c, count) for the channels, a vector at a time; the last may be shorter.
template <class T, class F>
inline void for_each_channels(long channels, F f) {
    long c = 0;
    for (; c + lanes<T> <= channels; c += lanes<T>) f(c, std::integral_constant<long, lanes<T>>{});
    if (c < channels) f(c, channels - c);
}

template <class T>
inline Vector<T> get(const T* p, long count) {
    return count == lanes<T> ? load(p) : load_some(p, count);
}

template <class T>
inline void put(T* p, Vector<T> v, long count) {
    count == lanes<T> ? store(p, v) : store_some(p, v, count);
}

}  // namespace

template <class T, class Tap>
void max_pool2d(const PoolShape& s, const T* x, T* y, Tap* taps) {
    for_each_range(s.n * s.p, 1 + (1 << 13) / (s.q * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long r = row % s.p;
            const T* image = x + row / s.p * s.h * s.w * s.c;
            const Inside down(r, s.stride_h, s.top, s.kh, s.dilation_h, s.h);
            for (long q = 0; q < s.q; q++) {
                const Inside across(q, s.stride_w, s.left, s.kw, s.dilation_w, s.w);
                const T* corner = image + ((r * s.stride_h - s.top) * s.w + q * s.stride_w - s.left) * s.c;
                const long at = (row * s.q + q) * s.c;
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> best = broadcast(-std::numeric_limits<T>::infinity());
                    Mask<T> held{};
                    for (long i = down.first; i < down.last; i++)
                        for (long j = across.first; j < across.last; j++) {
                            const Vector<T> value = get(
                                corner + (i * s.dilation_h * s.w + j * s.dilation_w) * s.c + c,
                                count);
                            // Greater, or NaN; but a NaN is never replaced.
                            const Mask<T> better = ~(value <= best) & (best == best);
                            best = better ? value : best;
                            held = better ? Mask<T>{} + Integer<T>(i * s.kw + j) : held;
                        }
                    put(y + at + c, best, count);
                    store_taps<T>(taps + at + c, held, count);
                });
            }
        }
    });
}

template <class T, class Tap>
void max_pool2d_grad(const PoolShape& s, const T* grad_output, const Tap* taps, T* grad_input) {
    for_each_range(s.n * s.h, 1 + (1 << 13) / (s.w * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long h = row % s.h, image = row / s.h * s.p;
            for (long w = 0; w < s.w; w++)
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> sum{};
                    for_each_meeting(h, s.top, s.kh, s.stride_h, s.dilation_h, s.p, [&](long r, long i) {
                        for_each_meeting(w, s.left, s.kw, s.stride_w, s.dilation_w, s.q,
                                         [&](long q, long j) {
                            const long at = ((image + r) * s.q + q) * s.c + c;
                            const Mask<T> mine =
                                load_taps<T>(taps + at, count) == Integer<T>(i * s.kw + j);
                            sum += mine ? get(grad_output + at, count) : Vector<T>{};
                        });
                    });
                    put(grad_input + (row * s.w + w) * s.c + c, sum, count);
                });
        }
    });
}

namespace {

// How many pixels the mean of a window is over, as the product of both axes' counts.
inline long counted(long r, long stride, long before, long behind, long taps, long dilation,
                    long pixels, bool count_padding) {
    if (count_padding)  // of what lies beyond the padding too there is nothing to count
        return Inside(r, stride, 0, taps, dilation, pixels + before + behind).last;
    const Inside inside(r, stride, before, taps, dilation, pixels);
    return inside.last - inside.first;
}

}  // namespace

template <class T>
void avg_pool2d(const PoolShape& s, bool count_padding, const T* x, T* y) {
    for_each_range(s.n * s.p, 1 + (1 << 13) / (s.q * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long r = row % s.p;
            const T* image = x + row / s.p * s.h * s.w * s.c;
            const Inside down(r, s.stride_h, s.top, s.kh, s.dilation_h, s.h);
            const long rows = counted(r, s.stride_h, s.top, s.bottom, s.kh, s.dilation_h, s.h,
                                      count_padding);
            for (long q = 0; q < s.q; q++) {
                const Inside across(q, s.stride_w, s.left, s.kw, s.dilation_w, s.w);
                const long columns = counted(q, s.stride_w, s.left, s.right, s.kw, s.dilation_w,
                                             s.w, count_padding);
                const T* corner = image + ((r * s.stride_h - s.top) * s.w + q * s.stride_w - s.left) * s.c;
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> sum{};
                    for (long i = down.first; i < down.last; i++)
                        for (long j = across.first; j < across.last; j++)
                            sum += get(corner + (i * s.dilation_h * s.w + j * s.dilation_w) * s.c + c,
                                       count);
                    put(y + (row * s.q + q) * s.c + c, sum / T(rows * columns), count);
                });
            }
        }
    });
}

template <class T>
void avg_pool2d_grad(const PoolShape& s, bool count_padding, const T* grad_output, T* grad_input) {
    for_each_range(s.n * s.h, 1 + (1 << 13) / (s.w * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long h = row % s.h, image = row / s.h * s.p;
            for (long w = 0; w < s.w; w++)
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> sum{};
                    for_each_meeting(h, s.top, s.kh, s.stride_h, s.dilation_h, s.p, [&](long r, long) {
                        const long rows = counted(r, s.stride_h, s.top, s.bottom, s.kh,
                                                  s.dilation_h, s.h, count_padding);
                        for_each_meeting(w, s.left, s.kw, s.stride_w, s.dilation_w, s.q,
                                         [&](long q, long) {
                            const long columns = counted(q, s.stride_w, s.left, s.right, s.kw,
                                                         s.dilation_w, s.w, count_padding);
                            const long at = ((image + r) * s.q + q) * s.c + c;
                            sum += get(grad_output + at, count) / T(rows * columns);
                        });
                    });
                    put(grad_input + (row * s.w + w) * s.c + c, sum, count);
                });
        }
    });
}

#define INSTANTIATE(T)                                                                          \
    template void max_pool2d<T, uint8_t>(const PoolShape&, const T*, T*, uint8_t*);             \
    template void max_pool2d<T, int32_t>(const PoolShape&, const T*, T*, int32_t*);             \
    template void max_pool2d_grad<T, uint8_t>(const PoolShape&, const T*, const uint8_t*, T*);  \
    template void max_pool2d_grad<T, int32_t>(const PoolShape&, const T*, const int32_t*, T*);  \
    template void avg_pool2d<T>(const PoolShape&, bool, const T*, T*);                          \
    template void avg_pool2d_grad<T>(const PoolShape&, bool, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
