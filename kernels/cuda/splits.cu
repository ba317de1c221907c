// Adds up what blocks have computed of a sum that was cut into parts, always in the same order.
#include "activation.cuh"
#include "common.cuh"

// sums[e] = f(parts[0][e] + parts[1][e] + ... + bias[e % columns]), a thread an element; `bias` may
// be null.
template <class T>
__global__ void __launch_bounds__(256)
sum_splits(const T* __restrict__ parts, int splits, Index count, const T* __restrict__ bias,
           int columns, Activation activation, T* __restrict__ sums) {
    const Index e = Index(blockIdx.x) * blockDim.x + threadIdx.x;
    if (e >= count) return;
    T sum = 0;
    for (int split = 0; split < splits; split++) sum += parts[split * count + e];
    sums[e] = activate(activation, bias ? sum + bias[e % columns] : sum);
}
