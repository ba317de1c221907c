// Two ways, both with sums in an order that does not depend on the number of threads.
//
// Rows (one pixel, one group): a thread has whole rows, which stay in the L1 cache between the passes
// over them.
//
// Images: what is added up over pixels is kept per channel, so that vectors run along memory whatever
// the size of a group. If there are fewer channels than a vector is wide, several pixels are treated as
// one of `length` channels, with the channels' constants repeated as often:
//
//      channels       0 1 2 0 1 2 0 1 2 0 1 2      C = 3, repeat = 4, length = 12
//      memory        |pixel|pixel|pixel|pixel|
//
// An image is split into strips that fit in the L2 cache. A strip has a mean of its own and the squares
// of the deviations from it, and these are combined (Chan, Golub and LeVeque 1979) in double precision.
#include "group_norm.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"
#include "sums.h"

namespace {

// --- rows ---------------------------------------------------------------------------------------

// The sum of term(i, get) for the elements i of a row; a few vectors at a time in T, those in double.
template <class T, class Term>
double sum_row(long n, Term term) {
    constexpr long block = 32 * lanes<T>;
    double total = 0;
    long i = 0;
    while (i + lanes<T> <= n) {
        Vector<T> sum{};
        for (const long end = std::min(n, i + block); i + lanes<T> <= end; i += lanes<T>)
            sum += term(i, [](const T* p) { return load(p); });
        for (int k = 0; k < lanes<T>; k++) total += double(sum[k]);
    }
    for (; i < n; i++) total += double(term(i, [](const T* p) { return *p; }));
    return total;
}

template <class T>
void rows_forward(long rows, long c, const T* x, const T* weight, const T* bias, double eps, T* y,
                  T* mean, T* inverse_std) {
    for_each_range(rows, 1 + (1 << 14) / c, [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const T* from = x + row * c;
            T* to = y + row * c;
            const T m = T(sum_row<T>(c, [=](long i, auto get) { return get(from + i); }) / double(c));
            const double squares = sum_row<T>(c, [=](long i, auto get) {
                const auto d = get(from + i) - m;
                return d * d;
            });
            const T scale = T(1 / std::sqrt(squares / double(c) + eps));
            for_each_vector<T>(c, [=](long i, auto get, auto put) {
                Vector<T> v = (get(from + i) - m) * scale;
                if (weight) v *= get(weight + i);
                if (bias) v += get(bias + i);
                put(to + i, v);
            });
            mean[row] = m, inverse_std[row] = scale;
        }
    });
}

template <class T>
void rows_backward(long rows, long c, const T* grad_output, const T* x, const T* weight,
                   const T* mean, const T* inverse_std, T* grad_input, T* grad_weight,
                   T* grad_bias) {
    // Rows whose shares of the weight's and bias's gradients are added up in T.
    const long block = std::min<long>(64, std::max<long>(8, (1 << 15) / c));
    const long blocks = (rows + block - 1) / block;
    Scratch<T> sums(blocks * 2 * c);
    for_each_task(blocks, [&](long k) {
        T* weight_sum = sums + k * 2 * c;
        T* bias_sum = weight_sum + c;
        std::fill(weight_sum, weight_sum + 2 * c, T(0));
        for (long row = k * block; row < std::min(rows, (k + 1) * block); row++) {
            const T *grad = grad_output + row * c, *from = x + row * c;
            T* to = grad_input + row * c;
            const T m = mean[row], scale = inverse_std[row];
            const auto share = [=](long i, auto get) {
                return weight ? get(grad + i) * get(weight + i) : get(grad + i);
            };
            const double common = sum_row<T>(c, share);
            const double along = sum_row<T>(c, [=](long i, auto get) {
                return share(i, get) * ((get(from + i) - m) * scale);
            });
            const T common_mean = T(common / double(c)), along_mean = T(along / double(c));
            for_each_vector<T>(c, [=](long i, auto get, auto put) {
                const Vector<T> normalised = (get(from + i) - m) * scale;
                put(weight_sum + i, get(weight_sum + i) + get(grad + i) * normalised);
                put(bias_sum + i, get(bias_sum + i) + get(grad + i));
                put(to + i, (share(i, get) - common_mean - normalised * along_mean) * scale);
            });
        }
    });
    for_each_range(c, 1 + (1 << 14) / (blocks + 1), [&](long begin, long end) {
        for (long i = begin; i < end; i++) {
            double weight_total = 0, bias_total = 0;
            for (long k = 0; k < blocks; k++) {
                weight_total += double(sums[k * 2 * c + i]);
                bias_total += double(sums[(k * 2 + 1) * c + i]);
            }
            grad_weight[i] = T(weight_total), grad_bias[i] = T(bias_total);
        }
    });
}

