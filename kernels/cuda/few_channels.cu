// Convolution of images with one to three channels, the first layer of most networks, and the
// gradient of its weight. A matrix product (conv2d.cu) would fetch the few elements that a tap meets
// one by one, each many times over. Here a block copies the patch of the image that its pixels see
// into shared memory, once and in long rows, and takes what its taps meet from there:
//
//             32 pixels of the result           the patch: all that their windows meet
//            ┌──────────────────────┐         ┌──────────────────────────┐
//      rows  │                      │   <--   │ RGBRGBRGB...             │
//            └──────────────────────┘         │                          │
//                                             └──────────────────────────┘
//
// The number of channels and the stride along a row are compiled in: the pixels of a thread are then
// at constant distances in the patch, and their addresses need no computing.
#include "conv2d.cuh"

enum {
    FEW_COLUMNS = 32,  // pixels in a row of a block's
    FEW_OUTPUTS = 32,  // outputs that a block computes
    FEW_THREADS = 128,
};

// The patch that `rows` x FEW_COLUMNS pixels of the result see, from pixel (p, q) of `image` on.
struct Patch {
    int width, pitch, height;  // in elements, and the distance of rows

    __device__ Patch(const Conv2dShape& s, int rows)
        : width(((FEW_COLUMNS - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1) * s.c),
          // Rows of taps then lie in other banks than those above them.
          pitch(width + (s.kw * s.c + 1 - width % 32 + 64) % 32),
          height((rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1) {}

    template <class T>
    __device__ void load(T* to, const T* x, const Conv2dShape& s, int image, int p, int q) const {
        const int top = p * s.stride_h - s.top, left = (q * s.stride_w - s.left) * s.c;
        const T* from = x + Index(image) * s.h * s.w * s.c;
        for (int r = threadIdx.x / 32; r < height; r += FEW_THREADS / 32)
            for (int e = threadIdx.x % 32; e < width; e += 32) {
                const bool inside = unsigned(top + r) < unsigned(s.h) &&
                                    unsigned(left + e) < unsigned(s.w * s.c);
                to[r * pitch + e] = inside ? from[(top + r) * s.w * s.c + left + e] : T(0);
            }
    }
};

// Which pixels and outputs a block has, of tiles of `rows` x FEW_COLUMNS pixels.
struct FewTile {
    int image, p, q;

    __device__ FewTile(const Conv2dShape& s, int tile, int rows) {
        const int across = ceil_div(s.q, FEW_COLUMNS), down = ceil_div(s.p, rows);
        const int line = tile / across;
        image = line / down;
        p = (line - image * down) * rows;
        q = (tile - line * across) * FEW_COLUMNS;
    }
};

// A block has 8 rows of pixels, a warp two of them, and 32 outputs; in a warp 8 lanes are side by
// side along the row, 4 along the outputs; a thread has 8 pixels, 8 apart, and 2 packs of 4 outputs.
template <class T, int C, int Stride>
__global__ void __launch_bounds__(FEW_THREADS, 3)
conv2d_few_channels(Conv2dShape s, const T* __restrict__ x, const T* __restrict__ weight,
                    const T* __restrict__ bias, Activation activation, T* __restrict__ y) {
    constexpr int rows = 8, step = C * Stride;
    extern __shared__ __align__(16) unsigned char memory[];
    const int depth = s.kh * s.kw * C, across = ceil_div(s.o, FEW_OUTPUTS);
    const int output = blockIdx.x % across * FEW_OUTPUTS;
    const FewTile tile(s, blockIdx.x / across, rows);
    T* const weights = reinterpret_cast<T*>(memory);  // depth x FEW_OUTPUTS
    T* const pixels = weights + depth * FEW_OUTPUTS;
    const Patch patch(s, rows);
    patch.load(pixels, x, s, tile.image, tile.p, tile.q);
    for (int e = threadIdx.x; e < depth * FEW_OUTPUTS; e += FEW_THREADS) {
        const int o = output + e % FEW_OUTPUTS;
        weights[e] = o < s.o ? weight[e / FEW_OUTPUTS * s.o + o] : T(0);
    }
    __syncthreads();

    const int warp = threadIdx.x / 32, column = threadIdx.x % 32 / 4, pack = threadIdx.x % 4 * 4;
    T sum[8][8] = {};
    const T* above = pixels + warp * 2 * s.stride_h * patch.pitch + column * step;
    const T* below = above + s.stride_h * patch.pitch;
    const T* w = weights + pack;
#pragma unroll 1
    for (int i = 0; i < s.kh; i++) {
        int offset = i * s.dilation_h * patch.pitch;
#pragma unroll 1
        for (int j = 0; j < s.kw; j++, offset += s.dilation_w * C)
#pragma unroll
            for (int c = 0; c < C; c++, w += FEW_OUTPUTS) {
                T a[8];
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    a[k] = above[offset + c + k * 8 * step];
                    a[k + 4] = below[offset + c + k * 8 * step];
                }
                const Pack<T, 4> b[2] = {load_pack<4>(w), load_pack<4>(w + 16)};
#pragma unroll
                for (int k = 0; k < 8; k++)
#pragma unroll
                    for (int e = 0; e < 8; e++) sum[k][e] += a[k] * b[e / 4][e % 4];
            }
    }
    // As in store_tile: the rows of registers are shifted up, for the activation's code to be there
    // only once.
#pragma unroll 1
    for (int k = 0; k < 8; k++) {
        const int p = tile.p + warp * 2 + k / 4, q = tile.q + column + k % 4 * 8;
        if (p < s.p && q < s.q) {
            T* to = y + ((Index(tile.image) * s.p + p) * s.q + q) * s.o;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int o = output + pack + half * 16;
                if (o >= s.o) continue;
                Pack<T, 4> result = bias ? load_pack<4>(bias + o) : Pack<T, 4>{};
#pragma unroll
                for (int e = 0; e < 4; e++)
                    result[e] = activate(activation, sum[0][half * 4 + e] + result[e]);
                store_pack(to + o, result);
            }
        }
#pragma unroll
        for (int r = 0; r < 7; r++)
#pragma unroll
            for (int e = 0; e < 8; e++) sum[r][e] = sum[r + 1][e];
    }
}

