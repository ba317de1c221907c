// Max and average pooling over windows of an image, NHWC, both ways.
//
// Channels lie side by side in memory, and what happens to one happens to all. So a thread takes a
// pack of N channels of one pixel, and the threads of a block form a rectangle: threadIdx.x along
// the channels, threadIdx.y along the pixels, which are numbered through rows and images:
//
//      threadIdx.x      0                 1             ...
//      threadIdx.y 0    pixel 0, c 0..N   pixel 0, c N..2N
//                  1    pixel 1, c 0..N   pixel 1, c N..2N
//
// Whatever a warp reads at one tap of its windows is then whole stretches of memory. N is 128 bits
// where the number of channels and all addresses allow it, else 1.
//
// The backward passes gather: a thread has a pixel of the input and adds up what the windows that
// cover it send back, in reading order. Where windows overlap, a thread a window would have to add
// to pixels that others add to as well, with atomics, and in an order that changes from run to run.
#include "common.cuh"

// Which taps of a window meet pixels rather than padding, along one axis: those of [first, last).
struct Inside {
    int first, last;

    __device__ int count() const { return last - first; }
};

// Which windows may cover a pixel, along one axis: those of [first, last).
struct Covering {
    int first, last;
};

// How windows lie along one axis of the image: tap t of window k is at the pixel
// k * stride - padding + t * dilation.
struct Axis {
    int pixels, windows, taps, stride, padding, dilation;

    __device__ int pixel(int window, int tap) const {
        return window * stride - padding + tap * dilation;
    }

    __device__ Inside inside(int window) const {
        const int start = pixel(window, 0);
        const int first = start < 0 ? min(taps, ceil_div(-start, dilation)) : 0;
        const int last = start < pixels ? min(taps, ceil_div(pixels - start, dilation)) : 0;
        return {first, max(first, last)};
    }

    __device__ Covering covering(int pixel) const {
        const int distance = pixel + padding;  // from where the first window begins
        const int reach = distance - (taps - 1) * dilation;
        return {reach > 0 ? ceil_div(reach, stride) : 0, min(windows, distance / stride + 1)};
    }

    // With which tap a window covers a pixel; -1 where dilation lets it skip the pixel.
    __device__ int tap(int window, int pixel) const {
        const int distance = pixel + padding - window * stride;
        if (dilation == 1) return distance;  // as nearly always: divisions take long
        return distance % dilation == 0 ? distance / dilation : -1;
    }
};

struct PoolShape {
    Axis down, across;
    Index channels;
    int images;
};

// A pack of channels of one pixel, of an input or an output with so many rows and columns.
struct Place {
    int rows, columns, image, row, column;
    Index channel, channels;
    bool exists;

    // Where another pixel of the same image and channels lies in memory.
    __device__ Index at(int row, int column) const {
        return ((Index(image) * rows + row) * columns + column) * channels + channel;
    }

    __device__ Index here() const { return at(row, column); }
};

// The thread's own, in an image of these rows and columns.
template <int N>
__device__ __forceinline__ Place own_place(const PoolShape& s, int rows, int columns) {
    const unsigned pixel = blockIdx.x * blockDim.y + threadIdx.y;
    const unsigned line = pixel / columns, image = line / rows;
    const Index channel = (Index(blockIdx.y) * blockDim.x + threadIdx.x) * N;
    return {rows, columns, int(image), int(line % rows), int(pixel % columns), channel, s.channels,
            image < s.images && channel < s.channels};
}

// The same pixel's image and channels, in the other of input and output.
__device__ __forceinline__ Place other_side(const Place& place, int rows, int columns) {
    Place other = place;
    other.rows = rows;
    other.columns = columns;
    return other;
}

