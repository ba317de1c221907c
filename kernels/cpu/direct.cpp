// Direct convolution: every product that the definition names, tile by tile in registers.

#include "band.h"
#include "correlate.h"
#include "tile.h"
#include "transpose.h"

namespace {

// The weights of one tap as rows of `width`: a row for each channel, zeros behind its outputs. Either
// outputs or channels lie side by side.
template <class T>
void pack_tap(const T* weight, long channel_step, long output_step, long channels, long outputs, T* to,
              long width) {
    if (output_step == 1) {
        for (long c = 0; c < channels; c++)
            pack_row(weight + c * channel_step, outputs, to + c * width, width);
        return;
    }
    copy_transposed(weight, output_step, outputs, channels, to, width);
    for (long c = 0; c < channels; c++) std::fill(to + c * width + outputs, to + (c + 1) * width, T(0));
}

// Weights in the order in which the tiles meet them: panels of outputs; in each, tap by tap and
// channel by channel, the weights of its outputs side by side, zeros where there are no more.
template <class T>
void pack_weight(const Correlation<T>& p, long panel_width, T* packed) {
    const long depth = p.rows.taps * p.columns.taps * p.channels;
    const long panels = (p.outputs + panel_width - 1) / panel_width;
    for_each_range(panels, 1 + (1 << 14) / (depth * panel_width + 1), [&](long begin, long end) {
        for (long panel = begin; panel < end; panel++) {
            const long column = panel * panel_width;
            const long width = panel_columns<T>(column, p.outputs, panel_width);
            const long filled = std::min(width, p.outputs - column);
            T* to = packed + column * depth;
            for (long i = 0; i < p.rows.taps; i++)
                for (long j = 0; j < p.columns.taps; j++, to += p.channels * width)
                    pack_tap(p.weight + i * p.weight_row + j * p.weight_column +
                                 column * p.weight_output,
                             p.weight_channel, p.weight_output, p.channels, filled, to, width);
        }
    });
}

// A function of its own: among all that its caller has at hand the compiler runs out of registers for
// addresses.
template <class T, int NV>
__attribute__((noinline)) void multiply_row(long count, const T* a, long a_step, const Runs& runs,
                                            const T* b, const T* bias, bool accumulate, T* c,
                                            long c_step, long columns) {
    multiply_panel<T, NV>(count, a, a_step, runs, b, bias, accumulate, c, c_step, columns);
}

template <class T>
void correlate_band(const Correlation<T>& p, const Band<T>& band, long image, long first,
                    long results, long panel_width, const T* packed, const T* bias) {
    const Runs all = {p.rows.taps, p.rows.step * band.row_step, p.columns.taps,
                      p.columns.step * band.pixel_step, p.channels};
    // A panel of weights shall stay in the cache while the band goes past it; if it is too long,
    // some rows of taps at a time.
    const long row_depth = all.taps * all.length;
    constexpr long cache = 128 << 10;
    const long rows_at_once = std::clamp<long>(
        cache / std::max<long>(row_depth * panel_width * long(sizeof(T)), 1), 1, all.rows);
    const long a_step = p.columns.stride * band.pixel_step;
    const long c_step = p.columns.out_step * p.out_pitch;
    for (long column = 0; column < p.outputs; column += panel_width) {
        const long width = panel_columns<T>(column, p.outputs, panel_width);
        for (long row = 0; row < all.rows; row += rows_at_once) {
            Runs some = all;
            some.rows = std::min(rows_at_once, all.rows - row);
            const Runs runs = some.merged();
            const T* b = packed + column * all.depth() + row * row_depth * width;
            for (long r = 0; r < results; r++) {
                const T* a = band.data + r * p.rows.stride * band.row_step + row * all.row_step;
                T* c = p.out_at(image, first + r, 0) + column;
                const T* start = bias ? bias + column : nullptr;
                with_panel<T, widest>(width, [&](auto vectors) {
                    multiply_row<T, vectors.value>(p.columns.results, a, a_step, runs, b, start,
                                                   row > 0, c, c_step, p.outputs - column);
                });
            }
        }
    }
    for (long r = 0; r < results; r++) activate_row(p, image, first + r);
}

}  // namespace

template <class T>
void correlate_direct(const Correlation<T>& p) {
    const long depth = p.rows.taps * p.columns.taps * p.channels;
    const long panel_width = width_of_panels<T>(depth);
    PackedWeights<T> own;
    const T* packed = (p.kept ? *p.kept : own)
                          .get(PackedWeights<T>::panels, packed_size<T>(depth, p.outputs),
                               [&](T* to) { pack_weight<T>(p, panel_width, to); });
    Scratch<T> bias(packed_size<T>(1, p.outputs));
    if (p.bias) {
        std::copy_n(p.bias, p.outputs, (T*)bias);
        std::fill(bias + p.outputs, bias + packed_size<T>(1, p.outputs), T(0));
    }
    for_each_band(p, [&](long image, long first, long results) {
        Scratch<T> buffer(needs_copy(p) ? band_size(p, results) : 0);
        const Band<T> band = take_band<T>(p, image, first, results, buffer);
        correlate_band<T>(p, band, image, first, results, panel_width, packed,
                          p.bias ? (T*)bias : nullptr);
    });
}

template void correlate_direct<float>(const Correlation<float>&);
template void correlate_direct<double>(const Correlation<double>&);
