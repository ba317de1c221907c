// y = f(conv(x, weight) + bias) as a product of matrices (see tile.cuh):
//
//      A: N P Q rows, one a pixel of the result; along k what its window meets (WindowLoader)
//      B: the weight as it lies in memory, KH KW C / groups lines of O / groups columns
//      C: y as it lies in memory
//
// Each group is a product of its own. Where the result is small and the window is large, k is cut into
// parts of `split`, whose sums blocks of their own compute, for sum_splits (splits.cu) to add up; bias
// and activation are then left to it.
#include "conv2d.cuh"

// Packs of NX channels of x and of NW outputs of the weight are loaded at a time, and NW stored.
// Results go to y (splits, N, P, Q, O).
template <class Tile, int NX, int NW>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
conv2d(Conv2dShape s, const typename Tile::type* __restrict__ x,
       const typename Tile::type* __restrict__ weight, const typename Tile::type* __restrict__ bias,
       Activation activation, int split, typename Tile::type* __restrict__ y) {
    typedef typename Tile::type T;
    __shared__ Slices<Tile> memory[2];
    const int pixels = s.n * s.p * s.q, channels = s.group_channels(), outputs = s.group_outputs();
    __shared__ BlockTile block;
    block.find<Tile>(pixels, outputs);

    const SlidingWindow window = {s.h,          s.w,          s.c, {s.kh, s.kw, channels},
                                  s.dilation_h, s.dilation_w};
    const int group = block.matrix % s.groups, k = block.matrix / s.groups * split;
    const int depth = min(split, window.taps.depth() - k);
    TapWalk walk = TapWalk::at(window.taps, k).of_thread<Tile, NX>(window.taps);
    WindowLoader<Tile, NX, false> a(window, x + group * channels, walk,
                                    [&](int row, int& image, int& top, int& left) {
        const int pixel = block.row + row, line = pixel / s.q;
        image = line / s.p;
        top = (line - image * s.p) * s.stride_h - s.top;
        left = (pixel - line * s.q) * s.stride_w - s.left;
        return pixel < pixels;
    });
    LinesLoader<Tile, Tile::columns, NW> b(
        weight + (k * s.o + group * outputs + block.column), s.o, depth, outputs - block.column);
    Sums<Tile> sum;
    multiply<Tile>(a, b, ceil_div(depth, SLICE), memory, sum);
    const int part = block.matrix / s.groups;
    const int first = block.matrix % s.groups * outputs + block.column;  // of the tile's outputs
    store_tile<Tile, NW>(sum, outputs - block.column, bias ? bias + first : nullptr, activation,
                         [&](int row) {
        const int pixel = block.row + row;
        return pixel < pixels ? y + (Index(part) * pixels + pixel) * s.o + first : nullptr;
    });
}
