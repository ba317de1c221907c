// Types by size and sign, bit patterns, and where memory is.
#pragma once
#include "abi.h"

#define INLINE inline __attribute__((always_inline))
#define OP static INLINE

namespace emulator {

template <class T, class S>
OP T as(S source) {
    static_assert(sizeof(T) == sizeof(S), "a bit pattern keeps its size");
    T target;
    __builtin_memcpy(&target, &source, sizeof(T));
    return target;
}

template <class T>
OP T load(const char* address) {
    T value;
    __builtin_memcpy(&value, address, sizeof(T));
    return value;
}

template <class T>
OP void store(char* address, T value) {
    __builtin_memcpy(address, &value, sizeof(T));
}

// A local array of a function that runs, for the bounds check.
struct Local {
    LocalFrame frame;
    Thread* thread;
    INLINE Local(Thread* t, char* base, u64 bytes) : frame{base, bytes, t->frames}, thread(t) {
        t->frames = &frame;
    }
    INLINE ~Local() { thread->frames = frame.outer; }
};
OP bool in_local(const Thread* thread, u64 address) {
    for (const LocalFrame* frame = thread->frames; frame; frame = frame->outer)
        if (address - (u64)frame->base < frame->bytes) return true;
    return false;
}
OP bool in_shared(const Thread* thread, u64 address) {
    return address - (u64)thread->block->shared < thread->block->shared_bytes;
}

// What belongs to each type.
template <class T, class U, class W, bool S>
struct Integer {
    using Bits = U;
    using Wide = W;
    static constexpr bool is_signed = S;
    static constexpr T highest = T(S ? U(~U(0)) >> 1 : U(~U(0)));
    static constexpr T lowest = T(S ? U(U(1) << (8 * sizeof(T) - 1)) : U(0));
};
template <class T>
struct Info;
template <>
struct Info<s8> : Integer<s8, u8, s32, true> {};
template <>
struct Info<u8> : Integer<u8, u8, u32, false> {};
template <>
struct Info<s16> : Integer<s16, u16, s32, true> {};
template <>
struct Info<u16> : Integer<u16, u16, u32, false> {};
template <>
struct Info<s32> : Integer<s32, u32, s64, true> {};
template <>
struct Info<u32> : Integer<u32, u32, u64, false> {};
template <>
struct Info<s64> : Integer<s64, u64, __int128, true> {};
template <>
struct Info<u64> : Integer<u64, u64, unsigned __int128, false> {};
template <>
struct Info<float> {
    using Bits = u32;
    static constexpr u32 sign = 0x80000000u, nan = 0x7fffffffu, infinity = 0x7f800000u,
                         least_normal = 0x00800000u;
};
template <>
struct Info<double> {
    using Bits = u64;
    static constexpr u64 sign = 1ull << 63, nan = 0x7ff8000000000000ull,
                         infinity = 0x7ff0000000000000ull, least_normal = 1ull << 52;
};
template <class T>
using Bits = typename Info<T>::Bits;
template <class T>
using Wide = typename Info<T>::Wide;
template <class T>
constexpr u32 width = 8 * sizeof(T);

}  // namespace emulator
