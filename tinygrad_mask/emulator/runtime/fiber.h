// Fibers: threads that give way to one another by hand. A switch saves what the calling convention
// says a function must keep, swaps the stack pointers, and restores.
#pragma once
#include <cstddef>

namespace emulator {

// Goes on where `to` was saved (or prepared); where this was is stored in `*from`.
extern "C" void emulator_switch(void** from, void* to);

// Prepares a stack so that switching to it calls function(argument), which must never return.
void* prepare_stack(char* stack, size_t bytes, void (*function)(void*), void* argument);

}  // namespace emulator
