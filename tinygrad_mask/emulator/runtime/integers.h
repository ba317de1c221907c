// PTX instructions on integers.
#pragma once
#include "types.h"

namespace emulator {

template <class T>
OP T divide(T a, T b) {
    return b == 0                             ? T(-1)
           : Info<T>::is_signed && b == T(-1) ? T(Bits<T>(0) - Bits<T>(a))
                                              : T(a / b);
}
template <class T>
OP T remainder(T a, T b) {
    return b == 0 ? a : Info<T>::is_signed && b == T(-1) ? T(0) : T(a % b);
}
template <class T>
OP T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
OP T max(T a, T b) {
    return a < b ? b : a;
}
template <class T>
OP T absolute(T a) {
    return a < 0 ? T(Bits<T>(0) - Bits<T>(a)) : a;
}
template <class T>
OP T high(T a, T b) {
    return T((Wide<T>(a) * Wide<T>(b)) >> width<T>);
}
template <class T>
OP T mul24(T a, T b) {  // the low 32 of the 48 bits
    return Info<T>::is_signed ? T(s64(s32(u32(a) << 8) >> 8) * (s32(u32(b) << 8) >> 8))
                              : T(u64(u32(a) & 0xffffff) * (u32(b) & 0xffffff));
}
template <class T>
OP T saturated(Wide<T> x) {
    return x > Wide<T>(Info<T>::highest)  ? Info<T>::highest
           : x < Wide<T>(Info<T>::lowest) ? Info<T>::lowest
                                          : T(x);
}
template <class T>
OP T absolute_difference(T a, T b) {
    return T(a < b ? Bits<T>(b) - Bits<T>(a) : Bits<T>(a) - Bits<T>(b));
}
template <class T>
OP T shift_left(T a, u32 n) {
    return n >= width<T> ? T(0) : T(Bits<T>(a) << n);
}
template <class T>
OP T shift_right(T a, u32 n) {
    if (Info<T>::is_signed) return T(a >> (n >= width<T> ? width<T> - 1 : n));
    return n >= width<T> ? T(0) : T(a >> n);
}
OP u32 funnel_left(u32 low, u32 high, u32 n) { return u32(((u64(high) << 32 | low) << n) >> 32); }
OP u32 funnel_right(u32 low, u32 high, u32 n) { return u32((u64(high) << 32 | low) >> n); }
template <class T>
OP T extract(T a, u32 start, u32 count) {
    start &= 255;
    count &= 255;
    if (count == 0) return T(0);
    Bits<T> filled = Bits<T>(0);
    if (Info<T>::is_signed) {
        u32 last = start + count - 1 < width<T> ? start + count - 1 : width<T> - 1;
        if (Bits<T>(a) >> last & 1) filled = ~filled;
    }
    Bits<T> moved = start < width<T> ? Bits<T>(a) >> start : filled;
    u32 valid = start < width<T> ? width<T> - start : 0;
    if (count < valid) valid = count;
    Bits<T> mask = valid >= width<T> ? ~Bits<T>(0) : (Bits<T>(1) << valid) - 1;
    return T((moved & mask) | (filled & ~mask));
}
template <class T>
OP T insert(T a, T b, u32 start, u32 count) {
    start &= 255;
    count &= 255;
    if (start >= width<T>) return b;
    T mask = (count >= width<T> ? ~T(0) : (T(1) << count) - 1) << start;
    return (b & ~mask) | ((a << start) & mask);
}
OP u32 bit_mask(u32 start, u32 count, bool wrap) {
    if (wrap) start &= 31, count &= 31;
    if (start >= 32) return 0;
    u32 ones = count >= 32 ? ~0u : (1u << count) - 1;
    return ones << start;
}
OP u32 sign_extend(u32 a, u32 n, bool wrap, bool is_signed) {
    if (wrap) n &= 31;
    if (n >= 32) return a;
    if (n == 0) return 0;
    u32 low = a & ((1u << n) - 1);
    return is_signed && (a >> (n - 1) & 1) ? low | ~((1u << n) - 1) : low;
}
OP u32 ones(u64 a) { return u32(__builtin_popcountll(a)); }
template <class T>
OP u32 leading_zeros(T a) {
    return a ? u32(__builtin_clzll(u64(a))) - (64 - width<T>) : width<T>;
}
template <class T>
OP u32 find_leading(T a, bool shift_amount) {
    Bits<T> bits = Info<T>::is_signed && a < 0 ? Bits<T>(~a) : Bits<T>(a);
    if (!bits) return ~0u;
    u32 zeros = leading_zeros(bits);
    return shift_amount ? zeros : width<T> - 1 - zeros;
}
template <class T>
OP T reverse_bits(T a) {
    T result = 0;
    for (u32 i = 0; i < width<T>; ++i) result |= (a >> i & 1) << (width<T> - 1 - i);
    return result;
}
OP u32 logic(u32 a, u32 b, u32 c, u32 table) {
    u32 result = 0;
    for (u32 k = 0; k < 8; ++k)
        if (table >> k & 1) result |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
    return result;
}
OP u32 permute(u32 a, u32 b, u32 selection) {
    u64 bytes = u64(b) << 32 | a;
    u32 result = 0;
    for (u32 i = 0; i < 4; ++i) {
        u32 choice = selection >> 4 * i & 15;
        u8 byte = u8(bytes >> 8 * (choice & 7));
        if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= u32(byte) << 8 * i;
    }
    return result;
}
enum Permutation { F4E, B4E, RC8, ECL, ECR, RC16 };
OP u32 permute_mode(u32 a, u32 b, u32 n, Permutation mode) {
    n &= 3;
    u32 r[4];
    for (u32 i = 0; i < 4; ++i) {
        r[i] = mode == F4E   ? n + i
               : mode == B4E ? (n - i) & 7
               : mode == RC8 ? n
               : mode == ECL ? (i > n ? i : n)
               : mode == ECR ? (i < n ? i : n)
                             : 2 * (n & 1) + (i & 1);
    }
    return permute(a, b, r[0] | r[1] << 4 | r[2] << 8 | r[3] << 12);
}
template <class A, class B>
OP u32 dot4(u32 a, u32 b, u32 sum) {
    for (u32 i = 0; i < 4; ++i) sum += u32(s32(A(a >> 8 * i)) * s32(B(b >> 8 * i)));
    return sum;
}
template <class A, class B>
OP u32 dot2(u32 a, u32 b, u32 sum, bool upper) {  // A of 16 bits, B of 8
    for (u32 i = 0; i < 2; ++i) sum += u32(s32(A(a >> 16 * i)) * s32(B(b >> 8 * (i + 2 * upper))));
    return sum;
}
// Sums with a carry in and out.
template <class T>
OP T add_carry(T a, T b, u32& carry, bool use, bool keep) {
    T sum = a + b, total = sum + (use ? carry : 0);
    if (keep) carry = (sum < a) | (total < sum);
    return total;
}
template <class T>
OP T sub_borrow(T a, T b, u32& borrow, bool use, bool keep) {
    T taken = use ? borrow : 0, difference = a - b, total = difference - taken;
    if (keep) borrow = (a < b) | (difference < taken);
    return total;
}

}  // namespace emulator
