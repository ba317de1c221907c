// The sum of each row of a matrix: a block a row, a tree of additions in shared memory.
//
//     tinygrad-mask kernels check examples/check_kernel/row_sums.cu
//
// runs it without a GPU, as row_sums.py beside it says, and finds nothing wrong. Now break it: take
// away one of the two __syncthreads(), or let `i <= columns` read one element too many, or give
// `partial` one element too few, and run it again. On a GPU each of these may well go unnoticed.

#define THREADS 128

extern "C" __global__ void __launch_bounds__(THREADS)
row_sums(const float* __restrict__ matrix, float* __restrict__ sums, int columns)
{
    __shared__ float partial[THREADS];
    const float* row = matrix + (long long)blockIdx.x * columns;

    // Each thread adds up every 128th element; neighbours read neighbouring addresses.
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += THREADS) sum += row[i];
    partial[threadIdx.x] = sum;
    __syncthreads();  // all of partial is written before any thread reads another's

    // Half as many partial sums in each round.
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();  // and the same before the next round
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}
