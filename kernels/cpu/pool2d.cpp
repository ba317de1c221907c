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

template <class T, class Tap>
inline void store_taps(Tap* taps, Mask<T> held, long count) {
    Tap narrow[lanes<T>];
    Integer<T> wide[lanes<T>];
    memcpy(wide, &held, sizeof wide);
    for (int k = 0; k < lanes<T>; k++) narrow[k] = Tap(wide[k]);
    memcpy(taps, narrow, size_t(count) * sizeof(Tap));
}

// The columns of taps of each column of results, found once: it takes divisions.
std::vector<Inside> inside_columns(const PoolShape& s) {
    std::vector<Inside> columns;
    columns.reserve(size_t(s.q));
    for (long q = 0; q < s.q; q++)
        columns.emplace_back(q, s.stride_w, s.left, s.kw, s.dilation_w, s.w);
    return columns;
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

}  // namespace

template <class T, class Tap>
void max_pool2d(const PoolShape& s, const T* x, T* y, Tap* taps) {
    const long row_step = s.dilation_h * s.w * s.c, column_step = s.dilation_w * s.c;
    const std::vector<Inside> columns_inside = inside_columns(s);
    for_each_range(s.n * s.p, 1 + (1 << 13) / (s.q * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long r = row % s.p;
            const T* image = x + row / s.p * s.h * s.w * s.c;
            const Inside down(r, s.stride_h, s.top, s.kh, s.dilation_h, s.h);
            for (long q = 0; q < s.q; q++) {
                const Inside across = columns_inside[size_t(q)];
                const T* corner = image +
                                  ((r * s.stride_h - s.top) * s.w + q * s.stride_w - s.left) * s.c +
                                  down.first * row_step + across.first * column_step;
                const long at = (row * s.q + q) * s.c;
                const Integer<T> first = Integer<T>(down.first * s.kw + across.first);
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> best = broadcast(-std::numeric_limits<T>::infinity()), sum{};
                    Mask<T> held{}, tap_of_row = Mask<T>{} + first;
                    const T* line = corner + c;
                    for (long i = down.first; i < down.last; i++, line += row_step) {
                        const T* pixel = line;
                        Mask<T> tap = tap_of_row;
                        for (long j = across.first; j < across.last; j++, pixel += column_step) {
                            const Vector<T> value = get(pixel, count);
                            const Mask<T> better = value > best;
                            best = better ? value : best;
                            held = better ? tap : held;
                            sum += value;
                            tap += 1;
                        }
                        tap_of_row += Integer<T>(s.kw);
                    }
                    // Where a NaN was among them (or infinities of both signs) the sum is NaN.
                    if (any<T>(sum != sum))
                        find_nan<T>(s, down, across, corner + c, count, best, held);
                    put(y + at + c, best, count);
                    store_taps<T>(taps + at + c, held, count);
                });
            }
        }
    });
}

bool tile_the_image(const PoolShape& s) {
    return s.top == 0 && s.left == 0 && s.dilation_h == 1 && s.dilation_w == 1 &&
           s.stride_h == s.kh && s.stride_w == s.kw && s.h == s.p * s.kh && s.w == s.q * s.kw;
}

// A gradient is passed on result by result: the windows of a row of results add to rows of pixels,
// which are zeroed when the first window comes to them. One thread does all results of an image, so
// that the order of additions is fixed; if there are few images, of some of their channels.
//
// Where the windows tile the image each pixel has one, which writes it: nothing is zeroed or added.
//
// add(r, q, down, across, at, channels, corner) passes on the results from `at` on to the taps of
// their windows that meet pixels; the window's first tap lies at `corner`.
template <class T, class Add>
inline void for_each_result(const PoolShape& s, T* grad_input, Add add) {
    constexpr long block = 64 / sizeof(T);  // a cache line
    const long lines = (s.c + block - 1) / block;
    const long parts = std::clamp<long>((2 * get_num_threads() + s.n) / (s.n + 1), 1,
                                        std::max<long>(lines, 1));
    const std::vector<Inside> columns_inside = inside_columns(s);
    for_each_task(s.n * parts, [&](long task) {
        const long image = task / parts, part = task % parts;
        const long from = part_begin(lines, part, parts) * block;
        const long channels = std::min(s.c, part_begin(lines, part + 1, parts) * block) - from;
        T* pixels = grad_input + image * s.h * s.w * s.c + from;
        long zeroed = tile_the_image(s) ? s.h : 0;
        const auto zero = [&](long rows) {
            for (; zeroed < rows; zeroed++) {
                T* row = pixels + zeroed * s.w * s.c;
                if (channels == s.c)
                    std::fill_n(row, s.w * s.c, T(0));
                else
                    for (long w = 0; w < s.w; w++) std::fill_n(row + w * s.c, channels, T(0));
            }
        };
        for (long r = 0; r < s.p; r++) {
            zero(std::clamp<long>(r * s.stride_h - s.top + (s.kh - 1) * s.dilation_h + 1, zeroed, s.h));
            const Inside down(r, s.stride_h, s.top, s.kh, s.dilation_h, s.h);
            for (long q = 0; q < s.q; q++) {
                const Inside across = columns_inside[size_t(q)];
                const long at = ((image * s.p + r) * s.q + q) * s.c + from;
                T* corner = pixels + ((r * s.stride_h - s.top) * s.w + q * s.stride_w - s.left) * s.c;
                add(r, q, down, across, at, channels, corner);
            }
        }
        zero(s.h);
    });
}

