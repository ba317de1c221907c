#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

namespace {

// Below this, malloc itself keeps what is freed.
constexpr size_t smallest = size_t(64) << 10;

std::mutex guard;
std::multimap<size_t, void*> kept;  // by size
MemoryUse use{};

size_t rounded(size_t size) {
    const size_t unit = size < smallest ? 64 : 4096;
    return (size + unit - 1) / unit * unit;
}

// Large blocks are mapped by themselves, so that those given back are no longer the process's.
void* from_system(size_t size) {
#ifdef MAP_ANONYMOUS
    if (size >= smallest) {
        void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        return memory;
    }
#endif
    void* memory = std::aligned_alloc(64, size);
    if (!memory) throw std::bad_alloc();
    return memory;
}

void to_system(void* memory, size_t size) {
#ifdef MAP_ANONYMOUS
    if (size >= smallest) {
        munmap(memory, size);
        return;
    }
#endif
    std::free(memory);
}

}  // namespace

void* allocate(size_t wanted) {
    if (wanted > SIZE_MAX - 4096) throw std::bad_alloc();
    const size_t size = rounded(std::max<size_t>(wanted, 1));
    if (size < smallest) return from_system(size);
    std::lock_guard<std::mutex> lock(guard);
    void* memory = nullptr;
    if (auto found = kept.find(size); found != kept.end()) {
        memory = found->second;
        kept.erase(found);
        use.unused -= size;
    } else {
        // The unused blocks make room, the largest first.
        const size_t limit = std::max(use.peak, use.used + size);
        while (!kept.empty() && use.used + use.unused + size > limit) {
            auto last = std::prev(kept.end());
            to_system(last->second, last->first);
            use.unused -= last->first;
            kept.erase(last);
        }
        memory = from_system(size);
    }
    use.used += size;
    use.peak = std::max(use.peak, use.used);
    return memory;
}

void release(void* memory, size_t wanted) noexcept {
    const size_t size = rounded(std::max<size_t>(wanted, 1));
    if (size < smallest) return to_system(memory, size);
    std::lock_guard<std::mutex> lock(guard);
    use.used -= size;
    try {
        kept.emplace(size, memory);
        use.unused += size;
    } catch (...) {  // no memory even to note it down
        to_system(memory, size);
    }
}

MemoryUse memory_use() {
    std::lock_guard<std::mutex> lock(guard);
    return use;
}
