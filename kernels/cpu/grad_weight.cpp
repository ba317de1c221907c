// The gradient of a convolution's weight, direct: a matrix product over all results.

#include "conv2d_grad.h"
#include "tile.h"
#include "vector_math.h"

namespace {

constexpr long summed_at_once = 32;  // pixels: short sums of short sums round less than a long one

// Pack the gradients of `pixels` results into panels of outputs, and add them to the bias's gradient.
// In a panel the outputs of one pixel follow on those of the other, zeros where there are no more.
// Four vectors at a time take whole lines.
template <class T>
void pack_gradient(const OutputGradient<T>& grad, long at, long pixels, long outputs, T* packed,
                   T* grad_bias) {
    constexpr long L = lanes<T>, panel = panel_width<T>;
    with_activation(grad.activation, [&](auto a) {
        for_some_channels<T, 4>(outputs, [=](long o, auto vectors, auto count) {
            const long width = panel_columns<T>(o / panel * panel, outputs);
            T* to = packed + o / panel * panel * pixels + o % panel;
            Vector<T> totals[vectors] = {};
            for (long first = 0; first < pixels; first += summed_at_once) {
                Vector<T> part[vectors] = {};
                for (long s = first; s < std::min(pixels, first + summed_at_once); s++)
                    for (int v = 0; v < vectors; v++) {
                        const long from = at + s * grad.pitch + o + v * L;
                        Vector<T> value = get(grad.data + from, count);
                        if constexpr (a.value != Activation::none)
                            value = activate_grad<a.value, T>(value, get(grad.y + from, count));
                        store(to + v * L / panel * panel * pixels + s * width + v * L % panel, value);
                        part[v] += value;
                    }
                for (int v = 0; v < vectors; v++) totals[v] += part[v];
            }
            for (int v = 0; v < vectors; v++) {
                T* bias = grad_bias + o + v * L;
                put(bias, get(bias, count) + totals[v], count);
            }
        });
    });
}

// Channels cut into tiles of about the same width: the first `wider` have one more than the others.
struct Tiles {
    long count, least, wider;
    explicit Tiles(long channels)
        : count((channels + tile_rows - 1) / tile_rows), least(channels / count),
          wider(channels - least * count) {}
    long width(long t) const { return least + (t < wider); }
    long begin(long t) const { return t * least + std::min(t, wider); }
};

// Copy channels of `rows` times `pixels` pixels, so that in each tile the channels of a pixel follow
// on those of the other. Pixel by pixel: its tiles share lines.
template <class T>
void copy_tiles(const T* from, long rows, long row_step, long pixels, long step, const Tiles& tiles,
                T* to) {
    with_rows<tile_rows>(tiles.least, [&](auto least) {
        constexpr long narrow = least, wide = narrow + 1;  // constants, so that no copy is a call
        const long wide_tile = rows * pixels * wide, narrow_tile = rows * pixels * narrow;
        for (long r = 0; r < rows; r++)
            for (long s = 0; s < pixels; s++) {
                const T* pixel = from + r * row_step + s * step;
                T* out = to + (r * pixels + s) * wide;
                for (long t = 0; t < tiles.wider; t++, pixel += wide, out += wide_tile)
                    memcpy(out, pixel, wide * sizeof(T));
                out = to + tiles.wider * wide_tile + (r * pixels + s) * narrow;
                for (long t = tiles.wider; t < tiles.count; t++, pixel += narrow, out += narrow_tile)
                    memcpy(out, pixel, narrow * sizeof(T));
            }
    });
}

}  // namespace

template <class T>
void grad_weight_direct(const Correlation<T>& p, const OutputGradient<T>& grad, T* grad_weight,
                        T* grad_bias) {
    constexpr long channels_copied = 64 * tile_rows;  // at once
    const bool copied = p.outputs > 2 * panel_width<T>;
    const long columns = packed_size<T>(1, p.outputs);
    const long depth = p.rows.taps * p.columns.taps * p.channels;
    sum_over_bands<T>(p, depth * columns + p.outputs, [&](long image, long first, long results,
                                                          T* sums) {
        Scratch<T> buffer(needs_copy(p) ? band_size(p, results) : 0);
        const Band<T> band = take_band<T>(p, image, first, results, buffer);
        const long pixels = results * p.columns.results;
        Scratch<T> packed(pixels * columns);
        pack_gradient<T>(grad, (image * p.rows.results + first) * p.columns.results * grad.pitch,
                         pixels, p.outputs, packed, sums + depth * columns);
        Runs runs = {p.rows.taps, p.rows.step * band.row_step, p.columns.taps,
                     p.columns.step * band.pixel_step, p.channels};
        runs = runs.merged();
        const long row_step = p.rows.stride * band.row_step;
        const long pixel_step = p.columns.stride * band.pixel_step;
        const long groups = (runs.length + channels_copied - 1) / channels_copied;
        Scratch<T> few(copied ? pixels * std::min(runs.length, channels_copied) : 0);
        T* to = sums;
        for (long i = 0; i < runs.rows; i++)
            for (long j = 0; j < runs.taps; j++, to += runs.length * columns) {
                const T* a = band.data + i * runs.row_step + j * runs.tap_step;
                // Some channels at a time meet all panels. Copied to lie side by side they stay in
                // the cache meanwhile, which pays unless there are few panels.
                for (long group = 0; group < groups; group++) {
                    const long begin = part_begin(runs.length, group, groups);
                    const Tiles tiles(part_begin(runs.length, group + 1, groups) - begin);
                    if (copied)
                        copy_tiles<T>(a + begin, results, row_step, p.columns.results, pixel_step,
                                      tiles, few);
                    for (long t = 0; t < tiles.count; t++) {
                        const long k = tiles.begin(t), count = tiles.width(t);
                        const T* from = copied ? few + k * pixels : a + begin + k;
                        const long from_row_step = copied ? p.columns.results * count : row_step;
                        const long from_step = copied ? count : pixel_step;
                        for (long column = 0; column < p.outputs; column += panel_width<T>)
                            with_panel<T>(panel_columns<T>(column, p.outputs), [&](auto vectors) {
                                multiply_transposed<T, vectors.value>(
                                    count, from, results, from_row_step, p.columns.results,
                                    from_step, packed + column * pixels, true,
                                    to + (begin + k) * columns + column, columns, columns - column);
                            });
                    }
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
