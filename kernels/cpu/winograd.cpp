// Winograd's minimal filtering F(4x4, 3x3) and F(2x2, 5x5): 36 products for 4 x 4 results of a 3 x 3
// window instead of 144, or for 2 x 2 results of a 5 x 5 window instead of 100 (Winograd 1980; Lavin
// and Gray, 'Fast Algorithms for Convolutional Neural Networks', 2016). And F(4x4, 2x2): 25 products
// instead of 64, for a window such as a quarter of the pixels sees in the input gradient of a 3 x 3
// window with stride 2.
//
// A tile of S x S pixels d (S is 6, or 5), the weights g and the results y of one channel are related by
//     y = A^T [(G g G^T) * (B^T d B)] A        (* element by element),
// see winograd.h for what happens along an axis. Summed over channels, each of the S^2 elements is a
// matrix product of its own. Because all is linear, the gradient of the weight is
// G^T [sum over tiles of (A dy A^T) * (B^T d B)] G.

#include <atomic>

#include "conv2d_grad.h"
#include "correlate.h"
#include "reduction.h"
#include "tile.h"
#include "transpose.h"
#include "vector_math.h"
#include "winograd.h"

namespace {

using V = Vector<float>;
constexpr int L = lanes<float>;

// --- tiles ------------------------------------------------------------------------------------------

// The tiles of all images, numbered; where a tile's results begin. Where taps are `step` pixels apart,
// so are the pixels of a tile and its results: tiles that begin beside each other lie in between.
struct Tiles {
    Axis rows, columns;
    long down, across, count;
    explicit Tiles(const Correlation<float>& p)
        : rows(p.rows), columns(p.columns), down(along(rows)), across(along(columns)),
          count(p.n * down * across) {}
    long image(long tile) const { return tile / (down * across); }
    long row(long tile) const { return begin(rows, tile / across % down); }
    long column(long tile) const { return begin(columns, tile % across); }

private:
    static long along(const Axis& a) {
        const long apart = (a.results + a.step - 1) / a.step;  // results that are no neighbours
        return (apart + results_side(a.taps) - 1) / results_side(a.taps) * a.step;
    }
    static long begin(const Axis& a, long k) {
        return k / a.step * results_side(a.taps) * a.step + k % a.step;
    }
};

// How many of a tile's results there are along an axis, from `begin` on.
inline long results_of(const Axis& a, long begin) {
    return std::min<long>(results_side(a.taps), (a.results - begin + a.step - 1) / a.step);
}

constexpr int square(int n) { return n * n; }

inline long padded(long channels) { return (channels + L - 1) / L * L; }

// How far the same element of two neighbouring points lies apart: not a multiple of a large power
// of 2, lest all of them compete for the same few lines of the cache.
inline long point_step(long elements) { return elements + 16; }

// Copy `side` x `side` pixels from (row, column) on, zeros where they lie outside the image.
void copy_tile(const Correlation<float>& p, const Tiles& tiles, long image, long row, long column,
               long side, float* to) {
    const long down = tiles.rows.step, across = tiles.columns.step;
    if (down == 1 && across == 1) return copy_patch(p, image, row, column, side, side, to);
    for (long i = 0; i < side; i++)
        for (long j = 0; j < side; j++, to += p.channels)
            copy_patch(p, image, row + i * down, column + j * across, 1, 1, to);
}

// Transform the pixels of one tile, `filled` channels of each, to to[point * step].
template <int S>
inline void transform_pixels(const float* from, long row_step, long pixel_step, long filled,
                             float* to, long step) {
    V d[S][S], line[S];
    for (int j = 0; j < S; j++) {
        for (int i = 0; i < S; i++)
            line[i] = get(from + i * row_step + j * pixel_step, filled);
        transform_image<S>(line, 1);
        for (int i = 0; i < S; i++) d[i][j] = line[i];
    }
    for (int i = 0; i < S; i++) {
        transform_image<S>(d[i], 1);
        for (int j = 0; j < S; j++) store(to + (i * S + j) * step, d[i][j]);
    }
}

// Transform the pixels of one tile to to[point * step + channel], zeros in channels that are none.
// `patch` has room for the tile.
template <int S>
void load_tile(const Correlation<float>& p, const Tiles& tiles, long tile, float* patch, float* to,
               long step) {
    const long image = tiles.image(tile);
    const long row = tiles.row(tile) + p.rows.origin, column = tiles.column(tile) + p.columns.origin;
    const float* from = p.in + ((image * p.h + row) * p.w + column) * p.pitch;
    long row_step = p.rows.step * p.w * p.pitch, pixel_step = p.columns.step * p.pitch;
    if (p.gate != Activation::none || row < 0 || column < 0 ||
        row + (S - 1) * p.rows.step >= p.h ||
        column + (S - 1) * p.columns.step >= p.w) {
        copy_tile(p, tiles, image, row, column, S, patch);
        from = patch, row_step = S * p.channels, pixel_step = p.channels;
    }
    for (long c = 0; c < p.channels; c += L)
        transform_pixels<S>(from + c, row_step, pixel_step, std::min<long>(p.channels - c, L), to + c,
                         step);
}

// Transform a panel of weights, `width` outputs of which `filled` are there, to
// to[(point * channels + channel) * width]; where the next row, column and channel of weights are is
// given.
template <int taps>
inline void transform_panel(const float* weight, long row, long column, long channel, long channels,
                            long filled, long width, float* to) {
    constexpr int S = side_of_tile(taps), points = square(S);
    for (long c = 0; c < channels; c++) {
        V g[widest][points];
        for (long v = 0; v < width; v += L) {
            V* gv = g[v / L];
            for (long i = 0; i < taps; i++)
                for (long j = 0; j < taps; j++)
                    gv[i * S + j] =
                        load_columns(weight + i * row + j * column + c * channel + v, filled - v);
            for (int j = 0; j < taps; j++) transform_weight<taps>(gv + j, S);
            for (int i = 0; i < S; i++) transform_weight<taps>(gv + i * S, 1);
        }
        // Whole lines at a time: the points lie so far apart that they compete for the cache.
        for (long x = 0; x < points; x++)
            for (long v = 0; v < width; v += L)
                store(to + (x * channels + c) * width + v, g[v / L][x]);
    }
}

// The weights, transformed, as packed panels: a panel of outputs, of it a point, of it a channel.
template <int taps>
void transform_weights(const Correlation<float>& p, float* to) {
    // The weights of neighbouring outputs side by side, to be loaded as vectors.
    Scratch<float> copy(p.weight_output == 1 ? 0 : taps * taps * p.channels * p.outputs);
    const float* weight = p.weight;
    long row = p.weight_row, column = p.weight_column, channel = p.weight_channel;
    if (p.weight_output != 1) {
        const long size = p.channels * p.outputs;
        for_each_range(taps * taps, 1 + (1 << 13) / size, [&](long begin, long end) {
            for (long tap = begin; tap < end; tap++)
                copy_transposed(p.weight + tap / taps * row + tap % taps * column, p.weight_output,
                                p.outputs, p.channels, copy + tap * size, p.outputs);
        });
        weight = copy, channel = p.outputs, column = p.channels * channel, row = taps * column;
    }
    const long panel = width_of_panels<float>(p.channels);
    const long panels = (p.outputs + panel - 1) / panel;
    for_each_task(panels, [&](long k) {
        const long first = k * panel, width = panel_columns<float>(first, p.outputs, panel);
        transform_panel<taps>(weight + first, row, column, channel, p.channels, p.outputs - first, width,
                              to + first * square(side_of_tile(taps)) * p.channels);
    });
}

// From the products of a tile its results. (A function of its own: where it is inlined the compiler runs
// out of registers for addresses.)
template <int taps>
__attribute__((noinline)) void store_tile(const Correlation<float>& p, const Tiles& tiles, long tile,
                                          const float* products, long step, long first, long width) {
    constexpr int S = side_of_tile(taps), side = results_side(taps);
    const long image = tiles.image(tile), row = tiles.row(tile), column = tiles.column(tile);
    const long rows = results_of(p.rows, row), columns = results_of(p.columns, column);
    const long row_step = p.rows.step * p.rows.out_step * p.out_w * p.out_pitch;
    const long pixel_step = p.columns.step * p.columns.out_step * p.out_pitch;
    for (long v = 0; v < width && first + v < p.outputs; v += L) {
        const long filled = std::min<long>(p.outputs - first - v, L);
        V m[side][S], line[S];
        for (int j = 0; j < S; j++) {
            for (int i = 0; i < S; i++) line[i] = load(products + (i * S + j) * step + v);
            evaluate_transposed<S, side>(line, 1);
            for (int i = 0; i < side; i++) m[i][j] = line[i];
        }
        const V bias = p.bias ? load_some(p.bias + first + v, filled) : V{};
        float* to = p.out_at(image, row, column) + first + v;
        const float* addend = p.addend_at(to);
        with_activation(p.activation, [&](auto a) {
            for (long i = 0; i < rows; i++, to += row_step) {
                evaluate_transposed<S, side>(m[i], 1);
                for (long j = 0; j < columns; j++) {
                    V before = m[i][j] + bias;
                    if (addend) before += get(addend + i * row_step + j * pixel_step, filled);
                    const V y = activate<a.value, float>(before);
                    if (filled == L)
                        store(to + j * pixel_step, y);
                    else
                        store_some(to + j * pixel_step, y, filled);
                }
            }
        });
    }
}

// Transform the gradients of one tile's results, panel by panel, in each the outputs of a tile side by
// side: a panel begins at to[first output * count]; and sum them for the bias. `patch` has room for
// the tile.
void load_gradients(const Correlation<float>& g, const Tiles& tiles, long tile, float* patch,
                    float* to, long index, long count, long step, float* bias) {
    constexpr int S = side_of_tile(3), points = square(S), side = results_side(3);
    copy_tile(g, tiles, tiles.image(tile), tiles.row(tile), tiles.column(tile), side, patch);
    for (long first = 0; first < g.channels; first += L) {
        const long filled = std::min<long>(g.channels - first, L);
        V y[points], total{};
        for (int i = 0; i < side; i++)
            for (int j = 0; j < side; j++) {
                const V value = get(patch + (i * side + j) * g.channels + first, filled);
                y[i * S + j] = value;
                total += value;
            }
        for (int j = 0; j < side; j++) evaluate<S, side>(y + j, S);
        for (int i = 0; i < S; i++) evaluate<S, side>(y + i * S, 1);
        const long column = first / panel_width<float> * panel_width<float>;
        const long width = panel_columns<float>(column, g.channels);
        float* out = to + column * count + index * width + first - column;
        for (int k = 0; k < points; k++) store(out + k * step, y[k]);
        store(bias + first, total);
    }
}

bool fits(const Correlation<float>& p) {
    const auto plain = [](const Axis& a) {
        return (a.taps == 2 || a.taps == 3 || a.taps == 5) && a.stride == 1;
    };
    return p.rows.taps == p.columns.taps && plain(p.rows) && plain(p.columns);
}

// Call f with the taps of a window that fits, along an axis, as a constant.
template <class F>
void with_taps(const Correlation<float>& p, F f) {
    if (p.rows.taps == 2)
        f(std::integral_constant<int, 2>{});
    else if (p.rows.taps == 3)
        f(std::integral_constant<int, 3>{});
    else
        f(std::integral_constant<int, 5>{});
}

// Of the results of all tiles, the share that is wanted.
double filled(const Correlation<float>& p) {
    const Tiles tiles(p);
    return double(p.n * p.rows.results * p.columns.results) /
           double(tiles.count * results_side(p.rows.taps) * results_side(p.columns.taps));
}

template <int taps>
void correlate_tiles(const Correlation<float>& p) {
    constexpr int S = side_of_tile(taps), points = square(S);
    const Tiles tiles(p);
    const long channels = padded(p.channels), panel = width_of_panels<float>(p.channels);
    PackedWeights<float> own;
    const float* weights = (p.kept ? *p.kept : own)
                               .get(PackedWeights<float>::winograd,
                                    packed_size<float>(points * p.channels, p.outputs),
                                    [&](float* to) { transform_weights<taps>(p, to); });

    // As many tiles at once as leave their transforms in a core's cache, since each panel of weights
    // goes past them once.
    constexpr long cache = 256 << 10;
    const long fit = cache / (points * channels * long(sizeof(float))) / tile_rows * tile_rows;
    const long share = (tiles.count + 2 * get_num_threads() - 1) / (2 * get_num_threads());
    const long most = std::clamp<long>(std::min(fit, share), 2 * tile_rows, 16 * tile_rows);
    const long blocks = (tiles.count + most - 1) / most;
    for_each_task(blocks, [&](long block) {
        const long begin = part_begin(tiles.count, block, blocks);
        const long count = part_begin(tiles.count, block + 1, blocks) - begin;
        const long image_step = point_step(count * channels), product_step = point_step(count * panel);
        Scratch<float> images(points * image_step), products(points * product_step);
        Scratch<float> patch(points * p.channels);
        for (long t = 0; t < count; t++)
            load_tile<S>(p, tiles, begin + t, patch, images + t * channels, image_step);
        for (long first = 0; first < p.outputs; first += panel) {
            const long width = panel_columns<float>(first, p.outputs, panel);
            const float* b = weights + first * points * p.channels;
            const Runs runs = {1, 0, 1, 0, p.channels};
            for (long k = 0; k < points; k++, b += p.channels * width) {
                const float* a = images + k * image_step;
                float* c = products + k * product_step;
                with_panel<float, widest>(width, [&](auto vectors) {
                    multiply_panel<float, vectors.value>(count, a, channels, runs, b, nullptr,
                                                         false, c, width, width);
                });
            }
            for (long t = 0; t < count; t++)
                store_tile<taps>(p, tiles, begin + t, products + t * width, product_step, first,
                                 width);
        }
    });
}

std::atomic<bool> enabled{true};

}  // namespace

