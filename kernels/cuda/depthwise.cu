// Depthwise convolution: each group has one channel, and `multiplier` outputs (most often one), so
// that nothing is summed across channels. There is no product of matrices in it, and each element
// loaded is used as often as the window has taps: its speed is that of memory. A thread has a pack of
// N channels, threads side by side have packs side by side, and what windows share is in the cache.
//
// With a multiplier N is 1.
#include "conv2d.cuh"

enum { DEPTHWISE_THREADS = 256, DEPTHWISE_PIXELS = 4, DEPTHWISE_TAPS = 4 };

// The number of packs in a pixel, and which pixel and pack this thread has, of all in reading order.
struct PackPlace {
    int packs, pack, pixel;

    __device__ __forceinline__ PackPlace(int channels, int n) : packs(channels / n) {
        const int thread = blockIdx.x * DEPTHWISE_THREADS + threadIdx.x;
        pixel = thread / packs;
        pack = thread - pixel * packs;
    }
};

// A thread computes a pack of outputs of four pixels in a row, which share the weights.
template <class T, int N>
__global__ void __launch_bounds__(DEPTHWISE_THREADS, 3)
depthwise(Conv2dShape s, const T* __restrict__ x, const T* __restrict__ weight,
          const T* __restrict__ bias, Activation activation, T* __restrict__ y) {
    constexpr int pixels = DEPTHWISE_PIXELS;
    const PackPlace place(s.o, N);
    const int across = ceil_div(s.q, pixels), line = place.pixel / across, image = line / s.p;
    if (image >= s.n) return;
    const int p = line - image * s.p, q = (place.pixel - line * across) * pixels;
    const int o = place.pack * N, c = o / (s.o / s.c);
    const int top = p * s.stride_h - s.top, left = q * s.stride_w - s.left;
    const T* from = x + Index(image) * s.h * s.w * s.c + c;
    Pack<T, N> sum[pixels] = {};
    for (int i = 0; i < s.kh; i++) {
        const int h = top + i * s.dilation_h;
        if (unsigned(h) >= unsigned(s.h)) continue;
        for (int j = 0; j < s.kw; j++) {
            const Pack<T, N> w = load_pack<N>(weight + (i * s.kw + j) * s.o + o);
#pragma unroll
            for (int k = 0; k < pixels; k++) {
                const int at = left + k * s.stride_w + j * s.dilation_w;
                if (unsigned(at) >= unsigned(s.w)) continue;
                const Pack<T, N> value = load_pack<N>(from + (h * s.w + at) * s.c);
#pragma unroll
                for (int e = 0; e < N; e++) sum[k][e] += value[e] * w[e];
            }
        }
    }
    const Pack<T, N> added = bias ? load_pack<N>(bias + o) : Pack<T, N>{};
    T* to = y + ((Index(image) * s.p + p) * s.q + q) * s.o + o;
#pragma unroll 1
    for (int k = 0; k < pixels && q + k < s.q; k++) {
#pragma unroll
        for (int e = 0; e < N; e++) sum[0][e] = activate(activation, sum[0][e] + added[e]);
        store_pack(to + k * s.o, sum[0]);
#pragma unroll
        for (int r = 0; r + 1 < pixels; r++) sum[r] = sum[r + 1];
    }
}

// The first tap along an axis through which a pixel was met, from `distance`, that of the pixel from
// the edge with the padding. From it on, every (stride / gcd(stride, dilation))-th has met it.
__device__ __forceinline__ int first_tap(int distance, int taps, int stride, int dilation) {
    int tap = 0;
    while (tap < taps && (distance - tap * dilation) % stride != 0) tap++;
    return tap;
}

