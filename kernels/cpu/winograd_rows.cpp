// Winograd's algorithm along the rows alone, for large windows with a stride over few channels, as
// first layers have them: 6 products for 4 results of 3 taps instead of 12, or for 3 of 4 taps.
//
// A stride s along the row is one of 1 over pixels that are s side by side, with s times the channels:
//
//      stride 2, 7 taps:     pixels   0 1 | 2 3 | 4 5 | 6 7 | ..      a pair is one pixel,
//                            taps     a b | c d | e f | g 0           with 4 taps
//
// For each of the 6 points there is a matrix product, of tiles by what is summed over: the rows of the
// window and the elements of a pixel. What is transformed along one axis alone serves all rows of the
// window, so that it pays without many outputs or channels to share it.

#include "band.h"
#include "correlate.h"
#include "tile.h"
#include "winograd.h"

namespace {

using V = Vector<float>;
constexpr int L = lanes<float>;
constexpr int tile_side = side_of_tile(3);  // and of 4 taps

// How a row is cut into tiles.
struct RowTiles {
    long taps, together;  // and the elements of the neighbours that are one pixel
    long results, count;  // of a tile, and how many tiles a row has
    explicit RowTiles(const Correlation<float>& p)
        : taps((p.columns.taps + p.columns.stride - 1) / p.columns.stride),
          together(p.columns.stride * p.channels), results(std::max(results_side(taps), 1)),
          count((p.columns.results + results - 1) / results) {}
    // How far the same element of two points lies apart, for so many rows: `transform_rows` stores
    // beyond the last.
    long point_step(long rows) const { return count * rows * together + L; }
};

// The weights, transformed: a panel of outputs, of it a point, of it a line for each row of the window
// and each element of a pixel.
template <int taps>
void transform_weights(const Correlation<float>& p, const RowTiles& tiles, long panel, float* to) {
    const long depth = p.rows.taps * tiles.together;
    for (long column = 0; column < p.outputs; column += panel) {
        const long width = panel_columns<float>(column, p.outputs, panel);
        for (long v = 0; v < width; v += L)
            for (long k = 0; k < depth; k++) {
                const long i = k / tiles.together, element = k % tiles.together;
                const long neighbour = element / p.channels, c = element % p.channels;
                V g[tile_side] = {};
                for (long t = 0; t < taps; t++) {
                    const long j = t * p.columns.stride + neighbour;
                    for (long o = column + v; j < p.columns.taps && o < column + v + L; o++)
                        if (o < p.outputs) g[t][o - column - v] = p.weight_at(i, j, c, o);
                }
                transform_weight<taps>(g, 1);
                for (int x = 0; x < tile_side; x++)
                    store(to + (column * tile_side + x * width) * depth + k * width + v, g[x]);
            }
    }
}

// Transform rows of pixels, `width` elements each, to to[point * point_step + (tile * rows + row) *
// together]. Whole vectors are stored: what they have too much is overwritten by the next.
void transform_rows(const RowTiles& tiles, const float* from, long width, long rows, float* to) {
    const long point = tiles.point_step(rows);
    for (long tile = 0; tile < tiles.count; tile++)
        for (long row = 0; row < rows; row++, to += tiles.together) {
            const float* pixels = from + row * width + tile * tiles.results * tiles.together;
            for (long e = 0; e < tiles.together; e += L) {
                V d[tile_side];
                for (int t = 0; t < tile_side; t++) d[t] = load(pixels + t * tiles.together + e);
                transform_image<tile_side>(d, 1);
                for (int x = 0; x < tile_side; x++) store(to + x * point + e, d[x]);
            }
        }
}

// The results of a row of tiles, of `outputs` outputs, from the products, (point, tile, width).
template <int taps>
void store_row(const RowTiles& tiles, const float* products, long width, const float* bias, float* to,
               long step, long results, long outputs) {
    constexpr int side = results_side(taps);
    const long point = tiles.count * width;
    for (long tile = 0; tile < tiles.count; tile++, products += width, to += side * step) {
        const long count = std::min<long>(side, results - tile * side);
        for (long v = 0; v < outputs; v += L) {
            V m[tile_side];
            for (int x = 0; x < tile_side; x++) m[x] = load(products + x * point + v);
            evaluate_transposed<tile_side, side>(m, 1);
            const V added = bias ? load_columns(bias + v, outputs - v) : V{};
            if (count == side && v + L <= outputs)
                for (int k = 0; k < side; k++) store(to + k * step + v, m[k] + added);
            else
                for (long k = 0; k < count; k++)
                    store_columns(to + k * step + v, m[k] + added, outputs - v);
        }
    }
}

// The products of all points: A's rows `a_step` apart, its points `a_point`. In the meantime the
// memory for the results, `step` apart, is fetched: between their stores there is not enough to do.
// A function of its own: among all that its caller has at hand the compiler runs out of registers for
// addresses.
template <int NV>
__attribute__((noinline)) void multiply_points(long count, const float* a, long a_step, long a_point,
                                               const Runs& runs, const float* b, float* products,
                                               const float* to, long step, long results) {
    constexpr long width = NV * L;
    for (int x = 0; x < tile_side; x++, a += a_point) {
        const long end = part_begin(results, x + 1, tile_side);
        for (long k = part_begin(results, x, tile_side); k < end; k++)
            __builtin_prefetch(to + k * step, 1);
        multiply_panel<float, NV>(count, a, a_step, runs, b, nullptr, false, products, width, width);
        b += runs.depth() * width, products += count * width;
    }
}

template <int taps>
void correlate_rows(const Correlation<float>& p) {
    const RowTiles tiles(p);
    const long depth = p.rows.taps * tiles.together, panel = panel_width<float>;
    Scratch<float> weights(packed_size<float>(tile_side * depth, p.outputs));
    transform_weights<taps>(p, tiles, panel, weights);
    // Pixels of a row, to the end of the last tile.
    const long across = (tiles.count * tiles.results + taps - 1) * p.columns.stride;
    const long width = across * p.channels, c_step = p.columns.out_step * p.out_pitch;
    for_each_band(p, [&](long image, long first, long results) {
        const long rows = reach(p.rows, results), point = tiles.point_step(rows);
        Scratch<float> pixels(rows * width + L), transformed(tile_side * point);
        Scratch<float> products(tile_side * tiles.count * panel);
        std::fill_n(pixels + rows * width, L, 0.0f);
        copy_patch(p, image, first * p.rows.stride + p.rows.origin, p.columns.origin, rows, across,
                   (float*)pixels);
        transform_rows(tiles, pixels, width, rows, transformed);
        const long a_step = rows * tiles.together;
        const Runs runs = Runs{p.rows.taps, p.rows.step * tiles.together, 1, 0, tiles.together}.merged();
        for (long r = 0; r < results; r++) {
            for (long column = 0; column < p.outputs; column += panel) {
                const long columns = panel_columns<float>(column, p.outputs, panel);
                const float* b = weights + column * tile_side * depth;
                const float* a = transformed + r * p.rows.stride * tiles.together;
                float* to = p.out_at(image, first + r, 0) + column;
                with_panel<float>(columns, [&](auto vectors) {
                    multiply_points<vectors.value>(tiles.count, a, a_step, point, runs, b, products,
                                                   to, c_step, p.columns.results);
                });
                store_row<taps>(tiles, products, columns, p.bias ? p.bias + column : nullptr, to, c_step,
                                p.columns.results, std::min(columns, p.outputs - column));
            }
            activate_row(p, image, first + r);
        }
    });
}

}  // namespace

// The products must outweigh the transforms: the sums be long, and rows have tiles enough.
bool winograd_rows_pay(const Correlation<float>& p) {
    if (!winograd_enabled()) return false;
    const RowTiles tiles(p);
    return (tiles.taps == 3 || tiles.taps == 4) && p.columns.step == 1 && tiles.together <= 16 &&
           p.rows.taps * tiles.together >= 40 && p.outputs >= 16 && p.columns.results >= 24;
}

void correlate_winograd_rows(const Correlation<float>& p) {
    RowTiles(p).taps == 3 ? correlate_rows<3>(p) : correlate_rows<4>(p);
}
