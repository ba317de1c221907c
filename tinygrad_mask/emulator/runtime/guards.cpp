#include "guards.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

namespace emulator {

constexpr u64 PAGE = 65536;  // a multiple of every host's

static u64 up(u64 n) { return (n + PAGE - 1) / PAGE * PAGE; }

Guards::Guards(const Launch& launch) {
    const Buffer* buffers = launch.buffers;
    for (u32 i = 0; i < launch.buffer_count; ++i) addresses_.push_back(buffers[i].address);
    std::vector<u32> order(launch.buffer_count);
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(),
              [&](u32 a, u32 b) { return buffers[a].address < buffers[b].address; });

    // Buffers that overlap move together, or stay together.
    struct Group {
        char *begin, *end;
        bool stays, read_only;
        std::vector<u32> members;
    };
    std::vector<Group> groups;
    for (u32 i : order) {
        const Buffer& buffer = buffers[i];
        char* end = buffer.address + buffer.bytes;
        if (groups.empty() || buffer.address >= groups.back().end)
            groups.push_back({buffer.address, end, false, true, {}});
        Group& group = groups.back();
        group.end = std::max(group.end, end);
        group.stays |= buffer.stays != 0;
        group.read_only &= buffer.read_only != 0;
        group.members.push_back(i);
    }
    for (const Group& group : groups)
        if (!group.stays) reserved_bytes_ += WIDTH + up(u64(group.end - group.begin) + PAGE);
    if (!reserved_bytes_) return;
    reserved_bytes_ += WIDTH;
    void* reserved = mmap(nullptr, reserved_bytes_, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) throw std::bad_alloc();
    reserved_ = static_cast<char*>(reserved);
    char* next = reserved_ + PAGE - reinterpret_cast<u64>(reserved_) % PAGE;
    for (const Group& group : groups) {
        if (group.stays) continue;
        u64 bytes = u64(group.end - group.begin);
        next += WIDTH;
        // As far from a multiple of 4096 as it was.
        char* address = next + reinterpret_cast<u64>(group.begin) % 4096;
        if (bytes) {
            if (mprotect(next, up(bytes + 4096), PROT_READ | PROT_WRITE)) {
                munmap(reserved_, reserved_bytes_);
                throw std::bad_alloc();
            }
            std::memcpy(address, group.begin, bytes);
        }
        next += up(bytes + 4096);
        for (u32 i : group.members) addresses_[i] = address + (buffers[i].address - group.begin);
        moved_.push_back({group.begin, address, bytes, group.read_only});
    }
}

Guards::~Guards() {
    if (reserved_) munmap(reserved_, reserved_bytes_);
}

void Guards::copy_back() const {
    for (const Moved& moved : moved_)
        if (!moved.read_only) std::memcpy(moved.home, moved.address, moved.bytes);
}

}  // namespace emulator