// --- images -------------------------------------------------------------------------------------

// How images are split. Lines are stretches of `length` elements: `repeat` pixels of all channels.
template <class T>
struct Strips {
    long c, groups, width;   // channels, groups, channels of a group
    long repeat, length;     // pixels and elements of a line
    long pixels, strip, strips;  // pixels of an image, pixels of a strip, strips of an image

    explicit Strips(const GroupNormShape& s) : c(s.c), groups(s.groups), width(s.c / s.groups) {
        pixels = s.pixels;
        repeat = std::max<long>(1, std::min(pixels, 4 * lanes<T> / c));
        length = repeat * c;
        strip = repeat * std::max<long>(1, (1 << 14) / length);
        strips = (pixels + strip - 1) / strip;
    }

    // Call body(image, strip, scratch) for all strips, with `tables` arrays of `length` elements.
    template <class F>
    void for_each(long n, long tables, F body) const {
        for_each_range(n * strips, 1 + (1 << 14) / (strip * c), [&](long begin, long end) {
            Scratch<T> scratch(tables * length);
            for (long k = begin; k < end; k++) body(k / strips, k % strips, static_cast<T*>(scratch));
        });
    }

    // Call first(image, strip, scratch) for all strips, then combine(image) for each image, then
    // last(image, strip, scratch) for all strips. Images of which a thread has whole ones, and which fit
    // in its L2 cache together with the other array that is read, are taken one after the other.
    template <class First, class Combine, class Last>
    void in_phases(long n, long tables, First first, Combine combine, Last last) const {
        if (n >= get_num_threads() && 2 * pixels * c * long(sizeof(T)) <= 3 << 18) {
            for_each_range(n, 1 + (1 << 14) / (pixels * c), [&](long begin, long end) {
                Scratch<T> scratch(tables * length);
                for (long image = begin; image < end; image++) {
                    for (long k = 0; k < strips; k++) first(image, k, static_cast<T*>(scratch));
                    combine(image);
                    for (long k = 0; k < strips; k++) last(image, k, static_cast<T*>(scratch));
                }
            });
            return;
        }
        for_each(n, tables, first);
        for_each_range(n, 1 + (1 << 12) / (strips * c), [&](long begin, long end) {
            for (long image = begin; image < end; image++) combine(image);
        });
        for_each(n, tables, last);
    }

    long pixels_of(long k) const { return std::min(strip, pixels - k * strip); }
    long offset(long image, long k) const { return (image * pixels + k * strip) * c; }

    // The constants of a line: table[i] = value(channel, group).
    template <class F>
    void fill(T* table, F value) const {
        for (long i = 0; i < c; i++) table[i] = value(i, i / width);
        for (long i = c; i < length; i++) table[i] = table[i - c];
    }

    // Call f(offset, constants, get, put) for each vector of a strip, where constants(place, get) gives
    // those of its place in a line: they stay in registers over many lines.
    template <class Constants, class F>
    void for_vectors(long k, Constants constants, F f) const {
        constexpr int count = vector_bytes == 64 ? 4 : 2;  // vectors of a line at a time
        const long size = pixels_of(k) * c, whole = size - size % length;
        const auto whole_load = [](const T* p) { return load(p); };
        const auto whole_store = [](T* p, Vector<T> v) { store(p, v); };
        long place = 0;
        for (; place + count * lanes<T> <= length; place += count * lanes<T>) {
            decltype(constants(place, whole_load)) kept[count];
            for (int v = 0; v < count; v++) kept[v] = constants(place + v * lanes<T>, whole_load);
            for (long begin = place; begin < whole; begin += length)
                for (int v = 0; v < count; v++)
                    f(begin + v * lanes<T>, kept[v], whole_load, whole_store);
        }
        for_each_vector<T>(length - place, [=](long i, auto get, auto put) {
            const auto kept = constants(place + i, get);
            for (long begin = place + i; begin < whole; begin += length) f(begin, kept, get, put);
        });
        for_each_vector<T>(size - whole, [=](long i, auto get, auto put) {
            f(whole + i, constants(i, get), get, put);
        });
    }

    // The sums over the lines of a strip of term(offset, place, get), of each place in a line; term
    // gives an array of N vectors.
    template <size_t N, class Term>
    void sum_lines(long k, Term term, const std::array<T*, N>& sums) const {
        const long size = pixels_of(k) * c, whole = size - size % length;
        sum_columns<T>(length, 0, whole, length, [=](long begin, long i, auto get) {
            return term(begin + i, i, get);
        }, sums);
        for_each_vector<T>(size - whole, [=](long i, auto get, auto put) {
            const std::array<Vector<T>, N> found = term(whole + i, i, get);
            for (size_t n = 0; n < N; n++) put(sums[n] + i, get(sums[n] + i) + found[n]);
        });
    }

