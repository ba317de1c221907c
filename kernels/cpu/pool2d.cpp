#include "pool2d.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "channels.h"
#include "parallel.h"
#include "vector_math.h"

namespace {

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

template <class T, int N, class Tap>
inline void store_taps(Tap* taps, const Mask<T>* held, long count) {
    Tap narrow[N * lanes<T>];
    Integer<T> wide[N * lanes<T>];
    memcpy(wide, held, sizeof wide);
    for (int k = 0; k < N * lanes<T>; k++) narrow[k] = Tap(wide[k]);
    memcpy(taps, narrow, size_t(count) * sizeof(Tap));
}

// Call result(r, q, down, across, at, corner) for each result: the taps of its window that meet pixels,
// where its channels begin, and where those of the first of these pixels do.
template <class Result>
inline void for_each_result(const PoolShape& s, Result result) {
    std::vector<Inside> columns;  // found once: it takes divisions
    columns.reserve(size_t(s.q));
    for (long q = 0; q < s.q; q++)
        columns.emplace_back(q, s.stride_w, s.left, s.kw, s.dilation_w, s.w);
    for_each_range(s.n * s.p, 1 + (1 << 13) / (s.q * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long r = row % s.p;
            const Inside down(r, s.stride_h, s.top, s.kh, s.dilation_h, s.h);
            const long pixel_row = row / s.p * s.h + r * s.stride_h - s.top + down.first * s.dilation_h;
            for (long q = 0; q < s.q; q++) {
                const Inside across = columns[size_t(q)];
                const long column = q * s.stride_w - s.left + across.first * s.dilation_w;
                result(r, q, down, across, (row * s.q + q) * s.c, (pixel_row * s.w + column) * s.c);
            }
        }
    });
}

template <class T>
inline bool any(Mask<T> mask) {
    Integer<T> all = 0;
    for (int k = 0; k < lanes<T>; k++) all |= mask[k];
    return all != 0;
}

// Put the first NaN of each lane's window, and its tap, in place of the maximum.
template <class T, class Count>
void find_nan(const PoolShape& s, const Inside& down, const Inside& across, const T* first,
              Count count, Vector<T>& best, Mask<T>& held) {
    for (long i = down.last - 1; i >= down.first; i--)
        for (long j = across.last - 1; j >= across.first; j--) {
            const Vector<T> value = get(first + (i - down.first) * s.dilation_h * s.w * s.c +
                                            (j - across.first) * s.dilation_w * s.c, count);
            const Mask<T> nan = value != value;
            best = nan ? value : best;
            held = nan ? Mask<T>{} + Integer<T>(i * s.kw + j) : held;
        }
}

constexpr int some = 4;  // vectors of channels at a time

// The maximum of a window, and its tap, in N vectors of channels: one alone would wait for each of its
// comparisons before the next.
template <class T, int N, class Tap, class Count>
inline void max_of_window(const PoolShape& s, const Inside& down, const Inside& across, const T* x,
                          Count count, T* y, Tap* taps) {
    constexpr long L = lanes<T>;
    const long row_step = s.dilation_h * s.w * s.c, column_step = s.dilation_w * s.c;
    Vector<T> best[N], sum{};
    Mask<T> held[N], tap_of_row = Mask<T>{} + Integer<T>(down.first * s.kw + across.first);
    const bool empty = down.first == down.last || across.first == across.last;
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) {
        best[v] = broadcast(-std::numeric_limits<T>::infinity());
        held[v] = empty ? Mask<T>{} : tap_of_row;  // of nothing but -infinity: a pixel, not padding
    }
    const T* line = x;
    for (long i = down.first; i < down.last; i++, line += row_step) {
        const T* pixel = line;
        Mask<T> tap = tap_of_row;
        for (long j = across.first; j < across.last; j++, pixel += column_step) {
#pragma GCC unroll 4
            for (int v = 0; v < N; v++) {
                const Vector<T> value = get(pixel + v * L, count);
                const Mask<T> better = value > best[v];
                best[v] = greater<T>(value, best[v]);
                held[v] = (tap & better) | (held[v] & ~better);
                sum += value;
            }
            tap += 1;
        }
        tap_of_row += Integer<T>(s.kw);
    }
    // Where a NaN was among them (or infinities of both signs) the sum is NaN.
    const bool nan = any<T>(sum != sum);
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) {
        if (nan) find_nan<T>(s, down, across, x + v * L, count, best[v], held[v]);
        put(y + v * L, best[v], count);
    }
    store_taps<T, N>(taps, held, N > 1 ? N * L : long(count));
}

}  // namespace

