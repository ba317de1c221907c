// The meaning of PTX instructions: what translated kernels include, and nothing beside it; the
// compiler's builtins do the rest.
#pragma once
#include "abi.h"
#include "floats.h"
#include "integers.h"
#include "types.h"

namespace emulator {

// ---- atomics: any function of the value that was there

template <class T, class F>
OP T atomic(char* address, F function) {
    using U = Bits<T>;
    U* cell = reinterpret_cast<U*>(address);
    U before = __atomic_load_n(cell, __ATOMIC_RELAXED), after;
    do after = as<U>(T(function(as<T>(before))));
    while (!__atomic_compare_exchange_n(cell, &before, after, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED));
    return as<T>(before);
}

// ---- time: the host's, which only grows

OP u64 ticks() {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    u64 count;
    asm volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
#endif
}

// ---- within a warp

// The lane that a shuffle reads, and whether it is in range.
enum Shuffle { UP, DOWN, BUTTERFLY, INDEXED };
struct Source {
    u32 lane;
    bool valid;
};
OP Source source(Shuffle mode, u32 lane, u32 b, u32 c) {
    u32 segment = c >> 8 & 31, clamp = c & 31;
    u32 most = (lane & segment) | (clamp & ~segment), least = lane & segment;
    b &= 31;
    u32 wanted = mode == UP          ? lane - b
                 : mode == DOWN      ? lane + b
                 : mode == BUTTERFLY ? lane ^ b
                                     : least | (b & ~segment);
    bool valid = mode == UP ? s32(wanted) >= s32(most) : wanted <= most;
    return {valid ? wanted : lane, valid};
}

}  // namespace emulator
