// A pool of memory: what was freed is kept for the next that asks for as much.
//
// The operating system hands out large blocks page by page, filled with zeros, at each first touch;
// a training step that frees its activations and asks for the same again would pay for that in
// every step. The pool keeps, used and unused together, at most an eighth (and 4 MiB) more than was
// ever in use at one time.
#pragma once

#include <cstddef>

// Memory of at least `size` bytes, aligned to 64; throws std::bad_alloc.
void* allocate(size_t size);

// Give back what `allocate(size)` returned.
void release(void* memory, size_t size) noexcept;

struct MemoryUse {
    size_t used, unused, peak;  // bytes: handed out, kept, and the most ever handed out
    size_t mapped;              // how often the system had to be asked
};

MemoryUse memory_use();
