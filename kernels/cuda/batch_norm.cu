// Batch normalisation: the last axis holds the channels, all before it are rows.
//
// Sums over rows go in two steps, both of a fixed order. In the first a block has some channels and
// a stretch of rows. threadIdx.x is the channel, so that a warp reads what lies side by side; the
// threads along y share the rows, and what they come to is added up in shared memory. That leaves
// one partial result a channel and stretch, and in the second step a block combines those of all
// stretches in the same way.
//
// The variance is that of the deviations from the mean, not the difference of two large numbers. A
// stretch has a mean of its own and squares of the deviations from that; over all of them, with r
// rows, mean m and squares s each, it holds that (Chan, Golub and LeVeque 1979)
//
//      mean = sum(r m) / sum(r)        squares = sum(s + r (m - mean)^2)
//
// What is left is element by element: a thread keeps what belongs to its channels in registers, and
// goes through some rows with it.
#include "stretches.cuh"

template <class T>
__global__ void __launch_bounds__(256, 4) batch_norm_moments(Index rows, Index channels,
                                                          Index rows_a_block,
                                                          const T* __restrict__ x,
                                                          T* __restrict__ means,
                                                          T* __restrict__ squares) {
    const Stretch s(rows, channels, rows_a_block);
    T sum = 0;
    s.for_rows([&](Index row) { sum += x[row * channels + s.channel]; });
    const T mean = sum_over_y(sum) / T(s.end - s.begin);
    T square = 0;
    s.for_rows([&](Index row) {  // read again, from the cache
        const T deviation = x[row * channels + s.channel] - mean;
        square += deviation * deviation;
    });
    square = sum_over_y(square);
    if (s.leads()) {
        means[blockIdx.x * channels + s.channel] = mean;
        squares[blockIdx.x * channels + s.channel] = square;
    }
}

// One block has all stretches of its channels.
template <class T>
__global__ void __launch_bounds__(256, 4) batch_norm_statistics(Index rows, Index channels,
                                                             Index rows_a_stretch, Index stretches,
                                                             const T* __restrict__ means,
                                                             const T* __restrict__ squares,
                                                             T* __restrict__ mean,
                                                             T* __restrict__ variance) {
    const Stretch s(stretches, channels, stretches);
    const auto rows_of = [&](Index k) {
        return double(min(rows - k * rows_a_stretch, rows_a_stretch));
    };
    double sum = 0;
    s.for_rows([&](Index k) { sum += rows_of(k) * double(means[k * channels + s.channel]); });
    const double center = sum_over_y(sum) / double(rows);
    double square = 0;
    s.for_rows([&](Index k) {
        const double deviation = double(means[k * channels + s.channel]) - center;
        square += double(squares[k * channels + s.channel]) + rows_of(k) * deviation * deviation;
    });
    square = sum_over_y(square);
    if (s.leads()) {
        mean[s.channel] = T(center);
        variance[s.channel] = T(square / double(rows));
    }
}

template <class T>
__global__ void __launch_bounds__(256, 4) batch_norm_grad_sums(Index rows, Index channels,
                                                            Index rows_a_block,
                                                            const T* __restrict__ grad_output,
                                                            const T* __restrict__ x,
                                                            const T* __restrict__ mean,
                                                            const T* __restrict__ inverse_std,
                                                            T* __restrict__ weight_sums,
                                                            T* __restrict__ bias_sums) {
    const Stretch s(rows, channels, rows_a_block);
    T weight_sum = 0, bias_sum = 0;
    s.for_rows([&](Index row) {
        const Index i = row * channels + s.channel;
        bias_sum += grad_output[i];
        weight_sum += grad_output[i] * (x[i] - mean[s.channel]) * inverse_std[s.channel];
    });
    weight_sum = sum_over_y(weight_sum);
    bias_sum = sum_over_y(bias_sum);
    if (s.leads()) {
        weight_sums[blockIdx.x * channels + s.channel] = weight_sum;
        bias_sums[blockIdx.x * channels + s.channel] = bias_sum;
    }
}

