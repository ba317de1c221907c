// The gradient of an indexing: what was taken from one place several times adds up there.
//
// The elements come sorted by the place that they go to, those of one place in their own order. The
// thread of the first of a place adds up all of them, so that no other writes there and the order of
// the sum is fixed; the other threads have nothing to do.
#include "common.cuh"

// places (count,) sorted; order (count,) says which element of grad_output each is.
template <class T>
__global__ void __launch_bounds__(256) scatter_add(Index count, const Index* __restrict__ places,
                                                   const Index* __restrict__ order,
                                                   const T* __restrict__ grad_output,
                                                   T* __restrict__ grad_input) {
    const Index first = blockIdx.x * Index(blockDim.x) + threadIdx.x;
    if (first >= count || (first > 0 && places[first - 1] == places[first])) return;
    T total = 0;
    for (Index i = first; i < count && places[i] == places[first]; i++)
        total += grad_output[order[i]];
    grad_input[places[first]] = total;
}
