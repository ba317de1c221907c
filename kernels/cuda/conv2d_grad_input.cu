// The gradient of a convolution's input, gathered: each pixel of x collects from the pixels of the
// result that have met it. Nothing is scattered, so nothing has to be added atomically.
//
// With stride s, pixel h meets result p through tap i where h + padding = p s + i dilation. Which
// taps have such a p depends on h modulo s alone: its phase. The pixels of one phase, every s-th,
// collect through the same taps (every few of the window's; perhaps none), from results side by side:
//
//      stride 2, a window of 3:      x      . 0 . 0 . 0 .   phase 0: taps 1
//                                           1 . 1 . 1 . 1   phase 1: taps 0 and 2
//
// So for each phase the gradient is a convolution of stride 1 of grad_output, with some of the taps,
// and no multiplication by a zero between them:
//
//      A: N R S rows, one a pixel of the phase; along k the gradients that it collects (WindowLoader)
//      B: for each of these taps the weight, transposed: O / groups lines, C / groups columns
//
// As in conv2d.cu k may be cut into parts, of which some have nothing to do where a phase has fewer
// taps than another.
#include "conv2d.cuh"

// The phase along one axis, of the pixels phase, phase + stride, ...: the r-th collects from the
// results first + r, first + r + step, ..., through the taps last_tap, last_tap - tap_step, ...
struct Phase {
    int phase, pixels, taps, first, step, last_tap, tap_step;

    __device__ void find(int its_phase, int size, int window, int stride, int padding,
                         int dilation) {
        phase = its_phase;
        int gcd = stride;
        for (int rest = dilation; rest;) {
            const int next = gcd % rest;
            gcd = rest;
            rest = next;
        }
        tap_step = stride / gcd;
        step = dilation / gcd;
        pixels = (size - phase - 1) / stride + 1;
        int tap = 0;
        while (tap < min(tap_step, window) && (phase + padding - tap * dilation) % stride != 0) tap++;
        taps = tap < min(tap_step, window) ? (window - tap - 1) / tap_step + 1 : 0;
        last_tap = tap + (taps - 1) * tap_step;
        first = (phase + padding - tap * dilation) / stride - (taps - 1) * step;
    }
};

// B: of each tap the matrix of channels by outputs, of which a row (all outputs) lies side by side.
template <class Tile, int N>
class TransposedWeightLoader : public Transposer<Tile, Tile::columns, N, false> {
    typedef typename Tile::type T;
    typedef Along<Tile, Tile::columns, N> Part;

    const Taps taps;
    const TapWalk& walk;
    const T* from;
    const int pitch, rows;
    const int& row_step;  // in shared memory, for want of registers
    const int& column_step;

  public:
    // `first` is the tile's first element of the first tap; rows are `pitch` apart, and `rows` of
    // them are left; taps are `row_step` and `column_step` apart.
    __device__ __forceinline__ TransposedWeightLoader(const Taps& taps, const TapWalk& walk,
                                                      const T* first, int pitch, int rows,
                                                      const int& row_step,
                                                      const int& column_step)
        : Transposer<Tile, Tile::columns, N, false>(first), taps(taps), walk(walk),
          from(first + Index(Part::row(0)) * pitch), pitch(pitch), rows(rows - Part::row(0)),
          row_step(row_step), column_step(column_step) {}

    template <int Width>
    __device__ __forceinline__ void begin(T (*slice)[Width]) {
        const int offset = walk.row * row_step + walk.column * column_step + walk.channel;
#pragma unroll
        for (int copy = 0; copy < Part::copies; copy++)
            Transposer<Tile, Tile::columns, N, false>::begin(
                copy, slice, from + (offset + copy * Part::together * pitch),
                walk.inside(taps) && Part::exists(copy) && copy * Part::together < rows);
    }
};

// Packs of NG gradients and NG weights are loaded at a time, and NX elements of x's gradient stored.
// `Gated` if there was an activation, of which y is the output. Results go to grad_input
// (splits, N, H, W, C).
template <class Tile, int NG, int NX, bool Gated>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
conv2d_grad_input(Conv2dShape s, const typename Tile::type* __restrict__ grad_output,
                  const typename Tile::type* __restrict__ y,
                  const typename Tile::type* __restrict__ weight, Activation activation, int split,
                  typename Tile::type* __restrict__ grad_input) {
    typedef typename Tile::type T;
    __shared__ Slices<Tile> memory[2];
    __shared__ BlockTile block;
    __shared__ Phase down, across;
    __shared__ int part;
    __shared__ int row_step, column_step;  // from tap to tap of the weight
    __shared__ TapWalk start;
    const int channels = s.group_channels(), outputs = s.group_outputs();
    // All phases have as many blocks as the first, which has most pixels.
    block.find<Tile>(s.n * ceil_div(s.h, s.stride_h) * ceil_div(s.w, s.stride_w), channels);
    if (threadIdx.x == 0) {
        const int phases_across = min(s.stride_w, s.w), phases_down = min(s.stride_h, s.h);
        const int phase = block.matrix / s.groups % (phases_across * phases_down);
        part = block.matrix / s.groups / (phases_across * phases_down);
        down.find(phase / phases_across, s.h, s.kh, s.stride_h, s.top, s.dilation_h);
        across.find(phase % phases_across, s.w, s.kw, s.stride_w, s.left, s.dilation_w);
        row_step = -down.tap_step * s.kw * channels * s.o;
        column_step = -across.tap_step * channels * s.o;
        start = TapWalk::at({across.taps > 0 ? down.taps : 0, across.taps, outputs}, part * split);
    }
    __syncthreads();
    if (block.row >= s.n * down.pixels * across.pixels) return;
    const int group = block.matrix % s.groups;

    // Without a column of taps there is no row of them either.
    const Taps taps = {across.taps > 0 ? down.taps : 0, across.taps, outputs};
    const SlidingWindow window = {s.p, s.q, s.o, taps, down.step, across.step};
    const int depth = min(split, taps.depth() - part * split);
    TapWalk walk = start.of_thread<Tile, NG>(taps);
    WindowLoader<Tile, NG, Gated> a(window, Source<T>(grad_output, y, activation) + group * outputs,
                                    walk, [&](int row, int& image, int& top, int& left) {
        const int pixel = block.row + row, line = pixel / across.pixels;
        image = line / down.pixels;
        top = line - image * down.pixels + down.first;
        left = pixel - line * across.pixels + across.first;
        return image < s.n;
    });
    const T* last = weight + (down.last_tap * s.kw + across.last_tap) * (channels * s.o);
    TransposedWeightLoader<Tile, NG> b(taps, walk,
                                       last + (block.column * s.o + group * outputs), s.o,
                                       channels - block.column, row_step, column_step);
    Sums<Tile> sum;
    multiply<Tile>(a, b, ceil_div(depth, SLICE), memory, sum);
    store_tile<Tile, NX>(sum, channels - block.column, static_cast<const T*>(nullptr), NONE,
                         [&](int row) -> T* {
        const int pixel = block.row + row, line = pixel / across.pixels;
        const int image = line / down.pixels;
        if (image >= s.n) return nullptr;
        const int h = down.phase + (line - image * down.pixels) * s.stride_h;
        const int w = across.phase + (pixel - line * across.pixels) * s.stride_w;
        return grad_input + (((Index(part) * s.n + image) * s.h + h) * s.w + w) * s.c +
               block.matrix % s.groups * channels + block.column;
    });
}
