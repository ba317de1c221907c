// Finds races by happens-before, not by luck of the schedule.
//
// Time counts the synchronisations of a launch; an access is stamped with the time at which its
// thread last synchronised. A barrier of the whole block orders all accesses stamped before it.
// What is among a part of a block (__syncwarp, barriers with a count) is kept as what each thread
// knows of each other: the latest stamp that comes before whatever it does next. Blocks are never
// ordered. Atomic accesses do not race with one another, and order nothing.
#pragma once
#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "abi.h"

namespace emulator {

// When a thread touched memory and where in the code; time 0: never.
struct Stamp {
    u32 time;
    u32 who;  // site << 10 | thread; bit fields would be slower

    static Stamp of(u32 time, u32 thread, u32 site) { return {time, site << 10 | thread}; }
    u32 thread() const { return who & 1023; }
    u32 site() const { return who >> 10; }
};

// What is remembered of the accesses to one granule of memory.
struct Cell {
    Stamp write;
    Stamp read, second_read;  // since then, by two threads of this block
    Stamp foreign_read;  // since then, by another block
};

// Memory of which accesses are remembered.
struct Memory {
    Cell* cells;  // one a granule
    u32 shift;  // a granule has 1 << shift bytes: 1, 2 or 4
    bool shared;  // each block has its own
};

struct Conflict {
    Stamp with;
    Access access;
    u64 offset;
};

class Races {
public:
    // `partial`: the kernel has synchronisation among a part of a block.
    Races(u32 threads, bool partial);

    void begin_block(const u32 index[3]);
    void synchronise();  // the whole block
    void synchronise(u32 first, u32 lanes);  // lanes of the warp whose first thread that is
    void arrive(u32 thread, u32 barrier);  // at a barrier of a part of the block
    void depart(u32 thread, u32 barrier);  // from it

    // Remembers an access; false if it races, with what. A COMPARE_AND_SWAP makes an earlier plain
    // read by the same thread part of itself.
    bool access(const Memory& memory, u64 offset, u32 bytes, u32 thread, u32 site, Access access,
                Conflict& conflict) {
        if (partial_ || access & STRONG || (offset | bytes) & ((1u << memory.shift) - 1))
            return access_any(memory, offset, bytes, thread, site, access, conflict);
        const Stamp me = Stamp::of(synchronised_, thread, site);
        Cell* cell = memory.cells + (offset >> memory.shift);
        for (u32 n = bytes >> memory.shift; n; --n, ++cell)
            if (cell->write.time == SPLIT ||
                touch(*cell, me, memory.shared, access, conflict.access))
                return access_any(memory, offset, bytes, thread, site, access, conflict);
        return true;
    }
    // The block that ran at that time.
    const u32* block_at(u32 time) const;

private:
    using Knowledge = std::vector<u32>;
    // All accesses of one kind to a byte that matter: of this block's threads, and of another block.
    struct Accesses {
        std::vector<Stamp> own;  // by thread
        Stamp foreign{};
        u32 newest = 0;
    };
    struct Byte {
        Stamp write{};
        Accesses reads, strong_reads, atomics;
    };
    struct ThreadTime {
        u32 time = 0;
        std::shared_ptr<const Knowledge> knows;
    };
    struct Begin {
        u32 time, index[3];
    };

    // A cell whose write has this time is kept byte by byte; `read.time` is the index in split_.
    static constexpr u32 SPLIT = ~0u;

    // Whether nothing orders an earlier access before what the thread does now.
    bool races(const Stamp& stamp, u32 thread, bool shared) const {
        if (stamp.time < synchronised_) return stamp.time && stamp.time < block_began_ && !shared;
        return stamp.thread() != thread && (!partial_ || !knows(thread, stamp));
    }
    bool knows(u32 thread, const Stamp& stamp) const;
    bool access_any(const Memory&, u64 offset, u32 bytes, u32 thread, u32 site, Access, Conflict&);
    const Stamp* racing(const Accesses& accesses, u32 thread, bool shared) const;
    void add(Accesses& accesses, const Stamp& stamp) const;
    std::array<Byte, 4>& split(Cell& cell);
    const Stamp* touch(Cell& cell, const Stamp& me, bool shared, Access access,
                       Access& other) const;
    const Stamp* touch(Byte& byte, const Stamp& me, bool shared, Access access, Access& other);
    void learn(Knowledge& joined, u32 thread) const;

    bool partial_;
    u32 time_ = 0;  // now
    u32 block_began_ = 0;
    u32 synchronised_ = 0;  // when the whole block last was
    std::vector<ThreadTime> threads_;
    std::array<std::shared_ptr<Knowledge>, 16> arrived_;
    std::array<bool, 16> departed_{};
    std::deque<std::array<Byte, 4>> split_;
    std::vector<Begin> begins_;
};

// Remembers an access to a whole granule; what it races with, if anything.
inline const Stamp* Races::touch(Cell& cell, const Stamp& me, bool shared, Access access,
                                 Access& other) const {
    other = WRITE;
    if (races(cell.write, me.thread(), shared)) return &cell.write;
    if (access == WRITE) {
        other = READ;
        if (cell.foreign_read.time && !shared) return &cell.foreign_read;
        if (races(cell.read, me.thread(), shared)) return &cell.read;
        if (races(cell.second_read, me.thread(), shared)) return &cell.second_read;
        cell = {me, {}, {}, {}};
        return nullptr;
    }
    if (cell.read.time < synchronised_) {
        if (cell.read.time && cell.read.time < block_began_) cell.foreign_read = cell.read;
        cell.second_read = {};
    } else if (cell.read.thread() != me.thread()) {
        cell.second_read = cell.read;
    }
    cell.read = me;
    return nullptr;
}

}  // namespace emulator
