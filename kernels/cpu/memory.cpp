#include "memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <utility>

namespace {

// Below this, malloc itself keeps what is freed.
constexpr size_t smallest = size_t(64) << 10;

std::mutex guard;
// What is kept: ranges of pages, by address and by size. Neighbours are always joined, also when
// they were mapped one by one, since the system takes back any range of pages.
std::map<char*, size_t> kept;
std::set<std::pair<size_t, char*>> by_size;
MemoryUse use{};

// A child that is forked while another thread holds the lock would wait for it for ever.
[[maybe_unused]] const int at_fork = pthread_atfork([] { guard.lock(); }, [] { guard.unlock(); },
                                   [] { guard.unlock(); });

size_t rounded(size_t size) {
    const size_t unit = size < smallest ? 64 : 4096;
    return (size + unit - 1) / unit * unit;
}

void* from_system(size_t size) {
    if (size < smallest) {
        void* memory = std::aligned_alloc(64, size);
        if (!memory) throw std::bad_alloc();
        return memory;
    }
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    // Pages of 2 MiB where they fit in: of those of 4 KiB a processor knows by heart where 8 MiB lie at
    // most, and looks up all others while a kernel waits. (A wish: it may be refused.)
    madvise(memory, size, MADV_HUGEPAGE);
#endif
    return memory;
}

void keep(char* memory, size_t size) {
    try {
        const auto range = kept.emplace(memory, size).first;
        try {
            by_size.emplace(size, memory);
        } catch (...) {
            kept.erase(range);
            throw;
        }
        use.unused += size;
    } catch (const std::bad_alloc&) {  // no memory even to note it down
        munmap(memory, size);
    }
}

void take(std::map<char*, size_t>::iterator range) {
    use.unused -= range->second;
    by_size.erase({range->second, range->first});
    kept.erase(range);
}

// Give the largest ranges back to the system until `size` more bytes are within the limit.
void make_room(size_t size) {
    const size_t peak = std::max(use.peak, use.used + size);
    const size_t limit = peak + peak / 8 + (size_t(4) << 20);
    while (!kept.empty() && use.used + use.unused + size > limit) {
        const auto [length, memory] = *by_size.rbegin();
        take(kept.find(memory));
        munmap(memory, length);
    }
}

}  // namespace

void* allocate(size_t wanted) {
    if (wanted > SIZE_MAX / 2) throw std::bad_alloc();
    const size_t size = rounded(std::max<size_t>(wanted, 1));
    if (size < smallest) return from_system(size);
    std::lock_guard<std::mutex> lock(guard);
    char* memory;
    if (auto fit = by_size.lower_bound({size, nullptr}); fit != by_size.end()) {
        const size_t length = fit->first;
        memory = fit->second;
        take(kept.find(memory));
        if (length > size) keep(memory + size, length - size);
    } else {
        make_room(size);
        memory = static_cast<char*>(from_system(size));
        use.mapped++;
    }
    use.used += size;
    use.peak = std::max(use.peak, use.used);
    return memory;
}

void release(void* given, size_t wanted) noexcept {
    size_t size = rounded(std::max<size_t>(wanted, 1));
    if (size < smallest) return std::free(given);
    std::lock_guard<std::mutex> lock(guard);
    use.used -= size;
    char* memory = static_cast<char*>(given);
    auto next = kept.upper_bound(memory);
    if (next != kept.end() && next->first == memory + size) {
        size += next->second;
        auto joined = next++;
        take(joined);
    }
    if (next != kept.begin()) {
        auto before = std::prev(next);
        if (before->first + before->second == memory) {
            memory = before->first, size += before->second;
            take(before);
        }
    }
    keep(memory, size);
}

MemoryUse memory_use() {
    std::lock_guard<std::mutex> lock(guard);
    return use;
}
