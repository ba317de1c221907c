#include "fiber.h"

#include <cstdint>

extern "C" void emulator_start();

#if defined(__x86_64__)
asm(R"(
    .text
    .globl emulator_switch
    .hidden emulator_switch
    .type emulator_switch, @function
emulator_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size emulator_switch, . - emulator_switch

    .globl emulator_start
    .hidden emulator_start
    .type emulator_start, @function
emulator_start:
    mov %r12, %rdi
    call *%r13
    ud2
    .size emulator_start, . - emulator_start
)");

namespace emulator {

void* prepare_stack(char* stack, size_t bytes, void (*function)(void*), void* argument) {
    // From the top: two words of nothing, the address to return to, rbp, rbx, r12 to r15.
    auto* top =
        reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15));
    *--top = nullptr;
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(emulator_start);
    *--top = nullptr;  // rbp
    *--top = nullptr;  // rbx
    *--top = argument;  // r12
    *--top = reinterpret_cast<void*>(function);  // r13
    *--top = nullptr;  // r14
    *--top = nullptr;  // r15
    return top;
}

}  // namespace emulator

#elif defined(__aarch64__)
asm(R"(
    .text
    .globl emulator_switch
    .hidden emulator_switch
    .type emulator_switch, %function
emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emulator_switch, . - emulator_switch

    .globl emulator_start
    .hidden emulator_start
    .type emulator_start, %function
emulator_start:
    mov x0, x19
    blr x20
    brk #1
    .size emulator_start, . - emulator_start
)");

namespace emulator {

void* prepare_stack(char* stack, size_t bytes, void (*function)(void*), void* argument) {
    auto* top =
        reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15));
    top -= 20;
    for (int i = 0; i < 20; ++i) top[i] = nullptr;
    top[0] = argument;  // x19
    top[1] = reinterpret_cast<void*>(function);  // x20
    top[11] = reinterpret_cast<void*>(emulator_start);  // x30
    return top;
}

}  // namespace emulator

#else
#error "the emulator switches stacks on x86-64 and aarch64 only"
#endif