// The gradient of the input, gathered (see conv2d_grad_input.cu): a thread has a pack of channels of
// one pixel. It goes through every `tap_step_h`-th row of taps, and so on.
template <class T, int N, bool Gated>
__global__ void __launch_bounds__(DEPTHWISE_THREADS, 3)
depthwise_grad_input(Conv2dShape s, int tap_step_h, int tap_step_w,
                     const T* __restrict__ grad_output, const T* __restrict__ y,
                     const T* __restrict__ weight, Activation activation,
                     T* __restrict__ grad_input) {
    const PackPlace place(s.c, N);
    const int line = place.pixel / s.w, image = line / s.h;
    if (image >= s.n) return;
    const int h = line - image * s.h + s.top, w = place.pixel - line * s.w + s.left;
    const int multiplier = s.o / s.c, c = place.pack * N;
    const Index first = Index(image) * s.p * s.q * s.o;
    Held<T, N, 1, Gated> held(Source<T>(grad_output, y, activation));
    Pack<T, N> sum = {};
    const int first_j = first_tap(w, min(tap_step_w, s.kw), s.stride_w, s.dilation_w);
    for (int i = first_tap(h, min(tap_step_h, s.kh), s.stride_h, s.dilation_h); i < s.kh;
         i += tap_step_h) {
        if ((h - i * s.dilation_h) % s.stride_h != 0) break;  // through no tap at all
        const int p = (h - i * s.dilation_h) / s.stride_h;
        if (unsigned(p) >= unsigned(s.p)) continue;
        for (int j = first_j; j < s.kw; j += tap_step_w) {
            if ((w - j * s.dilation_w) % s.stride_w != 0) break;
            const int q = (w - j * s.dilation_w) / s.stride_w;
            if (unsigned(q) >= unsigned(s.q)) continue;
#pragma unroll 1
            for (int o = c * multiplier; o < (c + 1) * multiplier; o++) {
                held.load(0, grad_output + first + (p * s.q + q) * s.o + o, true);
                const Pack<T, N> grad = held.get(0);
                const Pack<T, N> tap = load_pack<N>(weight + (i * s.kw + j) * s.o + o);
#pragma unroll
                for (int e = 0; e < N; e++) sum[e] += grad[e] * tap[e];
            }
        }
    }
    store_pack(grad_input + Index(place.pixel) * s.c + c, sum);
}

// The gradients of weight and bias. A block has up to 32 packs of outputs (`width`, along x of the
// block), up to four taps side by side in a row of the window, and `split` pixels of the result,
// which the threads with the same pack (along y) share out among each other; they add up their sums
// in the end. Results go to grad_weight (splits, KH, KW, 1, O) and grad_bias (splits, O).
template <class T, int N, bool Gated>
__global__ void __launch_bounds__(DEPTHWISE_THREADS, 3)
depthwise_grad_weight(Conv2dShape s, const T* __restrict__ grad_output, const T* __restrict__ y,
                      const T* __restrict__ x, Activation activation, int split,
                      T* __restrict__ grad_weight, T* __restrict__ grad_bias) {
    constexpr int taps = DEPTHWISE_TAPS;
    __shared__ Pack<T, N> sums[DEPTHWISE_THREADS];
    const int across = ceil_div(s.kw, taps), lines = s.kh * across;
    const int strips = ceil_div(s.o, blockDim.x * N);
    const int strip = blockIdx.x % strips, rest = blockIdx.x / strips;
    const int line = rest % lines, part = rest / lines;
    const int i = line / across, j = line % across * taps;
    const int o = (strip * blockDim.x + threadIdx.x) * N, c = o / (s.o / s.c);
    Held<T, N, 1, Gated> held(Source<T>(grad_output, y, activation));
    Pack<T, N> sum[taps] = {}, total = {};
    const int end = min((part + 1) * split, s.n * s.p * s.q);
    if (o < s.o)
        for (int pixel = part * split + threadIdx.y; pixel < end; pixel += blockDim.y) {
            const int row = pixel / s.q, image = row / s.p;
            const int h = (row - image * s.p) * s.stride_h - s.top + i * s.dilation_h;
            const int w = (pixel - row * s.q) * s.stride_w - s.left + j * s.dilation_w;
            held.load(0, grad_output + Index(pixel) * s.o + o, true);
            const Pack<T, N> grad = held.get(0);
#pragma unroll
            for (int e = 0; e < N; e++) total[e] += grad[e];
            if (unsigned(h) >= unsigned(s.h)) continue;
            const T* from = x + (Index(image) * s.h + h) * s.w * s.c + c;
#pragma unroll
            for (int k = 0; k < taps; k++) {
                const int at = w + k * s.dilation_w;
                if (j + k >= s.kw || unsigned(at) >= unsigned(s.w)) continue;
                const Pack<T, N> value = load_pack<N>(from + at * s.c);
#pragma unroll
                for (int e = 0; e < N; e++) sum[k][e] += value[e] * grad[e];
            }
        }
    // One after the other, the taps' sums and the bias's: the first thread of each pack adds up.
#pragma unroll
    for (int k = 0; k <= taps; k++) {
        sums[threadIdx.y * blockDim.x + threadIdx.x] = k < taps ? sum[k] : total;
        __syncthreads();
        if (threadIdx.y == 0 && o < s.o) {
            Pack<T, N> result = {};
            for (int t = 0; t < blockDim.y; t++)
#pragma unroll
                for (int e = 0; e < N; e++) result[e] += sums[t * blockDim.x + threadIdx.x][e];
            if (k == taps && line == 0)
                store_pack(grad_bias + Index(part) * s.o + o, result);
            else if (k < taps && j + k < s.kw)
                store_pack(grad_weight + (Index(part) * s.kh * s.kw + i * s.kw + j + k) * s.o + o,
                           result);
        }
        __syncthreads();
    }
}
