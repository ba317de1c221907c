// Softmax cross-entropy and its gradient, in one pass over the logits.
//
// A warp has a row: its 32 lanes take every 32nd class, and what they come to (the largest logit,
// the sum of the exponentials) goes round the warp by shuffles, in an order that is always the same.
// The exponentials that the loss needs are, divided by their sum, the softmax that the gradient
// needs; they wait in the gradient's memory, where each lane finds its own again.
//
// A target that is no class gives NaN as its row's loss and gradient, and reads nothing outside.
#include "common.cuh"

// f of the values of all lanes, the same bits in each: f must commute.
template <class T, class F>
__device__ __forceinline__ T over_warp(T value, F f) {
    for (int distance = 16; distance > 0; distance /= 2)
        value = f(value, __shfl_xor_sync(0xffffffff, value, distance));
    return value;
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
    return over_warp(value, [](T a, T b) { return a + b; });
}

// The sum of term(i) for i < count, by a single block and in a fixed order, in all its threads.
template <class F>
__device__ __forceinline__ double block_sum(Index count, F term) {
    __shared__ double sums[8];
    double sum = 0;
    for (Index i = threadIdx.x; i < count; i += 256) sum += term(i);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    double total = 0;
    for (int warp = 0; warp < 8; warp++) total += sums[warp];
    return total;
}

// The sum of the weights of the targets, by which a weighted mean is divided.
template <class T>
__global__ void __launch_bounds__(256) cross_entropy_normaliser(Index rows, Index classes,
                                                                const Index* __restrict__ target,
                                                                const T* __restrict__ weight,
                                                                double* __restrict__ normaliser) {
    const double sum = block_sum(rows, [=](Index i) {
        const bool known = target[i] >= 0 && target[i] < classes;
        return known ? double(weight[target[i]]) : double(not_a_number());
    });
    if (threadIdx.x == 0) *normaliser = sum;
}

// Each row's loss, not yet divided, and its gradient, divided. Without weights both pointers to
// them are null.
template <class T>
__global__ void __launch_bounds__(256) cross_entropy_rows(Index rows, Index classes,
                                                          T label_smoothing,
                                                          const T* __restrict__ logits,
                                                          const Index* __restrict__ target,
                                                          const T* __restrict__ weight,
                                                          const double* __restrict__ normaliser,
                                                          double* __restrict__ losses,
                                                          T* __restrict__ gradient) {
    const int lane = threadIdx.x % 32;
    const Index row = blockIdx.x * Index(8) + threadIdx.x / 32;
    if (row >= rows) return;
    const T* const values = logits + row * classes;
    T* const exponentials = gradient + row * classes;

    T largest = -infinity();
    for (Index k = lane; k < classes; k += 32) largest = max(largest, values[k]);
    largest = over_warp(largest, [](T a, T b) { return max(a, b); });
    T total = 0;
    for (Index k = lane; k < classes; k += 32)  // a NaN, which is never the largest, shows here
        total += exponentials[k] = exp(values[k] - largest);
    total = warp_sum(total);
    const T log_total = log(total);

    // The wanted distribution, times the weights of the classes: softmax less that.
    const Index label = target[row];
    const bool known = label >= 0 && label < classes;
    const T spread = known ? label_smoothing / T(classes) : T(not_a_number());
    const auto wanted = [=](Index k) {
        const T value = k == label ? spread + (T(1) - label_smoothing) : spread;
        return weight ? value * weight[k] : value;
    };
    T wanted_total = 0;
    double loss = 0;
    for (Index k = lane; k < classes; k += 32) {
        // A class that is not wanted does not count, even if its probability is 0.
        const T share = wanted(k);
        wanted_total += share;
        if (share != 0) loss -= double(share * (values[k] - largest - log_total));
    }
    wanted_total = warp_sum(wanted_total);
    loss = warp_sum(loss);
    if (lane == 0) losses[row] = loss;
    const T scale = T(1 / (normaliser ? *normaliser : double(rows)));
    for (Index k = lane; k < classes; k += 32)
        exponentials[k] = (exponentials[k] / total * wanted_total - wanted(k)) * scale;
}

template <class T>
__global__ void __launch_bounds__(256) cross_entropy_total(Index rows,
                                                           const double* __restrict__ losses,
                                                           const double* __restrict__ normaliser,
                                                           T* __restrict__ loss) {
    const double sum = block_sum(rows, [=](Index i) { return losses[i]; });
    if (threadIdx.x == 0) *loss = T(sum / (normaliser ? *normaliser : double(rows)));
}
