// Sums over rows of an array (rows, channels), as the normalisations need them: a block has some
// channels and a stretch of rows, threadIdx.x is the channel, and the threads along y share the rows.
#pragma once

#include "common.cuh"

// The sum of what the threads of one x come to, in the order of their y; all of them get it.
template <class T>
__device__ __forceinline__ T sum_over_y(T value) {
    __shared__ T values[256];
    __syncthreads();  // nobody reads the values of an earlier sum any more
    values[threadIdx.y * blockDim.x + threadIdx.x] = value;
    __syncthreads();
    T total = 0;
    for (int y = 0; y < blockDim.y; y++) total += values[y * blockDim.x + threadIdx.x];
    return total;
}

// The channel of a thread and its block's rows, of which it takes every blockDim.y-th. Threads
// beyond the last channel have no rows, but take part in the sums.
struct Stretch {
    Index begin, end, channel;

    __device__ Stretch(Index rows, Index channels, Index rows_a_block)
        : begin(blockIdx.x * rows_a_block), end(min(rows, begin + rows_a_block)),
          channel(Index(blockIdx.y) * blockDim.x + threadIdx.x), exists(channel < channels) {}

    template <class F>
    __device__ void for_rows(F f) const {
        if (exists)
            for (Index row = begin + threadIdx.y; row < end; row += blockDim.y) f(row);
    }

    __device__ bool leads() const { return exists && threadIdx.y == 0; }

private:
    bool exists;
};