template <class T, class Tap>
void max_pool2d_grad(const PoolShape& s, const T* grad_output, const Tap* taps, T* grad_input) {
    const long row_step = s.dilation_h * s.w * s.c, column_step = s.dilation_w * s.c;
    const bool tiled = tile_the_image(s);
    for_each_result<T>(s, grad_input, [&](long, long, const Inside& down, const Inside& across,
                                          long at, long channels, T* corner) {
        for_each_channels<T>(channels, [&](long c, auto count) {
            const Vector<T> grad = get(grad_output + at + c, count);
            const Mask<T> held = load_taps<T>(taps + at + c, count);
            for (long i = down.first; i < down.last; i++) {
                T* pixel = corner + c + i * row_step + across.first * column_step;
                Mask<T> tap = Mask<T>{} + Integer<T>(i * s.kw + across.first);
                for (long j = across.first; j < across.last; j++, pixel += column_step, tap += 1) {
                    const Vector<T> passed = tap == held ? grad : Vector<T>{};
                    put(pixel, tiled ? passed : get(pixel, count) + passed, count);
                }
            }
        });
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
    const long row_step = s.dilation_h * s.w * s.c, column_step = s.dilation_w * s.c;
    const std::vector<Inside> columns_inside = inside_columns(s);
    for_each_range(s.n * s.p, 1 + (1 << 13) / (s.q * s.c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long r = row % s.p;
            const T* image = x + row / s.p * s.h * s.w * s.c;
            const Inside down(r, s.stride_h, s.top, s.kh, s.dilation_h, s.h);
            const long rows = counted(r, s.stride_h, s.top, s.bottom, s.kh, s.dilation_h, s.h,
                                      count_padding);
            for (long q = 0; q < s.q; q++) {
                const Inside across = columns_inside[size_t(q)];
                const long columns = counted(q, s.stride_w, s.left, s.right, s.kw, s.dilation_w,
                                             s.w, count_padding);
                const T* corner = image + ((r * s.stride_h - s.top) * s.w + q * s.stride_w - s.left) * s.c;
                for_each_channels<T>(s.c, [&](long c, auto count) {
                    Vector<T> sum{};
                    for (long i = down.first; i < down.last; i++) {
                        const T* pixel = corner + i * row_step + across.first * column_step + c;
                        for (long j = across.first; j < across.last; j++, pixel += column_step)
                            sum += get(pixel, count);
                    }
                    put(y + (row * s.q + q) * s.c + c, sum / T(rows * columns), count);
                });
            }
        }
    });
}

template <class T>
void avg_pool2d_grad(const PoolShape& s, bool count_padding, const T* grad_output, T* grad_input) {
    const long row_step = s.dilation_h * s.w * s.c, column_step = s.dilation_w * s.c;
    const bool tiled = tile_the_image(s);
    for_each_result<T>(s, grad_input, [&](long r, long q, const Inside& down, const Inside& across,
                                          long at, long channels, T* corner) {
        const long rows = counted(r, s.stride_h, s.top, s.bottom, s.kh, s.dilation_h, s.h,
                                  count_padding);
        const long columns = counted(q, s.stride_w, s.left, s.right, s.kw, s.dilation_w, s.w,
                                     count_padding);
        for_each_channels<T>(channels, [&](long c, auto count) {
            const Vector<T> share = get(grad_output + at + c, count) / T(rows * columns);
            for (long i = down.first; i < down.last; i++) {
                T* pixel = corner + c + i * row_step + across.first * column_step;
                for (long j = across.first; j < across.last; j++, pixel += column_step)
                    put(pixel, tiled ? share : get(pixel, count) + share, count);
            }
        });
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