    // The sum of a channel over the pixels of a line.
    double of_channel(const T* line, long channel) const {
        double total = 0;
        for (long i = channel; i < length; i += c) total += double(line[i]);
        return total;
    }

    // The sum of a group's channels over the pixels of a line.
    double of_group(const T* line, long group) const {
        double total = 0;
        for (long i = group * width; i < (group + 1) * width; i++) total += of_channel(line, i);
        return total;
    }
};

template <class T>
void images_forward(const GroupNormShape& shape, const T* x, const T* weight, const T* bias,
                    double eps, T* y, T* mean, T* inverse_std) {
    const Strips<T> s(shape);
    Scratch<double> moments(shape.n * s.strips * s.groups * 2);  // mean and squares of each strip
    const auto find_moments = [&](long image, long k, T* scratch) {
        const T* from = x + s.offset(image, k);
        T *sums = scratch, *center = scratch + s.length;
        double* found = moments + (image * s.strips + k) * s.groups * 2;
        const double count = double(s.pixels_of(k) * s.width);
        const auto value = [=](long i, long, auto get) {
            return std::array<Vector<T>, 1>{get(from + i)};
        };
        s.template sum_lines<1>(k, value, {sums});
        for (long g = 0; g < s.groups; g++) found[2 * g] = s.of_group(sums, g) / count;
        s.fill(center, [&](long, long g) { return T(found[2 * g]); });
        const auto square = [=](long i, long line, auto get) {
            const Vector<T> d = get(from + i) - get(center + line);
            return std::array<Vector<T>, 1>{d * d};
        };
        s.template sum_lines<1>(k, square, {sums});
        for (long g = 0; g < s.groups; g++) found[2 * g + 1] = s.of_group(sums, g);
    };
    const auto combine = [&](long image) {
        for (long g = 0; g < s.groups; g++) {
            const double* found = moments + (image * s.strips * s.groups + g) * 2;
            const double pixels = double(s.pixels);
            double center = 0, squares = 0;
            for (long k = 0; k < s.strips; k++)
                center += double(s.pixels_of(k)) / pixels * found[k * s.groups * 2];
            for (long k = 0; k < s.strips; k++) {
                const double d = found[k * s.groups * 2] - center;
                squares += found[k * s.groups * 2 + 1] + double(s.pixels_of(k) * s.width) * d * d;
            }
            mean[image * s.groups + g] = T(center);
            inverse_std[image * s.groups + g] =
                T(1 / std::sqrt(squares / (pixels * double(s.width)) + eps));
        }
    };
    const auto normalise = [&](long image, long k, T* scratch) {
        const T* from = x + s.offset(image, k);
        T* to = y + s.offset(image, k);
        T *center = scratch, *scale = center + s.length, *shift = scale + s.length;
        const T *m = mean + image * s.groups, *inverse = inverse_std + image * s.groups;
        s.fill(center, [&](long, long g) { return m[g]; });
        s.fill(scale, [&](long c, long g) { return weight ? inverse[g] * weight[c] : inverse[g]; });
        s.fill(shift, [&](long c, long) { return bias ? bias[c] : T(0); });
        const auto constants = [=](long i, auto get) {
            return std::array<Vector<T>, 3>{get(center + i), get(scale + i), get(shift + i)};
        };
        s.for_vectors(k, constants, [=](long i, const auto& of_line, auto get, auto put) {
            put(to + i, (get(from + i) - of_line[0]) * of_line[1] + of_line[2]);
        });
    };
    s.in_phases(shape.n, 3, find_moments, combine, normalise);
}

