// printf of a kernel.
#pragma once
#include "worker.h"

namespace emulator {

// Formats as C does and keeps the text for the launch's end; returns the number of arguments. They lie
// one after another, each aligned to its size; a character or short integer takes four bytes.
u32 print(Fiber& fiber, u32 site, const char* format, const char* arguments);

}  // namespace emulator
