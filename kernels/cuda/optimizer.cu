// The updates of all parameters in one launch.
//
// A network has many parameters, most of them small; a launch each would take longer than the work.
// So a table in memory tells where each of them and its companions lie and how long they are. A
// block updates one stretch of one parameter, which it finds by its number: each entry of the table
// says which block is its first.
//
//      blockIdx.x      0   1   2   3   4   5
//      parameter       |--- 0 ----|--1-|-2-|
//
// All arrays of a parameter that begin at whole packs are moved 128 bits at a time; others, and the
// last elements, one by one (as in map_elements, but several arrays are written, and in place).
#include "common.cuh"

template <class T>
struct Entry {
    T* parameter;
    const T* gradient;
    T* first;   // the velocity of SGD, the first moment of Adam
    T* second;  // the second moment of Adam
    Index size;
    Index first_block;
    double rate;        // Adam: the learning rate, and what the second moment is multiplied with, at
    double correction;  // the step that this parameter has come to

    __device__ bool aligned() const {
        const auto addresses = reinterpret_cast<Index>(parameter) |
                               reinterpret_cast<Index>(gradient) | reinterpret_cast<Index>(first) |
                               reinterpret_cast<Index>(second);
        return addresses % 16 == 0;
    }
};

// The last entry that begins at this block or before.
template <class T>
__device__ __forceinline__ Entry<T> own_entry(const Entry<T>* __restrict__ table, int entries) {
    int low = 0, high = entries;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (table[middle].first_block <= blockIdx.x ? low : high) = middle;
    }
    return table[low];
}

// Calls f(i, pack) for the elements of the block's stretch: those from i on, as many as the pack has.
// A thread takes up to four packs, so that finding the entry is little beside them.
template <class T, class F>
__device__ __forceinline__ void for_stretch(const Entry<T>& entry, F f) {
    constexpr int size = Pack<T>::size, stretch = 4 * 256 * size;
    const Index begin = (blockIdx.x - entry.first_block) * stretch;
    const Index end = min(entry.size, begin + stretch);
    const Index packed = entry.aligned() ? begin + (end - begin) / size * size : begin;
    for (Index i = begin + threadIdx.x * size; i < packed; i += 256 * size) f(i, Pack<T>());
    for (Index i = packed + threadIdx.x; i < end; i += 256) f(i, Pack<T, 1>());
}

template <class T>
__global__ void __launch_bounds__(256, 3) sgd_update(const Entry<T>* __restrict__ table, int entries,
                                                  T lr, T momentum, bool nesterov, T weight_decay) {
    const Entry<T> entry = own_entry(table, entries);
    for_stretch(entry, [&](Index i, auto update) {
        constexpr int N = decltype(update)::size;
        auto values = load_pack<N>(entry.parameter + i);
        update = load_pack<N>(entry.gradient + i);
        if (weight_decay != T(0))
            for (int k = 0; k < N; k++) update[k] += weight_decay * values[k];
        if (entry.first) {
            auto velocity = load_pack<N>(entry.first + i);
            for (int k = 0; k < N; k++) {
                velocity[k] = momentum * velocity[k] + update[k];
                update[k] = nesterov ? update[k] + momentum * velocity[k] : velocity[k];
            }
            store_pack(entry.first + i, velocity);
        }
        for (int k = 0; k < N; k++) values[k] -= lr * update[k];
        store_pack(entry.parameter + i, values);
    });
}

// `keep` is what weight decay apart from the gradient leaves of a parameter; `weight_decay` is that
// which is added to the gradient. One of the two changes nothing.
template <class T>
__global__ void __launch_bounds__(256, 3) adam_update(const Entry<T>* __restrict__ table, int entries,
                                                   T beta1, T beta2, T rate1, T rate2, T eps,
                                                   T keep, T weight_decay) {
    const Entry<T> entry = own_entry(table, entries);
    const T lr = T(entry.rate), correction = T(entry.correction);
    for_stretch(entry, [&](Index i, auto values) {
        constexpr int N = decltype(values)::size;
        values = load_pack<N>(entry.parameter + i);
        auto gradient = load_pack<N>(entry.gradient + i);
        auto first = load_pack<N>(entry.first + i), second = load_pack<N>(entry.second + i);
        for (int k = 0; k < N; k++) {
            values[k] *= keep;
            if (weight_decay != T(0)) gradient[k] += weight_decay * values[k];
            first[k] = beta1 * first[k] + rate1 * gradient[k];
            second[k] = beta2 * second[k] + rate2 * gradient[k] * gradient[k];
            values[k] -= lr * first[k] / (sqrt(second[k] * correction) + eps);
        }
        store_pack(entry.parameter + i, values);
        store_pack(entry.first + i, first);
        store_pack(entry.second + i, second);
    });
}
