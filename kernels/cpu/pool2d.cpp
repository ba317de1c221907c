#include "pool2d.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

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

// For each pixel along an axis, the results whose window meets it, each with the tap that does, in
// the order of the taps.
class Meetings {
public:
    struct Meeting {
        long result, tap;
    };

    Meetings(long pixels, long results, long taps, long stride, long padding, long dilation) {
        for (long pixel = 0; pixel < pixels; pixel++) {
            begins_.push_back(all_.size());
            for (long tap = 0; tap < taps; tap++) {
                const long at = pixel + padding - tap * dilation;
                if (at < 0) break;
                if (at % stride == 0 && at / stride < results) all_.push_back({at / stride, tap});
            }
        }
        begins_.push_back(all_.size());
    }
    const Meeting* begin(long pixel) const { return all_.data() + begins_[size_t(pixel)]; }
    const Meeting* end(long pixel) const { return begin(pixel + 1); }

private:
    std::vector<Meeting> all_;
    std::vector<size_t> begins_;
};

// Taps beside a vector of T are kept as integers of T's size, and narrowed to be stored. (Loops over
// arrays: GCC makes better code of them than of __builtin_convertvector.)
template <class T, class Tap>
inline Mask<T> load_taps(const Tap* taps, long count) {
    Tap narrow[lanes<T>] = {};
    Integer<T> wide[lanes<T>];
    memcpy(narrow, taps, size_t(count) * sizeof(Tap));
    for (int k = 0; k < lanes<T>; k++) wide[k] = narrow[k];
    Mask<T> mask;
    memcpy(&mask, wide, sizeof mask);
    return mask;
}

template <class T, class Tap>
inline void store_taps(Tap* taps, Mask<T> held, long count) {
    Tap narrow[lanes<T>];
    Integer<T> wide[lanes<T>];
    memcpy(wide, &held, sizeof wide);
    for (int k = 0; k < lanes<T>; k++) narrow[k] = Tap(wide[k]);
    memcpy(taps, narrow, size_t(count) * sizeof(Tap));
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
    const Meetings down(s.h, s.p, s.kh, s.stride_h, s.top, s.dilation_h);
    const Meetings across(s.w, s.q, s.kw, s.stride_w, s.left, s.dilation_w);
    for_each_range(s.n * s.h, 1 + (1 << 13) / (s.w * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long h = row % s.h, image = row / s.h * s.p;
            for (long w = 0; w < s.w; w++)
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> sum{};
                    for (auto i = down.begin(h); i < down.end(h); i++)
                        for (auto j = across.begin(w); j < across.end(w); j++) {
                            const long at = ((image + i->result) * s.q + j->result) * s.c + c;
                            const Mask<T> mine = load_taps<T>(taps + at, count) ==
                                                 Integer<T>(i->tap * s.kw + j->tap);
                            sum += mine ? get(grad_output + at, count) : Vector<T>{};
                        }
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
    const Meetings down(s.h, s.p, s.kh, s.stride_h, s.top, s.dilation_h);
    const Meetings across(s.w, s.q, s.kw, s.stride_w, s.left, s.dilation_w);
    std::vector<T> counts(size_t(s.p + s.q));  // of each row of results, then of each column
    for (long r = 0; r < s.p; r++)
        counts[size_t(r)] = T(counted(r, s.stride_h, s.top, s.bottom, s.kh, s.dilation_h, s.h,
                                      count_padding));
    for (long q = 0; q < s.q; q++)
        counts[size_t(s.p + q)] = T(counted(q, s.stride_w, s.left, s.right, s.kw, s.dilation_w, s.w,
                                            count_padding));
    for_each_range(s.n * s.h, 1 + (1 << 13) / (s.w * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long h = row % s.h, image = row / s.h * s.p;
            for (long w = 0; w < s.w; w++)
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> sum{};
                    for (auto i = down.begin(h); i < down.end(h); i++)
                        for (auto j = across.begin(w); j < across.end(w); j++) {
                            const long at = ((image + i->result) * s.q + j->result) * s.c + c;
                            sum += get(grad_output + at, count) /
                                   (counts[size_t(i->result)] * counts[size_t(s.p + j->result)]);
                        }
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
