#include "races.h"

#include <algorithm>

namespace emulator {

Races::Races(u32 threads, bool partial) : partial_(partial), threads_(threads) {}

void Races::begin_block(const u32 index[3]) {
    synchronise();
    block_began_ = synchronised_;
    departed_.fill(true);
    begins_.push_back({time_, {index[0], index[1], index[2]}});
}

const u32* Races::block_at(u32 time) const {
    auto after = std::upper_bound(begins_.begin(), begins_.end(), time,
                                  [](u32 t, const Begin& b) { return t < b.time; });
    return std::prev(after)->index;
}

// ---- synchronisation

void Races::synchronise() {
    synchronised_ = ++time_;
    if (partial_)
        for (ThreadTime& thread : threads_) thread = {time_, nullptr};
}

void Races::learn(Knowledge& joined, u32 thread) const {
    if (const Knowledge* knows = threads_[thread].knows.get())
        for (size_t i = 0; i < joined.size(); ++i) joined[i] = std::max(joined[i], (*knows)[i]);
    joined[thread] = threads_[thread].time;
}

void Races::synchronise(u32 first, u32 lanes) {
    auto joined = std::make_shared<Knowledge>(threads_.size());
    const Knowledge* last = nullptr;  // most lanes know the same
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        u32 thread = first + u32(__builtin_ctz(rest));
        const Knowledge* knows = threads_[thread].knows.get();
        if (knows && knows != last) learn(*joined, thread);
        last = knows;
    }
    ++time_;
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        u32 thread = first + u32(__builtin_ctz(rest));
        (*joined)[thread] = threads_[thread].time;
    }
    for (u32 rest = lanes; rest; rest &= rest - 1)
        threads_[first + u32(__builtin_ctz(rest))] = {time_, joined};
}

void Races::arrive(u32 thread, u32 barrier) {
    if (departed_[barrier]) {
        arrived_[barrier] = std::make_shared<Knowledge>(threads_.size());
        departed_[barrier] = false;
    }
    learn(*arrived_[barrier], thread);
    threads_[thread].time = ++time_;  // what it does from now on is not ordered by its arrival
}

void Races::depart(u32 thread, u32 barrier) {
    departed_[barrier] = true;
    threads_[thread].knows = arrived_[barrier];
}

// ---- accesses

bool Races::knows(u32 thread, const Stamp& stamp) const {
    const Knowledge* knows = threads_[thread].knows.get();
    return knows && (*knows)[stamp.thread()] >= stamp.time;
}

const Stamp* Races::racing(const Accesses& accesses, u32 thread, bool shared) const {
    if (accesses.foreign.time && !shared) return &accesses.foreign;
    for (const Stamp& stamp : accesses.own)
        if (races(stamp, thread, shared)) return &stamp;
    return nullptr;
}

void Races::add(Accesses& accesses, const Stamp& stamp) const {
    if (accesses.newest < synchronised_ && !accesses.own.empty()) {
        if (accesses.newest < block_began_) accesses.foreign = accesses.own.back();
        accesses.own.clear();
    }
    accesses.newest = std::max(accesses.newest, u32(stamp.time));
    auto at =
        std::lower_bound(accesses.own.begin(), accesses.own.end(), stamp,
                         [](const Stamp& a, const Stamp& b) { return a.thread() < b.thread(); });
    if (at != accesses.own.end() && at->thread() == stamp.thread()) *at = stamp;
    // Where only the whole block synchronises, two threads stand for all: no other is both.
    else if (partial_ || accesses.own.size() < 2)
        accesses.own.insert(at, stamp);
}

std::array<Races::Byte, 4>& Races::split(Cell& cell) {
    if (cell.write.time == SPLIT) return split_[cell.read.time];
    std::array<Byte, 4> bytes;
    for (Byte& byte : bytes) {
        byte.write = cell.write;
        byte.reads.foreign = cell.foreign_read;
        for (const Stamp& read : {cell.read, cell.second_read}) {
            if (!read.time) continue;
            byte.reads.own.push_back(read);
            byte.reads.newest = std::max(byte.reads.newest, u32(read.time));
        }
        if (byte.reads.own.size() == 2 && byte.reads.own[0].thread() > byte.reads.own[1].thread())
            std::swap(byte.reads.own[0], byte.reads.own[1]);
    }
    cell.write.time = SPLIT;
    cell.read.time = u32(split_.size());
    split_.push_back(std::move(bytes));
    return split_.back();
}

const Stamp* Races::touch(Byte& byte, const Stamp& me, bool shared, Access access, Access& other) {
    const bool plain = !(access & STRONG), writes = access & WRITE;
    if (access == COMPARE_AND_SWAP) {
        std::vector<Stamp>& own = byte.reads.own;
        own.erase(std::remove_if(own.begin(), own.end(),
                                 [&](const Stamp& s) { return s.thread() == me.thread(); }),
                  own.end());
    }
    other = WRITE;
    if (races(byte.write, me.thread(), shared)) return &byte.write;
    other = ATOMIC;
    if (plain)
        if (const Stamp* stamp = racing(byte.atomics, me.thread(), shared)) return stamp;
    other = READ;
    if (writes)
        if (const Stamp* stamp = racing(byte.reads, me.thread(), shared)) return stamp;
    if (writes && plain)
        if (const Stamp* stamp = racing(byte.strong_reads, me.thread(), shared)) return stamp;
    if (writes && plain)
        byte = {me, {}, {}, {}};
    else
        add(writes ? byte.atomics : plain ? byte.reads : byte.strong_reads, me);
    return nullptr;
}

bool Races::access_any(const Memory& memory, u64 offset, u32 bytes, u32 thread, u32 site,
                       Access access, Conflict& conflict) {
    const Stamp me = Stamp::of(partial_ ? threads_[thread].time : synchronised_, thread, site);
    const u32 granule = 1u << memory.shift;
    const u64 end = offset + bytes;
    while (offset < end) {
        Cell& cell = memory.cells[offset >> memory.shift];
        const u32 from = u32(offset) & (granule - 1),
                  to = u32(std::min<u64>(granule, from + end - offset));
        bool whole = to - from == granule && !(access & STRONG) && cell.write.time != SPLIT;
        // Two readers do not stand for all where a part of the block synchronises.
        if (partial_ && whole && access == READ && cell.second_read.time >= synchronised_ &&
            cell.read.thread() != thread && cell.second_read.thread() != thread)
            whole = false;
        if (whole) {
            if (const Stamp* stamp = touch(cell, me, memory.shared, access, conflict.access)) {
                conflict.with = *stamp, conflict.offset = offset;
                return false;
            }
        } else {
            std::array<Byte, 4>& split_bytes = split(cell);
            for (u32 i = from; i < to; ++i) {
                if (const Stamp* stamp =
                        touch(split_bytes[i], me, memory.shared, access, conflict.access)) {
                    conflict.with = *stamp, conflict.offset = offset - from + i;
                    return false;
                }
            }
        }
        offset += to - from;
    }
    return true;
}

}  // namespace emulator
