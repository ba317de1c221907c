// What all kernels share: the type of indices, and accesses of 128 bits.
#pragma once

// Wherever a product of sizes is formed: a tensor may have more than 2^31 elements.
typedef long long Index;

// The quotient of two positive integers, rounded up.
template <class A, class B>
__host__ __device__ constexpr auto ceil_div(A a, B b) { return (a + b - 1) / b; }

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fffffff); }

// Elements side by side that a thread reads or writes in one access. By default as many as the
// widest access holds, 128 bits: a warp then moves 512 bytes, four whole lines of the cache, in one
// instruction. The address must be a multiple of the pack's size.
template <class T, int N = 16 / sizeof(T)>
struct alignas(N * sizeof(T)) Pack {
    enum { size = N };  // no static member, which would be a variable on the device
    T values[N];

    __device__ T& operator[](int k) { return values[k]; }
    __device__ const T& operator[](int k) const { return values[k]; }
};

// The type of so many bytes that one instruction moves. (That the copy of a structure becomes a
// single access is likely, of these types it is certain.)
template <int Bytes> struct Word;
template <> struct Word<16> { typedef uint4 type; };
template <> struct Word<8> { typedef uint2 type; };
template <> struct Word<4> { typedef unsigned int type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<1> { typedef unsigned char type; };

template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_pack(const T* from) {
    const auto word = *reinterpret_cast<const typename Word<N * sizeof(T)>::type*>(from);
    Pack<T, N> pack;
    memcpy(&pack, &word, sizeof pack);  // of registers: no instruction comes of it
    return pack;
}

template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* from) {
    return load_pack<Pack<T>::size>(from);
}

template <class T, int N>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, N>& pack) {
    typename Word<N * sizeof(T)>::type word;
    memcpy(&word, &pack, sizeof word);
    *reinterpret_cast<typename Word<N * sizeof(T)>::type*>(to) = word;
}

// Element by element: to[i] = f(from[i]...), for `count` elements, one pack of each array a thread.
// Where the arrays do not begin at whole packs, and in the last block, a thread takes elements that
// lie a block apart instead, so that neighbours in a warp still read neighbours in memory.
template <class T, class F, class... Sources>
__device__ __forceinline__ void map_elements(Index count, bool aligned, T* __restrict__ to, F f,
                                             const Sources* __restrict__... from) {
    constexpr int size = Pack<T>::size;
    const Index begin = Index(blockIdx.x) * blockDim.x * size;
    if (aligned && begin + blockDim.x * size <= count) {
        const Index i = begin + threadIdx.x * size;
        const auto apply = [&](auto... packs) {
            Pack<T> result;
            for (int k = 0; k < size; k++) result[k] = f(packs[k]...);
            return result;
        };
        store_pack(to + i, apply(load_pack(from + i)...));
        return;
    }
    for (int k = 0; k < size; k++) {
        const Index i = begin + k * blockDim.x + threadIdx.x;
        if (i < count) to[i] = f(from[i]...);
    }
}
