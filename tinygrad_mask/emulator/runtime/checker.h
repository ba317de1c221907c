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
    void copy_begins(const Fiber&, const Copy&);
    void copy_ends(const Fiber&, const Copy&);
    Races& races() { return races_; }

private:
    friend void check_access(Thread*, u32 site, u64 address, u32 bytes, u32 space, u32 access);

    // A buffer, or several that overlap.
    struct Region {
        char* base;
        u64 bytes;
        u32 object;  // number of the first buffer
        bool read_only;
        s64 reach;  // an access so far from it is most likely meant for it
        Memory memory;
        u64 cells;  // bytes of them

        bool holds(u64 address, u32 size) const {
            u64 offset = address - reinterpret_cast<u64>(base);
            return offset < bytes && size <= bytes - offset;
        }
    };
    static bool holds(const SharedVariable& variable, u32 offset, u32 bytes) {
        u32 in_variable = offset - variable.offset;
        return in_variable < variable.bytes && bytes <= variable.bytes - in_variable;
    }

    void generic(const Fiber&, u32 site, u64 address, u32 bytes, Access);
    void global(const Fiber&, u32 site, u64 address, u32 bytes, u32 aligned, Access);
    void shared(const Fiber&, u32 site, u32 offset, u32 bytes, Access);
    void local(const Fiber&, u32 site, u64 address, u32 bytes, Access);
    const Region* find(const Fiber&, u32 site, u64 address, u32 bytes, Access);
    u32 find_shared(const Fiber&, u32 site, u32 offset, u32 bytes, Access);
    void check_state(const Fiber&, u32 site, u32 number, u32 offset, u32 bytes, Access);
    [[noreturn]] void report(const Fiber&, u32 site, Kind, Space, Access, u32 bytes, s32 object,
                             s64 offset);
    [[noreturn]] void report_race(const Fiber&, u32 site, Space, Access, u32 bytes, s32 object,
                                  s64 begin, const Conflict&);

    const Launch& launch_;
    Guards guards_;
    Races races_;
    Worker* worker_ = nullptr;
    std::vector<Region> regions_;  // by address
    std::vector<const Region*> last_region_;  // of each instruction
    std::vector<u32> last_variable_;
    Memory arena_{};
    std::vector<u8> state_;  // of the bytes of shared memory
};

// What kernels in check mode call at every access.
void check_access(Thread*, u32 site, u64 address, u32 bytes, u32 space, u32 access);

}  // namespace emulator