template <class T, class Tap>
void max_pool2d(const PoolShape& s, const T* x, T* y, Tap* taps) {
    for_each_result(s, [&](long, long, const Inside& down, const Inside& across, long at,
                           long corner) {
        for_some_channels<T, some>(s.c, [&](long c, auto vectors, auto count) {
            max_of_window<T, vectors.value>(s, down, across, x + corner + c, count, y + at + c,
                                            taps + at + c);
        });
    });
}

namespace {

// The maximum of a window, or NaN, in N vectors of channels.
template <class T, int N, class Count>
inline void only_max_of_window(const PoolShape& s, const Inside& down, const Inside& across, const T* x,
                               Count count, T* y) {
    constexpr long L = lanes<T>;
    const long row_step = s.dilation_h * s.w * s.c, column_step = s.dilation_w * s.c;
    Vector<T> best[N], sum{};
    for (int v = 0; v < N; v++) best[v] = broadcast(-std::numeric_limits<T>::infinity());
    const T* line = x;
    for (long i = down.first; i < down.last; i++, line += row_step) {
        const T* pixel = line;
        for (long j = across.first; j < across.last; j++, pixel += column_step)
#pragma GCC unroll 4
            for (int v = 0; v < N; v++) {
                const Vector<T> value = get(pixel + v * L, count);
                best[v] = greater<T>(value, best[v]);
                sum += value;
            }
    }
    const bool nan = any<T>(sum != sum);
    Mask<T> held{};
    for (int v = 0; v < N; v++) {
        if (nan) find_nan<T>(s, down, across, x + v * L, count, best[v], held);
        put(y + v * L, best[v], count);
    }
}

}  // namespace

template <class T>
void max_pool2d(const PoolShape& s, const T* x, T* y) {
    for_each_result(s, [&](long, long, const Inside& down, const Inside& across, long at,
                           long corner) {
        for_some_channels<T, some>(s.c, [&](long c, auto vectors, auto count) {
            only_max_of_window<T, vectors.value>(s, down, across, x + corner + c, count, y + at + c);
        });
    });
}

// Gradients are gathered: each pixel adds up what the windows that it lies in pass on to it, so that
// it is written once, by one thread, and in an order that depends on no thread count. Where windows
// tile the image there is nothing to add up, and it is quicker to go from window to window.
namespace {

bool tile_the_image(const PoolShape& s) {
    return s.top == 0 && s.left == 0 && s.dilation_h == 1 && s.dilation_w == 1 &&
           s.stride_h == s.kh && s.stride_w == s.kw && s.h == s.p * s.kh && s.w == s.q * s.kw;
}

// Give the pixel at each tap of each window passed(tap): passed = pass_on(at, count) for the window's
// `count` results from `at` on.
template <class T, class PassOn>
inline void for_each_tile(const PoolShape& s, T* grad_input, PassOn pass_on) {
    for_each_range(s.n * s.p, 1 + (1 << 13) / (s.q * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++)
            for (long q = 0; q < s.q; q++) {
                T* corner = grad_input + (row * s.kh * s.w + q * s.kw) * s.c;
                for_each_channels<T>(s.c, [=](long c, auto count) {
                    const auto passed = pass_on((row * s.q + q) * s.c + c, count);
                    Integer<T> tap = 0;
                    for (long i = 0; i < s.kh; i++)
                        for (long j = 0; j < s.kw; j++, tap++)
                            put(corner + (i * s.w + j) * s.c + c, passed(tap), count);
                });
            }
    });
}

