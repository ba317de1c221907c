// The gradients of a convolution's weight and bias, as a product of matrices (see tile.cuh):
//
//      A: KH KW C / groups rows; along k, for each pixel of the result, what that tap met there
//      B: grad_output as it lies in memory, N P Q lines of O / groups columns
//      C: the weight's gradient as it lies in memory
//
// The result is small and k is long. So k is cut into `splits` parts, whose sums blocks of their own
// compute; sum_splits (splits.cu) adds them up, always in the same order. The bias's gradient, the
// sum of B's lines, falls off on the way: the blocks of the first rows add up what they load of B.
#include "conv2d.cuh"

// A: a line of the slice belongs to one pixel of the result, the rows of the tile to a tap and a
// channel each, which for a thread remain the same. It walks over the pixels.
template <class Tile, int N>
class PixelsLoader {
    typedef typename Tile::type T;
    typedef Across<Tile, Tile::rows, N> Part;

    const Conv2dShape s;
    const T* from;         // the pixel that the first tap meets; perhaps beyond the image's edge
    int p, q, top, left;   // the pixel of the result, and where its window lies
    int pixels;            // that are left, from this one on
    int down[Part::column_copies], across[Part::column_copies];  // to the taps, for each row,
    int offset[Part::column_copies];                             // and to the element there
    Copies<T, N, Part::line_copies * Part::column_copies> copies;

    __device__ __forceinline__ void move() {
        pixels -= Part::lines;
        q += Part::lines;
        left += Part::lines * s.stride_w;
        from += Part::lines * s.stride_w * s.c;
        while (q >= s.q && pixels > 0) {
            q -= s.q;
            left -= s.q * s.stride_w;
            p += 1;
            top += s.stride_h;
            from += (s.stride_h * s.w - s.q * s.stride_w) * s.c;
            if (p == s.p) {
                p = 0;
                top -= s.p * s.stride_h;
                from += (s.h - s.p * s.stride_h) * s.w * s.c;
            }
        }
    }

  public:
    // The tile's rows begin with `row` (of all the taps' channels, from that of this group's first
    // in `x` on), its pixels with `pixel`; `pixels` are left.
    __device__ __forceinline__ PixelsLoader(const Conv2dShape& s, const T* x, int row, int pixel,
                                            int pixels)
        : s(s), pixels(pixels - Part::line(0)) {
        pixel += Part::line(0);
        const int line = pixel / s.q, image = line / s.p;
        p = line - image * s.p;
        q = pixel - line * s.q;
        top = p * s.stride_h - s.top;
        left = q * s.stride_w - s.left;
        from = x + ((Index(image) * s.h + top) * s.w + left) * s.c;
        const int channels = s.group_channels();
#pragma unroll
        for (int j = 0; j < Part::column_copies; j++) {
            const int k = row + Part::column(j), tap = k / max(channels, 1);
            down[j] = tap / s.kw * s.dilation_h;
            across[j] = tap % s.kw * s.dilation_w;
            offset[j] = (down[j] * s.w + across[j]) * s.c + k - tap * channels;
            if (k >= s.kh * s.kw * channels) down[j] = 1 << 30;  // below the image: no such row
        }
    }

    template <int Width>
    __device__ __forceinline__ void begin(T (*slice)[Width]) {
#pragma unroll
        for (int i = 0; i < Part::line_copies; i++) {
#pragma unroll
            for (int j = 0; j < Part::column_copies; j++)
                copies.begin(i * Part::column_copies + j, &slice[Part::line(i)][Part::column(j)],
                             from + offset[j],
                             pixels > 0 && unsigned(top + down[j]) < unsigned(s.h) &&
                                 unsigned(left + across[j]) < unsigned(s.w));
            move();
        }
    }

    template <int Width>
    __device__ __forceinline__ void finish(T (*slice)[Width]) {
#pragma unroll
        for (int i = 0; i < Part::line_copies; i++)
#pragma unroll
            for (int j = 0; j < Part::column_copies; j++)
                copies.finish(i * Part::column_copies + j, &slice[Part::line(i)][Part::column(j)]);
    }
};

// Packs of NX channels of x and of NG gradients are loaded at a time. A split has `split` pixels.
// Results go to grad_weight (splits, KH, KW, C / groups, O) and grad_bias (splits, O). `Gated` if
// there was an activation, of which y is the output.
template <class Tile, int NX, int NG, bool Gated>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
conv2d_grad_weight(Conv2dShape s, const typename Tile::type* __restrict__ grad_output,
                   const typename Tile::type* __restrict__ y,
                   const typename Tile::type* __restrict__ x, Activation activation, int split,
                   typename Tile::type* __restrict__ grad_weight,
                   typename Tile::type* __restrict__ grad_bias) {
    typedef typename Tile::type T;
    __shared__ Slices<Tile> memory[2];
    const int channels = s.group_channels(), outputs = s.group_outputs();
    const int rows = s.kh * s.kw * channels;
    __shared__ BlockTile block;
    block.find<Tile>(rows, outputs);
    const int group = block.matrix % s.groups, part = block.matrix / s.groups;
    const int first = group * outputs + block.column;
    const int pixel = part * split, pixels = min(split, s.n * s.p * s.q - pixel);

    PixelsLoader<Tile, NX> a(s, x + group * channels, block.row, pixel, pixels);
    const Index at = Index(pixel) * s.o + first;
    GradientLinesLoader<Tile, Tile::columns, NG, Gated> b(
        Source<T>(grad_output, y, activation) + at, s.o, pixels, outputs - block.column);
    Sums<Tile> sum;
    multiply<Tile>(a, b, ceil_div(pixels, SLICE), memory, sum);
    store_tile<Tile, NG>(sum, outputs - block.column, static_cast<const T*>(nullptr), NONE,
                         [&](int row) {
        row += block.row;
        return row < rows ? grad_weight + (Index(part) * rows + row) * s.o + first : nullptr;
    });
    if (block.row == 0)
        b.sum_columns(memory[0].b, [&](int column, T total) {
            if (block.column + column < outputs) grad_bias[Index(part) * s.o + first + column] = total;
        });
}
