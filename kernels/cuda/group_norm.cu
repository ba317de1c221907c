// Group normalisation of images x (N, pixels, C); layer normalisation is the case of one pixel and one
// group. A set is what is normalised together: the channels of one group, in all pixels of one image.
//
// Statistics go over sets. A block has one set, or several small ones, along y, and the threads along x
// share the elements of each. A large set is split into stretches of which each is a block; they are
// combined by the formula of batch_norm.cu, in double precision and in their order.
//
// Everything else goes over rows (an image's pixel) and channels, as in batch_norm.cu.
#include "stretches.cuh"

struct NormShape {
    Index images, pixels, channels, groups, width, stretch, stretches;

    __device__ Index rows() const { return images * pixels; }
    __device__ Index sets() const { return images * groups; }
    __device__ Index elements() const { return pixels * width; }
};

// The set of a thread, and its block's elements, of which it takes every blockDim.x-th. Threads beyond
// the last set have no elements, but take part in the sums.
struct SetStretch {
    Index set, group, begin, end, base;

    __device__ explicit SetStretch(const NormShape& s)
        : set(Index(blockIdx.x) * blockDim.y + threadIdx.y), group(set % s.groups),
          begin(Index(blockIdx.y) * s.stretch), end(min(s.elements(), begin + s.stretch)),
          base(set / s.groups * s.pixels * s.channels + group * s.width) {
        if (set >= s.sets()) end = begin;
    }

    __device__ Index size() const { return end - begin; }

    // Call f(offset, channel) for the thread's elements; no division for each of them.
    template <class F>
    __device__ void for_elements(const NormShape& s, F f) const {
        const int pixels_a_step = blockDim.x / s.width, channels_a_step = blockDim.x % s.width;
        Index pixel = (begin + threadIdx.x) / s.width, channel = (begin + threadIdx.x) % s.width;
        for (Index i = begin + threadIdx.x; i < end; i += blockDim.x) {
            f(base + pixel * s.channels + channel, group * s.width + channel);
            pixel += pixels_a_step;
            channel += channels_a_step;
            if (channel >= s.width) {
                channel -= s.width;
                pixel++;
            }
        }
    }
};

// The sum of what the threads of one y come to, in an order given by their number (a power of two);
// all of them get it.
template <class T>
__device__ __forceinline__ T sum_over_x(T value) {
    __shared__ T values[256];
    const int first = threadIdx.y * blockDim.x, own = first + threadIdx.x;
    __syncthreads();  // an earlier sum has been read
    values[own] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) values[own] += values[own + half];
        __syncthreads();
    }
    return values[first];
}

// Mean of each stretch, and the sum of the squares of the deviations from it: (sets, stretches, 2).
template <class T>
__global__ void __launch_bounds__(256, 4) group_norm_moments(NormShape s, const T* __restrict__ x,
                                                          double* __restrict__ moments) {
    const SetStretch own(s);
    T sum = 0;
    own.for_elements(s, [&](Index i, Index) { sum += x[i]; });
    const T mean = sum_over_x(sum) / T(own.size());
    T square = 0;
    own.for_elements(s, [&](Index i, Index) {  // read again, from the cache
        const T deviation = x[i] - mean;
        square += deviation * deviation;
    });
    square = sum_over_x(square);
    if (own.set < s.sets() && threadIdx.x == 0) {
        const Index at = (own.set * s.stretches + blockIdx.y) * 2;
        moments[at] = double(mean);
        moments[at + 1] = double(square);
    }
}

// One thread per set.
template <class T>
__global__ void __launch_bounds__(256, 4) group_norm_statistics(NormShape s, double eps,
                                                             const double* __restrict__ moments,
                                                             T* __restrict__ mean,
                                                             T* __restrict__ inverse_std) {
    const Index set = Index(blockIdx.x) * blockDim.x + threadIdx.x;
    if (set >= s.sets()) return;
    const double* found = moments + set * s.stretches * 2;
    const auto size = [&](Index k) { return double(min(s.elements() - k * s.stretch, s.stretch)); };
    double sum = 0, square = 0;
    for (Index k = 0; k < s.stretches; k++) sum += size(k) * found[2 * k];
    const double center = sum / double(s.elements());
    for (Index k = 0; k < s.stretches; k++) {
        const double deviation = found[2 * k] - center;
        square += found[2 * k + 1] + size(k) * deviation * deviation;
    }
    mean[set] = T(center);
    inverse_std[set] = T(1 / sqrt(square / double(s.elements()) + eps));
}

// A thread's pack of N channels, which are all of one group, and its rows.
template <int N>
struct Packs {
    Index channel, group, begin, end;

    __device__ Packs(const NormShape& s, Index rows_a_block)
        : channel((Index(blockIdx.y) * blockDim.x + threadIdx.x) * N), group(channel / s.width),
          begin(Index(blockIdx.x) * rows_a_block), end(min(s.rows(), begin + rows_a_block)) {
        if (channel >= s.channels) end = begin;
    }

    // Call f(offset, set) for each of the rows.
    template <class F>
    __device__ void for_rows(const NormShape& s, F f) const {
        for (Index row = begin + threadIdx.y; row < end; row += blockDim.y)
            f(row * s.channels + channel, row / s.pixels * s.groups + group);
    }

