// Check mode: every access is tested for bounds, alignment, initialisation and races.
#pragma once
#include <vector>

#include "guards.h"
#include "races.h"
#include "worker.h"

namespace emulator {

class Checker {
public:
    explicit Checker(const Launch& launch);
    ~Checker();
    Checker(const Checker&) = delete;
    Checker& operator=(const Checker&) = delete;

    const Guards& guards() const { return guards_; }

    void begin_block(Worker& worker);
    // False if the copy is wrong, and must not be made.
    bool copy_begins(const Fiber&, const Copy&);
    void copy_ends(const Fiber&, const Copy&);
    Races& races() { return races_; }
    // The thread synchronises, or is at its end: reports reads that no compare-and-swap followed.
    void settle(const Fiber& fiber) {
        if (!pending_.empty()) report_pending(fiber);
    }
    // A string of the kernel's, or null if there is none at the address.
    const char* text(const Fiber&, u32 site, const char* address);
    // Brings what the kernel wrote, and which bytes it wrote, back to where the caller keeps it.
    void copy_back() const;

private:
    friend char* check_access(Thread*, u32 site, u64 address, u32 bytes, u32 space, u32 access);

    // A buffer, or several that overlap.
    struct Region {
        char* base;
        u64 bytes;
        u32 object;  // number of the first buffer
        bool read_only;
        s64 reach;  // an access so far from it is most likely meant for it
        Memory memory;
        u64 cells;  // bytes of them
        u8* unwritten;  // 1 for each byte that nobody has written; null if all are known

        bool holds(u64 address, u32 size) const {
            u64 offset = address - reinterpret_cast<u64>(base);
            return offset < bytes && size <= bytes - offset;
        }
    };
    static bool holds(const Extent& variable, u32 offset, u32 bytes) {
        u32 in_variable = offset - variable.offset;
        return in_variable < variable.bytes && bytes <= variable.bytes - in_variable;
    }

    // Each tests an access and returns where to make it: at its address, or nowhere.
    char* generic(const Fiber&, u32 site, u64 address, u32 bytes, Access);
    char* global(const Fiber&, u32 site, u64 address, u32 bytes, u32 aligned, Access);
    char* shared(const Fiber&, u32 site, u32 offset, u32 bytes, Access);
    char* local(const Fiber&, u32 site, u64 address, u32 bytes, Access);
    char* parameter(const Fiber&, u32 site, u64 address, u32 bytes, Access);
    char* nowhere();
    const Region* below(u64 address) const;
    const Region* find(const Fiber&, u32 site, u64 address, u32 bytes, Access);
    u32 find_shared(const Fiber&, u32 site, u32 offset, u32 bytes, Access);
    bool arrived(const Fiber&, u32 site, u32 number, u32 offset, u32 bytes, Access);
    void report(const Fiber&, u32 site, Kind, Space, Access, u32 bytes, s32 object, s64 offset);
    void report_race(const Fiber&, u32 site, Space, Access, u32 bytes, s32 object, s64 begin,
                     const char* address, const Conflict&);
    void report_pending(const Fiber&);
    void forgive(const Fiber&, const char* address);

    // A plain read of what others change atomically: no race if the thread itself goes on with a
    // compare-and-swap there, which then sees whether the value read is still the right one.
    struct Pending {
        u32 thread;
        const char* address;
        u32 site;
        Finding finding;
    };

    const Launch& launch_;
    Guards guards_;
    Races races_;
    Worker* worker_ = nullptr;
    std::vector<Region> regions_;  // by address
    std::vector<const Region*> last_region_;  // of each instruction
    std::vector<u32> last_variable_;
    Memory arena_{};
    std::vector<u8> state_;  // of the bytes of shared memory
    std::vector<Pending> pending_;
    alignas(64) char nowhere_[64];
};

// What kernels in check mode call at every access.
char* check_access(Thread*, u32 site, u64 address, u32 bytes, u32 space, u32 access);

}  // namespace emulator
