// Images of another size, by the nearest pixel or linearly between two on each axis, NHWC.
//
// A thread takes a pack of N channels of one pixel, as in pool2d.cu. Where an output pixel comes from
// is computed in double precision on every device, so all of them choose the same pixels.
//
// The backward pass gathers: a thread has a pixel of the input and adds up what the output pixels made
// from it send back, in reading order. Sources advance with the output pixels, so the output pixels
// of one source pixel lie side by side.
#include "common.cuh"

// An output pixel is (1 - weight) * lower + weight * upper; to the nearest pixel it is the lower.
template <class T>
struct Source {
    int lower, upper;
    T weight;

    // The share of an input pixel in it.
    __device__ T share(int pixel) const {
        return (lower == pixel ? T(1) - weight : T(0)) + (upper == pixel ? weight : T(0));
    }
};

struct ResizeAxis {
    double step;  // input pixels per output pixel
    int in, out;

    // `centers`: pixels are squares whose centers are half a step from the edge, not points.
    __device__ double place(int r, bool centers) const {
        return min(centers ? max(0.0, (r + 0.5) * step - 0.5) : r * step, double(in - 1));
    }

    __device__ int lower(int r, bool centers) const { return int(place(r, centers)); }

    template <class T, bool Linear>
    __device__ Source<T> source(int r, bool centers) const {
        const int k = lower(r, centers);
        if (!Linear) return {k, k, T(0)};
        return {k, min(in - 1, k + 1), T(place(r, centers) - k)};
    }

    // The first output pixel whose lower source is at least this input pixel.
    __device__ int first(int pixel, bool centers) const {
        if (pixel <= 0) return 0;
        if (pixel >= in || !(step > 0)) return out;
        const double guess = centers ? (pixel + 0.5) / step - 0.5 : pixel / step;
        int r = guess < out ? int(guess) : out;
        while (r > 0 && lower(r - 1, centers) >= pixel) r--;
        while (r < out && lower(r, centers) < pixel) r++;
        return r;
    }
};

struct ResizeShape {
    ResizeAxis down, across;
    Index channels;
    int images, centers;
};

// The thread's pack of channels and its pixel, in images of `rows` x `columns` pixels.
template <int N>
struct OwnPixel {
    Index channel;
    int image, row, column;
    bool exists;

    __device__ OwnPixel(const ResizeShape& s, int rows, int columns)
        : channel((Index(blockIdx.y) * blockDim.x + threadIdx.x) * N) {
        const unsigned pixel = blockIdx.x * blockDim.y + threadIdx.y;
        const unsigned line = pixel / columns;
        image = int(line / rows);
        row = int(line % rows);
        column = int(pixel % columns);
        exists = image < s.images && channel < s.channels;
    }
};

__device__ __forceinline__ Index at(const ResizeShape& s, int image, int rows, int columns, int row,
                                    int column, Index channel) {
    return ((Index(image) * rows + row) * columns + column) * s.channels + channel;
}

template <class T, bool Linear, int N>
__global__ void __launch_bounds__(256, 4) interpolate(ResizeShape s, const T* __restrict__ x,
                                                   T* __restrict__ y) {
    const OwnPixel<N> own(s, s.down.out, s.across.out);
    if (!own.exists) return;
    const Source<T> down = s.down.source<T, Linear>(own.row, s.centers);
    const Source<T> across = s.across.source<T, Linear>(own.column, s.centers);
    const auto pixel = [&](int row, int column) {
        return load_pack<N>(x + at(s, own.image, s.down.in, s.across.in, row, column, own.channel));
    };
    Pack<T, N> result = pixel(down.lower, across.lower);
    if (Linear) {
        const Pack<T, N> right = pixel(down.lower, across.upper);
        const Pack<T, N> below = pixel(down.upper, across.lower);
        const Pack<T, N> corner = pixel(down.upper, across.upper);
        for (int k = 0; k < N; k++) {
            const T left_side = result[k] * (T(1) - down.weight) + below[k] * down.weight;
            const T right_side = right[k] * (T(1) - down.weight) + corner[k] * down.weight;
            result[k] = left_side * (T(1) - across.weight) + right_side * across.weight;
        }
    }
    store_pack(y + at(s, own.image, s.down.out, s.across.out, own.row, own.column, own.channel),
               result);
}

template <class T, bool Linear, int N>
__global__ void __launch_bounds__(256, 3) interpolate_grad(ResizeShape s,
                                                        const T* __restrict__ grad_output,
                                                        T* __restrict__ grad_input) {
    const OwnPixel<N> own(s, s.down.in, s.across.in);
    if (!own.exists) return;
    const int before = Linear ? 1 : 0;  // the upper source follows the lower
    const int top = s.down.first(own.row - before, s.centers);
    const int bottom = s.down.first(own.row + 1, s.centers);
    const int left = s.across.first(own.column - before, s.centers);
    const int right = s.across.first(own.column + 1, s.centers);
    Pack<T, N> total = {};
    for (int p = top; p < bottom; p++) {
        const T down = s.down.source<T, Linear>(p, s.centers).share(own.row);
        for (int q = left; q < right; q++) {
            const T share = down * s.across.source<T, Linear>(q, s.centers).share(own.column);
            const Pack<T, N> grad = load_pack<N>(
                grad_output + at(s, own.image, s.down.out, s.across.out, p, q, own.channel));
            for (int k = 0; k < N; k++) total[k] += grad[k] * share;
        }
    }
    store_pack(grad_input + at(s, own.image, s.down.in, s.across.in, own.row, own.column, own.channel),
               total);
}