// Of one axis: the windows that a pixel lies in, their results in ascending order.
class Windows {
public:
    // Where a window's results begin, and what is to be known of it: along both axes these add up.
    struct Window {
        long at, label;
    };

    // Results are `apart`; label(result, tap) of each window.
    template <class Label>
    Windows(long pixels, long results, long stride, long padding, long taps, long dilation,
            long apart, Label label) {
        begin_.reserve(size_t(pixels) + 1);
        for (long pixel = 0; pixel < pixels; pixel++) {
            begin_.push_back(windows_.size());
            for (long tap = taps - 1; tap >= 0; tap--) {
                const long start = pixel + padding - tap * dilation;
                if (start >= 0 && start % stride == 0 && start / stride < results)
                    windows_.push_back({start / stride * apart, label(start / stride, tap)});
            }
        }
        begin_.push_back(windows_.size());
    }

    const Window* begin(long pixel) const { return windows_.data() + begin_[size_t(pixel)]; }
    const Window* end(long pixel) const { return begin(pixel + 1); }

private:
    std::vector<Window> windows_;
    std::vector<size_t> begin_;
};

// Give each pixel the sum of what the windows that it lies in pass on to it: passed(c, count), with
// passed = pass_on(at, label) for the window whose results begin at `at`.
template <class T, class RowLabel, class ColumnLabel, class PassOn>
inline void for_each_pixel(const PoolShape& s, T* grad_input, RowLabel row_label,
                           ColumnLabel column_label, PassOn pass_on) {
    const Windows rows(s.h, s.p, s.stride_h, s.top, s.kh, s.dilation_h, s.q * s.c, row_label);
    const Windows columns(s.w, s.q, s.stride_w, s.left, s.kw, s.dilation_w, s.c, column_label);
    for_each_range(s.n * s.h, 1 + (1 << 13) / (s.w * s.c + 1), [&](long begin, long end) {
        std::vector<Windows::Window> windows(size_t(s.kh * s.kw));
        for (long row = begin; row < end; row++) {
            const long image = row / s.h * s.p * s.q * s.c, h = row % s.h;
            for (long w = 0; w < s.w; w++) {
                Windows::Window* last = windows.data();
                for (auto down = rows.begin(h); down < rows.end(h); down++)
                    for (auto across = columns.begin(w); across < columns.end(w); across++)
                        *last++ = {image + down->at + across->at, down->label + across->label};
                T* pixel = grad_input + (row * s.w + w) * s.c;
                for_some_channels<T, some>(s.c, [&](long c, auto vectors, auto count) {
                    Vector<T> sums[vectors] = {};
                    for (const auto* window = windows.data(); window < last; window++) {
                        const auto passed = pass_on(window->at + c, window->label);
                        for (int v = 0; v < vectors; v++) sums[v] += passed(v * lanes<T>, count);
                    }
                    for (int v = 0; v < vectors; v++) put(pixel + c + v * lanes<T>, sums[v], count);
                });
            }
        }
    });
}

}  // namespace

template <class T, class Tap>
void max_pool2d_grad(const PoolShape& s, const T* grad_output, const Tap* taps, T* grad_input) {
    const auto where_held = [](Mask<T> held, Integer<T> tap, Vector<T> grad) {
        return held == Mask<T>{} + tap ? grad : Vector<T>{};
    };
    if (tile_the_image(s))
        return for_each_tile(s, grad_input, [=](long at, auto count) {
            const Vector<T> grad = get(grad_output + at, count);
            const Mask<T> held = load_taps<T>(taps + at, count);
            return [=](Integer<T> tap) { return where_held(held, tap, grad); };
        });
    for_each_pixel(
        s, grad_input, [&](long, long tap) { return tap * s.kw; }, [](long, long tap) { return tap; },
        [=](long at, long tap) {
            return [=](long c, auto count) {
                return where_held(load_taps<T>(taps + at + c, count), Integer<T>(tap),
                                  get(grad_output + at + c, count));
            };
        });
}