    // The channels' values of an array (C), or the same value for all if there is none.
    template <class T>
    __device__ Pack<T, N> values(const NormShape& s, const T* array, T otherwise) const {
        if (array && channel < s.channels) return load_pack<N>(array + channel);
        Pack<T, N> pack;
        for (int k = 0; k < N; k++) pack[k] = otherwise;
        return pack;
    }
};

template <class T, int N>
__global__ void __launch_bounds__(256, 4) group_norm(NormShape s, Index rows_a_block,
                                                  const T* __restrict__ x,
                                                  const T* __restrict__ weight,
                                                  const T* __restrict__ bias,
                                                  const T* __restrict__ mean,
                                                  const T* __restrict__ inverse_std,
                                                  T* __restrict__ y) {
    const Packs<N> own(s, rows_a_block);
    const Pack<T, N> scale = own.values(s, weight, T(1)), shift = own.values(s, bias, T(0));
    own.for_rows(s, [&](Index i, Index set) {
        const T center = mean[set], inverse = inverse_std[set];
        Pack<T, N> values = load_pack<N>(x + i);
        for (int k = 0; k < N; k++)
            values[k] = (values[k] - center) * inverse * scale[k] + shift[k];
        store_pack(y + i, values);
    });
}

// The sums over each stretch of the gradient times the weight, and of that times the normalised x.
template <class T>
__global__ void __launch_bounds__(256, 4) group_norm_grad_sums(NormShape s,
                                                            const T* __restrict__ grad_output,
                                                            const T* __restrict__ x,
                                                            const T* __restrict__ weight,
                                                            const T* __restrict__ mean,
                                                            const T* __restrict__ inverse_std,
                                                            double* __restrict__ sums) {
    const SetStretch own(s);
    const bool exists = own.set < s.sets();
    const T center = exists ? mean[own.set] : T(0), inverse = exists ? inverse_std[own.set] : T(0);
    T common = 0, along = 0;
    own.for_elements(s, [&](Index i, Index channel) {
        const T grad = weight ? grad_output[i] * weight[channel] : grad_output[i];
        common += grad;
        along += grad * ((x[i] - center) * inverse);
    });
    common = sum_over_x(common);
    along = sum_over_x(along);
    if (exists && threadIdx.x == 0) {
        const Index at = (own.set * s.stretches + blockIdx.y) * 2;
        sums[at] = double(common);
        sums[at + 1] = double(along);
    }
}

// Those sums over whole sets, divided by the number of elements: (sets, 2). One thread per set.
template <class T>
__global__ void __launch_bounds__(256, 4) group_norm_grad_means(NormShape s,
                                                             const double* __restrict__ sums,
                                                             T* __restrict__ means) {
    const Index set = Index(blockIdx.x) * blockDim.x + threadIdx.x;
    if (set >= s.sets()) return;
    double common = 0, along = 0;
    for (Index k = 0; k < s.stretches; k++) {
        common += sums[(set * s.stretches + k) * 2];
        along += sums[(set * s.stretches + k) * 2 + 1];
    }
    means[set * 2] = T(common / double(s.elements()));
    means[set * 2 + 1] = T(along / double(s.elements()));
}

template <class T, int N>
__global__ void __launch_bounds__(256, 4) group_norm_grad_input(NormShape s, Index rows_a_block,
                                                             const T* __restrict__ grad_output,
                                                             const T* __restrict__ x,
                                                             const T* __restrict__ weight,
                                                             const T* __restrict__ mean,
                                                             const T* __restrict__ inverse_std,
                                                             const T* __restrict__ means,
                                                             T* __restrict__ grad_input) {
    const Packs<N> own(s, rows_a_block);
    const Pack<T, N> scale = own.values(s, weight, T(1));
    own.for_rows(s, [&](Index i, Index set) {
        const T center = mean[set], inverse = inverse_std[set];
        const T common = means[set * 2], along = means[set * 2 + 1];
        Pack<T, N> grad = load_pack<N>(grad_output + i);
        const Pack<T, N> values = load_pack<N>(x + i);
        for (int k = 0; k < N; k++) {
            const T normalised = (values[k] - center) * inverse;
            grad[k] = (grad[k] * scale[k] - common - normalised * along) * inverse;
        }
        store_pack(grad_input + i, grad);
    });
}

// The sums over a stretch of rows that give the gradients of weight and bias; batch_norm_grad_totals
// adds up the stretches.
template <class T>
__global__ void __launch_bounds__(256, 4) group_norm_grad_weight(NormShape s, Index rows_a_block,
                                                              const T* __restrict__ grad_output,
                                                              const T* __restrict__ x,
                                                              const T* __restrict__ mean,
                                                              const T* __restrict__ inverse_std,
                                                              T* __restrict__ weight_sums,
                                                              T* __restrict__ bias_sums) {
    const Stretch own(s.rows(), s.channels, rows_a_block);
    const Index group = own.channel / s.width;
    T weight_sum = 0, bias_sum = 0;
    own.for_rows([&](Index row) {
        const Index i = row * s.channels + own.channel, set = row / s.pixels * s.groups + group;
        bias_sum += grad_output[i];
        weight_sum += grad_output[i] * ((x[i] - mean[set]) * inverse_std[set]);
    });
    weight_sum = sum_over_y(weight_sum);
    bias_sum = sum_over_y(bias_sum);
    if (own.leads()) {
        weight_sums[blockIdx.x * s.channels + own.channel] = weight_sum;
        bias_sums[blockIdx.x * s.channels + own.channel] = bias_sum;
    }
}