// The first maximum of each window, or its first NaN, and the number of the tap that held it.
// Padding counts as minus infinity, of which a window of nothing else has the first.
template <class T, class Tap, int N>
__global__ void __launch_bounds__(256, 4) max_pool2d(PoolShape s, const T* __restrict__ x,
                                                  T* __restrict__ y, Tap* __restrict__ taps) {
    const Place output = own_place<N>(s, s.down.windows, s.across.windows);
    if (!output.exists) return;
    const Place input = other_side(output, s.down.pixels, s.across.pixels);
    const Inside down = s.down.inside(output.row), across = s.across.inside(output.column);
    Pack<T, N> best;
    Pack<Tap, N> held;
    for (int k = 0; k < N; k++) {
        best[k] = -infinity();
        // Of nothing but -infinity: a pixel, not padding, unless there is none.
        const bool any = down.count() > 0 && across.count() > 0;
        held[k] = any ? Tap(down.first * s.across.taps + across.first) : Tap(0);
    }
    for (int i = down.first; i < down.last; i++) {
        const int row = s.down.pixel(output.row, i);
        for (int j = across.first; j < across.last; j++) {
            const int column = s.across.pixel(output.column, j);
            const Pack<T, N> values = load_pack<N>(x + input.at(row, column));
            for (int k = 0; k < N; k++) {
                const bool first_nan = values[k] != values[k] && best[k] == best[k];
                if (values[k] > best[k] || first_nan) {
                    best[k] = values[k];
                    held[k] = Tap(i * s.across.taps + j);
                }
            }
        }
    }
    store_pack(y + output.here(), best);
    store_pack(taps + output.here(), held);
}

template <class T, class Tap, int N>
__global__ void __launch_bounds__(256, 4) max_pool2d_grad(PoolShape s,
                                                       const T* __restrict__ grad_output,
                                                       const Tap* __restrict__ taps,
                                                       T* __restrict__ grad_input) {
    const Place input = own_place<N>(s, s.down.pixels, s.across.pixels);
    if (!input.exists) return;
    const Place output = other_side(input, s.down.windows, s.across.windows);
    const Covering down = s.down.covering(input.row), across = s.across.covering(input.column);
    Pack<T, N> total = {};
    for (int row = down.first; row < down.last; row++) {
        const int i = s.down.tap(row, input.row);
        if (i < 0) continue;
        for (int column = across.first; column < across.last; column++) {
            const int j = s.across.tap(column, input.column);
            if (j < 0) continue;
            const Pack<T, N> grad = load_pack<N>(grad_output + output.at(row, column));
            const Pack<Tap, N> held = load_pack<N>(taps + output.at(row, column));
            for (int k = 0; k < N; k++)
                if (held[k] == i * s.across.taps + j) total[k] += grad[k];
        }
    }
    store_pack(grad_input + input.here(), total);
}

// Over how many taps the mean of a window is: all of them, or those that meet pixels.
template <class T>
__device__ __forceinline__ T counted(const PoolShape& s, bool padding, Inside down, Inside across) {
    return padding ? T(s.down.taps) * T(s.across.taps) : T(down.count()) * T(across.count());
}

template <class T, int N>
__global__ void __launch_bounds__(256, 4) avg_pool2d(PoolShape s, bool count_padding,
                                                  const T* __restrict__ x, T* __restrict__ y) {
    const Place output = own_place<N>(s, s.down.windows, s.across.windows);
    if (!output.exists) return;
    const Place input = other_side(output, s.down.pixels, s.across.pixels);
    const Inside down = s.down.inside(output.row), across = s.across.inside(output.column);
    Pack<T, N> total = {};
    for (int i = down.first; i < down.last; i++) {
        const int row = s.down.pixel(output.row, i);
#pragma unroll 2
        for (int j = across.first; j < across.last; j++) {
            const int column = s.across.pixel(output.column, j);
            const Pack<T, N> values = load_pack<N>(x + input.at(row, column));
            for (int k = 0; k < N; k++) total[k] += values[k];
        }
    }
    const T count = counted<T>(s, count_padding, down, across);
    for (int k = 0; k < N; k++) total[k] /= count;
    store_pack(y + output.here(), total);
}

template <class T, int N>
__global__ void __launch_bounds__(256, 4) avg_pool2d_grad(PoolShape s, bool count_padding,
                                                       const T* __restrict__ grad_output,
                                                       T* __restrict__ grad_input) {
    const Place input = own_place<N>(s, s.down.pixels, s.across.pixels);
    if (!input.exists) return;
    const Place output = other_side(input, s.down.windows, s.across.windows);
    const Covering down = s.down.covering(input.row), across = s.across.covering(input.column);
    Pack<T, N> total = {};
    for (int row = down.first; row < down.last; row++) {
        if (s.down.tap(row, input.row) < 0) continue;
#pragma unroll 1
        for (int column = across.first; column < across.last; column++) {
            if (s.across.tap(column, input.column) < 0) continue;
            const T count = counted<T>(s, count_padding, s.down.inside(row), s.across.inside(column));
            const Pack<T, N> grad = load_pack<N>(grad_output + output.at(row, column));
            for (int k = 0; k < N; k++) total[k] += grad[k] / count;
        }
    }
    store_pack(grad_input + input.here(), total);
}