namespace {

// How many pixels the mean of a window is over.
class Counted {
public:
    Counted(const PoolShape& s, bool padding)
        : rows_(along(s.p, s.stride_h, s.top, s.bottom, s.kh, s.dilation_h, s.h, padding)),
          columns_(along(s.q, s.stride_w, s.left, s.right, s.kw, s.dilation_w, s.w, padding)) {}

    long operator()(long r, long q) const { return rows_[size_t(r)] * columns_[size_t(q)]; }

private:
    std::vector<long> rows_, columns_;

    static std::vector<long> along(long results, long stride, long before, long behind, long taps,
                                   long dilation, long pixels, bool padding) {
        std::vector<long> counts;
        for (long r = 0; r < results; r++) {
            // Of what lies beyond the padding too there is nothing to count.
            const Inside inside = padding
                                      ? Inside(r, stride, 0, taps, dilation, pixels + before + behind)
                                      : Inside(r, stride, before, taps, dilation, pixels);
            counts.push_back(inside.last - inside.first);
        }
        return counts;
    }
};

// The mean of a window over so many pixels, in N vectors of channels.
template <class T, int N, class Count>
inline void mean_of_window(const PoolShape& s, const Inside& down, const Inside& across, T pixels,
                           const T* x, Count count, T* y) {
    constexpr long L = lanes<T>;
    const long row_step = s.dilation_h * s.w * s.c, column_step = s.dilation_w * s.c;
    Vector<T> sum[N] = {};
    for (long i = down.first; i < down.last; i++, x += row_step) {
        const T* pixel = x;
        Vector<T> sum_of_row[N] = {};  // two short sums round less than a long one
        for (long j = across.first; j < across.last; j++, pixel += column_step)
#pragma GCC unroll 4
            for (int v = 0; v < N; v++) sum_of_row[v] += get(pixel + v * L, count);
#pragma GCC unroll 4
        for (int v = 0; v < N; v++) sum[v] += sum_of_row[v];
    }
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) put(y + v * L, sum[v] / pixels, count);
}

}  // namespace

template <class T>
void avg_pool2d(const PoolShape& s, bool count_padding, const T* x, T* y) {
    const Counted counted(s, count_padding);
    for_each_result(s, [&](long r, long q, const Inside& down, const Inside& across, long at,
                           long corner) {
        const T pixels = T(counted(r, q));
        for_some_channels<T, some>(s.c, [&](long c, auto vectors, auto count) {
            mean_of_window<T, vectors.value>(s, down, across, pixels, x + corner + c, count,
                                             y + at + c);
        });
    });
}

template <class T>
void avg_pool2d_grad(const PoolShape& s, bool count_padding, const T* grad_output, T* grad_input) {
    if (tile_the_image(s))
        return for_each_tile(s, grad_input, [=](long at, auto count) {
            const Vector<T> share = get(grad_output + at, count) / T(s.kh * s.kw);
            return [=](Integer<T>) { return share; };
        });
    const Counted counted(s, count_padding);
    std::vector<T> shares;
    for (long r = 0; r < s.p; r++)
        for (long q = 0; q < s.q; q++) shares.push_back(1 / T(counted(r, q)));
    for_each_pixel(
        s, grad_input, [&](long r, long) { return r * s.q; }, [](long q, long) { return q; },
        [=, shares = shares.data()](long at, long result) {
            const T share = shares[result];
            return [=](long c, auto count) { return get(grad_output + at + c, count) * share; };
        });
}

#define INSTANTIATE(T)                                                                          \
    template void max_pool2d<T, uint8_t>(const PoolShape&, const T*, T*, uint8_t*);             \
    template void max_pool2d<T, int32_t>(const PoolShape&, const T*, T*, int32_t*);             \
    template void max_pool2d<T>(const PoolShape&, const T*, T*);                                \
    template void max_pool2d_grad<T, uint8_t>(const PoolShape&, const T*, const uint8_t*, T*);  \
    template void max_pool2d_grad<T, int32_t>(const PoolShape&, const T*, const int32_t*, T*);  \
    template void avg_pool2d<T>(const PoolShape&, bool, const T*, T*);                          \
    template void avg_pool2d_grad<T>(const PoolShape&, bool, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