// The gradients of weight and bias. A block has 32 rows of the weight's gradient (a tap and a channel
// each) and 32 outputs, and goes through `split` tiles of 4 rows of pixels: a row for each of its
// four warps, which add up their sums in the end. A thread has 8 rows and a pack of 4 outputs.
// Results go to grad_weight (splits, KH, KW, C, O) and grad_bias (splits, O).
template <class T, int C, int Stride, bool Gated>
__global__ void __launch_bounds__(FEW_THREADS, 4)
conv2d_few_channels_grad_weight(Conv2dShape s, const T* __restrict__ grad_output,
                                const T* __restrict__ y, const T* __restrict__ x,
                                Activation activation, int split, T* __restrict__ grad_weight,
                                T* __restrict__ grad_bias) {
    constexpr int rows = 4, step = C * Stride, taps = 32, width = FEW_OUTPUTS + 4;
    extern __shared__ __align__(16) unsigned char memory[];
    T(*const gradients)[width] = reinterpret_cast<T(*)[width]>(memory);  // of the tile's pixels
    T* const pixels = gradients[rows * FEW_COLUMNS];
    const int depth = s.kh * s.kw * C;
    const int across = ceil_div(s.o, FEW_OUTPUTS), down = ceil_div(depth, taps);
    const int line = blockIdx.x / across, part = line / down;
    const int output = (blockIdx.x - line * across) * FEW_OUTPUTS;
    const int tap = (line - part * down) * taps;
    const int tiles = s.n * ceil_div(s.p, rows) * ceil_div(s.q, FEW_COLUMNS);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const Patch patch(s, rows);

    int offset[8];  // from a pixel's corner to what the taps of this thread's rows see
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int k = tap + lane / 8 * 8 + i, at = k / C;
        offset[i] = k < depth ? at / s.kw * s.dilation_h * patch.pitch +
                                    at % s.kw * s.dilation_w * C + k % C
                              : 0;
    }
    T sum[8][4] = {};
    Pack<T, 4> total = {};
    const int pack = threadIdx.x % 8 * 4;  // of outputs, to load and to multiply with
    Held<T, 4, 1, Gated> held(Source<T>(grad_output, y, activation));
    for (int t = part * split; t < min((part + 1) * split, tiles); t++) {
        const FewTile tile(s, t, rows);
        __syncthreads();  // the last tile has been read
        patch.load(pixels, x, s, tile.image, tile.p, tile.q);
#pragma unroll 4
        for (int k = threadIdx.x / 8; k < rows * FEW_COLUMNS; k += FEW_THREADS / 8) {
            const int p = tile.p + k / FEW_COLUMNS, q = tile.q + k % FEW_COLUMNS;
            const Index at = ((Index(tile.image) * s.p + p) * s.q + q) * s.o + output + pack;
            held.load(0, grad_output + at, p < s.p && q < s.q && output + pack < s.o);
            const Pack<T, 4> values = held.get(0);
#pragma unroll
            for (int e = 0; e < 4; e++) total[e] += values[e];
            store_pack(&gradients[k][pack], values);
        }
        __syncthreads();
        if (tile.p + warp >= s.p) continue;
        const T* a = pixels + warp * s.stride_h * patch.pitch;
        const T* b = &gradients[warp * FEW_COLUMNS][pack];
        const auto multiply = [&](int k) {
            const Pack<T, 4> values = load_pack<4>(b + k * width);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const T pixel = a[offset[i] + k * step];
#pragma unroll
                for (int e = 0; e < 4; e++) sum[i][e] += pixel * values[e];
            }
        };
        // (Not those beyond the last one: zeros as their gradients are would not do, should what
        // their windows meet be infinite.)
        int left = min(s.q - tile.q, FEW_COLUMNS);
#pragma unroll 1
        for (; left >= 8; left -= 8, a += 8 * step, b += 8 * width)
#pragma unroll
            for (int k = 0; k < 8; k++) multiply(k);
#pragma unroll 1
        for (; left > 0; left--, a += step, b += width) multiply(0);
    }
    // Each warp's sums beside each other, then each element's four by one thread.
    __syncthreads();
    T(*const sums)[taps][FEW_OUTPUTS] = reinterpret_cast<T(*)[taps][FEW_OUTPUTS]>(memory);
#pragma unroll
    for (int i = 0; i < 8; i++)
        store_pack(&sums[warp][lane / 8 * 8 + i][pack],
                   Pack<T, 4>{sum[i][0], sum[i][1], sum[i][2], sum[i][3]});
    __syncthreads();
    const int o = output + lane;
    for (int i = warp; i < taps && tap + i < depth; i += FEW_THREADS / 32) {
        T result = 0;
#pragma unroll
        for (int w = 0; w < FEW_THREADS / 32; w++) result += sums[w][i][lane];
        if (o < s.o) grad_weight[(Index(part) * depth + tap + i) * s.o + o] = result;
    }
    if (tap > 0) return;
    __syncthreads();
    store_pack(&gradients[threadIdx.x / 8][pack], total);
    __syncthreads();
    if (threadIdx.x < FEW_OUTPUTS && o < s.o) {
        T result = 0;
#pragma unroll
        for (int k = 0; k < FEW_THREADS / 8; k++) result += gradients[k][lane];
        grad_bias[Index(part) * s.o + o] = result;
    }
}