template <class T>
void images_backward(const GroupNormShape& shape, const T* grad_output, const T* x, const T* weight,
                     const T* mean, const T* inverse_std, T* grad_input, T* grad_weight,
                     T* grad_bias) {
    const Strips<T> s(shape);
    const long c = s.c, parts = shape.n * s.strips;
    // The sums of each strip and channel: of the gradient, and of the gradient times the normalised x.
    Scratch<T> sums(parts * 2 * c);
    // What each element of an image and group has in common, divided by their number.
    Scratch<T> means(shape.n * s.groups * 2);
    const auto add_up = [&](long image, long k, T* scratch) {
        const T *grad = grad_output + s.offset(image, k), *from = x + s.offset(image, k);
        T *line_grads = scratch, *line_products = line_grads + s.length;
        T* center = line_products + s.length;
        T* bias_sums = sums + (image * s.strips + k) * 2 * c;
        T* weight_sums = bias_sums + c;
        const T *m = mean + image * s.groups, *inverse = inverse_std + image * s.groups;
        s.fill(center, [&](long, long g) { return m[g]; });
        const auto shares = [=](long i, long line, auto get) {
            const Vector<T> g = get(grad + i);
            return std::array<Vector<T>, 2>{g, g * (get(from + i) - get(center + line))};
        };
        s.template sum_lines<2>(k, shares, {line_grads, line_products});
        for (long i = 0; i < c; i++) {
            bias_sums[i] = T(s.of_channel(line_grads, i));
            weight_sums[i] = T(s.of_channel(line_products, i) * double(inverse[i / s.width]));
        }
    };
    const auto combine = [&](long image) {
        for (long g = 0; g < s.groups; g++) {
            double common = 0, along = 0;
            for (long k = 0; k < s.strips; k++) {
                const T* found = sums + (image * s.strips + k) * 2 * c;
                for (long i = g * s.width; i < (g + 1) * s.width; i++) {
                    const double scale = weight ? double(weight[i]) : 1;
                    common += scale * double(found[i]);
                    along += scale * double(found[c + i]);
                }
            }
            const double count = double(s.pixels) * double(s.width);
            means[(image * s.groups + g) * 2] = T(common / count);
            means[(image * s.groups + g) * 2 + 1] = T(along / count);
        }
    };
    const auto differentiate = [&](long image, long k, T* scratch) {
        const T *grad = grad_output + s.offset(image, k), *from = x + s.offset(image, k);
        T* to = grad_input + s.offset(image, k);
        T *center = scratch, *scale = center + s.length;
        T *common = scale + s.length, *along = common + s.length;
        const T *m = mean + image * s.groups, *inverse = inverse_std + image * s.groups;
        const T* found = means + image * s.groups * 2;
        s.fill(center, [&](long, long g) { return m[g]; });
        s.fill(scale, [&](long i, long g) { return weight ? inverse[g] * weight[i] : inverse[g]; });
        s.fill(common, [&](long, long g) { return inverse[g] * found[2 * g]; });
        s.fill(along, [&](long, long g) { return inverse[g] * inverse[g] * found[2 * g + 1]; });
        const auto constants = [=](long i, auto get) {
            return std::array<Vector<T>, 4>{get(center + i), get(scale + i), get(common + i),
                                            get(along + i)};
        };
        s.for_vectors(k, constants, [=](long i, const auto& of_line, auto get, auto put) {
            put(to + i, get(grad + i) * of_line[1] - of_line[2] -
                            (get(from + i) - of_line[0]) * of_line[3]);
        });
    };
    s.in_phases(shape.n, 4, add_up, combine, differentiate);
    for_each_range(c, 1 + (1 << 14) / (parts + 1), [&](long begin, long end) {
        for (long i = begin; i < end; i++) {
            double weight_total = 0, bias_total = 0;
            for (long k = 0; k < parts; k++) {
                bias_total += double(sums[k * 2 * c + i]);
                weight_total += double(sums[(k * 2 + 1) * c + i]);
            }
            grad_weight[i] = T(weight_total), grad_bias[i] = T(bias_total);
        }
    });
}

}  // namespace

template <class T>
void group_norm(const GroupNormShape& s, const T* x, const T* weight, const T* bias, double eps, T* y,
                T* mean, T* inverse_std) {
    if (s.pixels == 1 && s.groups == 1)
        return rows_forward(s.n, s.c, x, weight, bias, eps, y, mean, inverse_std);
    images_forward(s, x, weight, bias, eps, y, mean, inverse_std);
}

template <class T>
void group_norm_grad(const GroupNormShape& s, const T* grad_output, const T* x, const T* weight,
                     const T* mean, const T* inverse_std, T* grad_input, T* grad_weight,
                     T* grad_bias) {
    if (s.pixels == 1 && s.groups == 1)
        return rows_backward(s.n, s.c, grad_output, x, weight, mean, inverse_std, grad_input,
                             grad_weight, grad_bias);
    images_backward(s, grad_output, x, weight, mean, inverse_std, grad_input, grad_weight, grad_bias);
}

#define INSTANTIATE(T)                                                                            \
    template void group_norm<T>(const GroupNormShape&, const T*, const T*, const T*, double, T*,  \
                                T*, T*);                                                          \
    template void group_norm_grad<T>(const GroupNormShape&, const T*, const T*, const T*,         \
                                     const T*, const T*, T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