void set_winograd(bool enable) { enabled = enable; }
bool winograd_enabled() { return enabled; }

// The fewer channels, the less the products weigh against the transforms of the tiles, and the fewer
// tiles, against that of the weights, unless these are kept; and the shorter the sum, the smaller direct
// convolution's own rounding error.
bool winograd_pays(const Correlation<float>& p) {
    if (!winograd_enabled()) return false;
    const long least = p.rows.taps == 2 ? 32 : 16;
    return fits(p) && p.channels >= least && p.outputs >= least &&
           Tiles(p).count >= (p.kept ? 6 : 16) && filled(p) >= 0.5;
}

void correlate_winograd(const Correlation<float>& p) {
    with_taps(p, [&](auto taps) { correlate_tiles<taps.value>(p); });
}

// Not for windows of 5 x 5: their 5 gradients along an axis take the points' fourth powers, and the
// rounding error is 6 times that of direct convolution.
bool winograd_grad_weight_pays(const Correlation<float>& p) {
    return winograd_enabled() && fits(p) && p.rows.taps == 3 && p.channels >= 16 &&
           p.outputs >= 16 && filled(p) >= 0.5;
}

void grad_weight_winograd(const Correlation<float>& p, const OutputGradient<float>& grad,
                          float* grad_weight, float* grad_bias) {
    constexpr int taps = 3, S = side_of_tile(taps), points = square(S);
    const Tiles tiles(p);
    const long channels = padded(p.channels), outputs = packed_size<float>(1, p.outputs);
    // The results' gradients lie as an image does.
    Correlation<float> g{};
    g.in = grad.data, g.n = p.n, g.h = p.rows.results, g.w = p.columns.results;
    g.channels = p.outputs, g.pitch = grad.pitch;
    g.gate = grad.activation, g.gate_output = grad.y;

    // Some tiles at a time: first all are transformed, then each point's products are summed.
    constexpr long cache = 8 << 20;
    const long most = std::clamp<long>(
        cache / (points * (channels + outputs) * long(sizeof(float))), 32, tiles.count);
    const long chunks = (tiles.count + most - 1) / most;
    const long largest = (tiles.count + chunks - 1) / chunks;
    const long image_step = point_step(largest * channels), grad_step = point_step(largest * outputs);
    Scratch<float> images(points * image_step), gradients(points * grad_step);
    Scratch<float> sums(points * channels * outputs);
    std::fill_n((float*)sums, points * channels * outputs, 0.0f);
    Scratch<float> biases(tiles.count * outputs);

    for (long chunk = 0; chunk < chunks; chunk++) {
        const long begin = part_begin(tiles.count, chunk, chunks);
        const long count = part_begin(tiles.count, chunk + 1, chunks) - begin;
        for_each_range(count, 8, [&](long from, long to) {
            Scratch<float> patch(points * std::max(p.channels, p.outputs));
            for (long t = from; t < to; t++) {
                load_tile<S>(p, tiles, begin + t, patch, images + t * channels, image_step);
                load_gradients(g, tiles, begin + t, patch, gradients, t, count, grad_step,
                               biases + (begin + t) * outputs);
            }
        });
        const long tasks_a_point = (channels + 47) / 48;
        for_each_task(points * tasks_a_point, [&](long task) {
            const long k = task / tasks_a_point, part = task % tasks_a_point;
            const long from = part_begin(channels, part, tasks_a_point);
            const long to = part_begin(channels, part + 1, tasks_a_point);
            for (long column = 0; column < p.outputs; column += panel_width<float>)
                with_panel<float>(panel_columns<float>(column, p.outputs), [&](auto vectors) {
                    multiply_transposed<float, vectors.value>(
                        to - from, images + k * image_step + from, 1, 0, count, channels,
                        gradients + k * grad_step + column * count, true,
                        sums + (k * channels + from) * outputs + column, outputs,
                        outputs - column);
                });
        });
    }

    for_each_range(p.channels, 8, [&](long from, long to) {
        for (long c = from; c < to; c++)
            for (long first = 0; first < p.outputs; first += L) {
                V u[points];
                for (int k = 0; k < points; k++)
                    u[k] = load(sums + (k * channels + c) * outputs + first);
                for (int j = 0; j < S; j++) transform_weight_gradient<taps>(u + j, S);
                for (int i = 0; i < taps; i++) transform_weight_gradient<taps>(u + i * S, 1);
                for (int i = 0; i < taps; i++)
                    for (int j = 0; j < taps; j++)
                        store_some(grad_weight + i * p.weight_row + j * p.weight_column +
                                       c * p.weight_channel + first,
                                   u[i * S + j], std::min<long>(p.outputs - first, L));
            }
    });
    if (grad_bias) {
        Scratch<float> total(outputs);
        sum_axis<float>(1, tiles.count, outputs, biases, total);
        std::copy_n((float*)total, p.outputs, grad_bias);
    }
}