template <class T>
__global__ void __launch_bounds__(256, 4) batch_norm_grad_totals(Index channels, Index stretches,
                                                              const T* __restrict__ weight_sums,
                                                              const T* __restrict__ bias_sums,
                                                              T* __restrict__ grad_weight,
                                                              T* __restrict__ grad_bias) {
    const Stretch s(stretches, channels, stretches);
    double weight_total = 0, bias_total = 0;
    s.for_rows([&](Index k) {
        weight_total += double(weight_sums[k * channels + s.channel]);
        bias_total += double(bias_sums[k * channels + s.channel]);
    });
    weight_total = sum_over_y(weight_total);
    bias_total = sum_over_y(bias_total);
    if (s.leads()) {
        grad_weight[s.channel] = T(weight_total);
        grad_bias[s.channel] = T(bias_total);
    }
}

// Calls f(i) for the first element of each of a thread's packs, which are of N channels from
// `channel` on and of every blockDim.y-th of its block's rows.
template <int N, class F>
__device__ __forceinline__ void for_packs(Index rows, Index channels, Index channel,
                                          Index rows_a_block, F f) {
    const Index begin = blockIdx.x * rows_a_block, end = min(rows, begin + rows_a_block);
    for (Index row = begin + threadIdx.y; row < end; row += blockDim.y) f(row * channels + channel);
}

template <int N>
__device__ __forceinline__ Index own_channel() {
    return (Index(blockIdx.y) * blockDim.x + threadIdx.x) * N;
}

template <class T, int N>
__global__ void __launch_bounds__(256, 4) batch_norm(Index rows, Index channels, Index rows_a_block,
                                                  const T* __restrict__ x,
                                                  const T* __restrict__ weight,
                                                  const T* __restrict__ bias,
                                                  const T* __restrict__ mean,
                                                  const T* __restrict__ inverse_std,
                                                  T* __restrict__ y) {
    const Index channel = own_channel<N>();
    if (channel >= channels) return;
    const Pack<T, N> center = load_pack<N>(mean + channel), shift = load_pack<N>(bias + channel);
    const Pack<T, N> inverse = load_pack<N>(inverse_std + channel);
    Pack<T, N> scale = load_pack<N>(weight + channel);
    for (int k = 0; k < N; k++) scale[k] *= inverse[k];
    for_packs<N>(rows, channels, channel, rows_a_block, [&](Index i) {
        Pack<T, N> values = load_pack<N>(x + i);
        for (int k = 0; k < N; k++) values[k] = (values[k] - center[k]) * scale[k] + shift[k];
        store_pack(y + i, values);
    });
}

// In training the batch's own mean and variance depend on x: Ioffe and Szegedy 2015, section 3.
template <class T, int N>
__global__ void __launch_bounds__(256, 4) batch_norm_grad_input(Index rows, Index channels,
                                                             Index rows_a_block, bool training,
                                                             const T* __restrict__ grad_output,
                                                             const T* __restrict__ x,
                                                             const T* __restrict__ weight,
                                                             const T* __restrict__ mean,
                                                             const T* __restrict__ inverse_std,
                                                             const T* __restrict__ grad_weight,
                                                             const T* __restrict__ grad_bias,
                                                             T* __restrict__ grad_input) {
    const Index channel = own_channel<N>();
    if (channel >= channels) return;
    const Pack<T, N> center = load_pack<N>(mean + channel);
    const Pack<T, N> inverse = load_pack<N>(inverse_std + channel);
    const Pack<T, N> along = load_pack<N>(grad_weight + channel);
    const Pack<T, N> common = load_pack<N>(grad_bias + channel);
    Pack<T, N> scale = load_pack<N>(weight + channel);
    for (int k = 0; k < N; k++) scale[k] *= inverse[k];
    const T share = T(1) / T(rows);
    for_packs<N>(rows, channels, channel, rows_a_block, [&](Index i) {
        Pack<T, N> grad = load_pack<N>(grad_output + i);
        if (training) {
            const Pack<T, N> values = load_pack<N>(x + i);
            for (int k = 0; k < N; k++) {
                const T normalised = (values[k] - center[k]) * inverse[k];
                grad[k] -= (common[k] + normalised * along[k]) * share;
            }
        }
        for (int k = 0; k < N; k++) grad[k] *= scale[k];
        store_pack(grad_input + i, grad);
    });
}
