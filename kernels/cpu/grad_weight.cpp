// The gradient of a convolution's weight, direct: a matrix product over all results.

#include "conv2d_grad.h"
#include "tile.h"
#include "vector_math.h"

namespace {

// Pack rows of the output's gradient into panels of outputs, and add them to the bias's gradient.
// In a panel the outputs of one pixel follow on those of the other, zeros where there are no more.
template <class T>
void pack_gradient(const OutputGradient<T>& grad, long at, long pixels, long outputs, T* packed,
                   T* grad_bias) {
    with_activation(grad.activation, [&](auto a) {
        for (long column = 0; column < outputs; column += panel_width<T>) {
            const long width = panel_columns<T>(column, outputs);
            T* to = packed + column * pixels;
            for (long v = 0; v < width; v += lanes<T>) {
                const long filled = std::clamp<long>(outputs - column - v, 0, lanes<T>);
                const T* g = grad.data + at + column + v;
                const T* y = grad.y + at + column + v;
                Vector<T> total{};
                auto pack = [&](auto get) {
                    for (long s = 0; s < pixels; s++) {
                        Vector<T> value = get(g + s * grad.pitch);
                        if constexpr (a.value != Activation::none)
                            value = activate_grad<a.value, T>(value, get(y + s * grad.pitch));
                        store(to + s * width + v, value);
                        total += value;
                    }
                };
                if (filled == lanes<T>)
                    pack([](const T* p) { return load(p); });
                else
                    pack([filled](const T* p) { return load_some(p, filled); });
                T* bias = grad_bias + column + v;
                store_some(bias, load_some(bias, filled) + total, filled);
            }
        }
    });
}

// Copy `count` channels of `pixels` pixels to one after the other. The count is made a constant to
// the compiler, which then needs no call and no loop for each pixel.
template <class T, int M = tile_rows>
void copy_channels(const T* from, long pixels, long step, long count, T* to) {
    if constexpr (M > 1)
        if (count < M) return copy_channels<T, M - 1>(from, pixels, step, count, to);
    for (long s = 0; s < pixels; s++)
        for (int k = 0; k < M; k++) to[s * M + k] = from[s * step + k];
}

}  // namespace

template <class T>
void grad_weight_direct(const Correlation<T>& p, const OutputGradient<T>& grad, T* grad_weight,
                        T* grad_bias) {
    const long columns = packed_size<T>(1, p.outputs);
    const long depth = p.rows.taps * p.columns.taps * p.channels;
    sum_over_bands<T>(p, depth * columns + p.outputs, [&](long image, long first, long results,
                                                          T* sums) {
        Scratch<T> buffer(needs_copy(p) ? band_size(p, results) : 0);
        const Band<T> band = take_band<T>(p, image, first, results, buffer);
        const long pixels = results * p.columns.results;
        Scratch<T> packed(pixels * columns), few(pixels * tile_rows);
        pack_gradient<T>(grad, (image * p.rows.results + first) * p.columns.results * grad.pitch,
                         pixels, p.outputs, packed, sums + depth * columns);
        Runs runs = {p.rows.taps, p.rows.step * band.row_step, p.columns.taps,
                     p.columns.step * band.pixel_step, p.channels};
        runs = runs.merged();
        const long row_step = p.rows.stride * band.row_step;
        const long pixel_step = p.columns.stride * band.pixel_step;
        T* to = sums;
        for (long i = 0; i < runs.rows; i++)
            for (long j = 0; j < runs.taps; j++, to += runs.length * columns) {
                const T* a = band.data + i * runs.row_step + j * runs.tap_step;
                // Some channels at a time meet all panels. Copied to lie side by side they stay in
                // the cache meanwhile, which pays unless there are few panels.
                const long tiles = (runs.length + tile_rows - 1) / tile_rows;
                for (long t = 0; t < tiles; t++) {
                    const long k = part_begin(runs.length, t, tiles);
                    const long count = part_begin(runs.length, t + 1, tiles) - k;
                    const T* from = a + k;
                    long from_row_step = row_step, from_step = pixel_step;
                    if (p.outputs > 2 * panel_width<T>) {
                        T* copy = few;
                        for (long r = 0; r < results; r++, copy += p.columns.results * count)
                            copy_channels(from + r * row_step, p.columns.results, pixel_step, count,
                                          copy);
                        from = few, from_row_step = p.columns.results * count, from_step = count;
                    }
                    for (long column = 0; column < p.outputs; column += panel_width<T>)
                        with_panel<T>(panel_columns<T>(column, p.outputs), [&](auto vectors) {
                            multiply_transposed<T, vectors.value>(
                                count, from, results, from_row_step, p.columns.results, from_step,
                                packed + column * pixels, true, to + k * columns + column, columns,
                                columns - column);
                        });
                }
            }
    }, [&](const T* sums) {
        const T* from = sums;
        for (long i = 0; i < p.rows.taps; i++)
            for (long j = 0; j < p.columns.taps; j++)
                for (long c = 0; c < p.channels; c++, from += columns)
                    std::copy_n(from, p.outputs, grad_weight + i * p.weight_row +
                                                     j * p.weight_column + c * p.weight_channel);
        if (grad_bias) std::copy_n(sums + depth * columns, p.outputs, grad_bias);
    });
}

template void grad_weight_direct<float>(const Correlation<float>&, const OutputGradient<float>&,
                                        float*, float*);
template void grad_weight_direct<double>(const Correlation<double>&, const OutputGradient<double>&,
                                         double*, double*);
