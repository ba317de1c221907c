#include "checker.h"

#include <algorithm>
#include <cstring>

#include "types.h"

namespace emulator {

// What is known of a byte of shared memory.
enum : u8 { WRITTEN = 1, COPY_PENDING = 2 };

static u32 all_threads(const Launch& launch) {
    return launch.block[0] * launch.block[1] * launch.block[2];
}

Checker::Checker(const Launch& launch)
    : launch_(launch),
      guards_(launch),
      races_(all_threads(launch), launch.partial),
      last_region_(launch.site_count),
      last_variable_(launch.site_count),
      state_(launch.arena_bytes) {
    struct Range {
        char *begin, *end;
        u32 object, granule;
        bool read_only, stays;
    };
    std::vector<Range> ranges;
    for (u32 i = 0; i < launch.buffer_count; ++i) {
        const Buffer& buffer = launch.buffers[i];
        char* address = guards_.address(i);
        ranges.push_back({address, address + buffer.bytes, i, buffer.granule, buffer.read_only != 0,
                          buffer.stays != 0});
    }
    std::stable_sort(ranges.begin(), ranges.end(),
                     [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (const Range& range : ranges) {
        if (merged.empty() || range.begin >= merged.back().end) {
            merged.push_back(range);
            continue;
        }
        Range& last = merged.back();
        last.end = std::max(last.end, range.end);
        last.granule = std::min(last.granule, range.granule);
        last.read_only &= range.read_only;
        last.stays |= range.stays;
    }
    for (const Range& range : merged) {
        u64 bytes = u64(range.end - range.begin);
        u64 cells = (bytes / range.granule + 1) * sizeof(Cell);
        auto* memory = reinterpret_cast<Cell*>(map_memory(cells));
        regions_.push_back({range.begin,
                            bytes,
                            range.object,
                            range.read_only,
                            range.stays ? 256 : s64(Guards::WIDTH),
                            {memory, range.granule >> 1, false},
                            cells});
    }
    if (launch.arena_bytes)
        arena_ = {reinterpret_cast<Cell*>(map_memory((launch.arena_bytes / 4 + 1) * sizeof(Cell))),
                  2, true};
}

Checker::~Checker() {
    for (const Region& region : regions_)
        unmap_memory(reinterpret_cast<char*>(region.memory.cells), region.cells);
    if (arena_.cells)
        unmap_memory(reinterpret_cast<char*>(arena_.cells),
                     (launch_.arena_bytes / 4 + 1) * sizeof(Cell));
}

void Checker::begin_block(Worker& worker) {
    worker_ = &worker;
    races_.begin_block(worker.block().index);
    std::fill(state_.begin(), state_.end(), u8(0));
}

void Checker::report(const Fiber& fiber, u32 site, Kind kind, Space space, Access access, u32 bytes,
                     s32 object, s64 offset) {
    Finding finding{};
    finding.space = space, finding.access = access, finding.bytes = bytes;
    finding.object = object, finding.offset = offset;
    worker_->report(fiber, site, kind, finding);
}

void check_access(Thread* thread, u32 site, u64 address, u32 bytes, u32 space, u32 access) {
    Fiber& fiber = *static_cast<Fiber*>(thread);
    Checker& checker = *fiber.worker->checker();
    if (space == GLOBAL)
        checker.global(fiber, site, address, bytes, bytes, Access(access));
    else if (space == SHARED)
        checker.shared(fiber, site, u32(address), bytes, Access(access));
    else if (space == LOCAL)
        checker.local(fiber, site, address, bytes, Access(access));
    else
        checker.generic(fiber, site, address, bytes, Access(access));
}

void Checker::generic(const Fiber& fiber, u32 site, u64 address, u32 bytes, Access access) {
    u64 arena = reinterpret_cast<u64>(worker_->arena());
    if (address - arena < launch_.arena_bytes)
        return shared(fiber, site, u32(address - arena), bytes, access);
    for (const LocalFrame* frame = fiber.frames; frame; frame = frame->outer)
        if (address - reinterpret_cast<u64>(frame->base) < frame->bytes)
            return local(fiber, site, address, bytes, access);
    u64 parameters = reinterpret_cast<u64>(worker_->block().parameters);
    if (!(access & WRITE) && address >= parameters &&
        address + bytes <= parameters + launch_.parameter_bytes)
        return;
    global(fiber, site, address, bytes, bytes, access);
}

// ---- global memory

INLINE void Checker::global(const Fiber& fiber, u32 site, u64 address, u32 bytes, u32 aligned,
                            Access access) {
    const Region* region = last_region_[site];
    if (!region || !region->holds(address, bytes))
        region = last_region_[site] = find(fiber, site, address, bytes, access);
    u64 offset = address - reinterpret_cast<u64>(region->base);
    if (address & (aligned - 1))
        report(fiber, site, MISALIGNED, GLOBAL, access, aligned, s32(region->object), s64(offset));
    if (region->read_only && access & WRITE)
        report(fiber, site, READ_ONLY, GLOBAL, access, bytes, s32(region->object), s64(offset));
    Conflict conflict;
    if (!races_.access(region->memory, offset, bytes, fiber.number, site, access, conflict))
        report_race(fiber, site, GLOBAL, access, bytes, s32(region->object), 0, conflict);
}

// The region that an access lies in; reports one that lies in none.
const Checker::Region* Checker::find(const Fiber& fiber, u32 site, u64 address, u32 bytes,
                                     Access access) {
    auto after = std::upper_bound(
        regions_.begin(), regions_.end(), address,
        [](u64 a, const Region& region) { return a < reinterpret_cast<u64>(region.base); });
    const Region* below = after == regions_.begin() ? nullptr : &*std::prev(after);
    if (below && below->holds(address, bytes)) return below;
    const Region* above = after == regions_.end() ? nullptr : &*after;
    s64 to_below = below ? s64(address - reinterpret_cast<u64>(below->base) - below->bytes) : 0;
    s64 to_above = above ? s64(reinterpret_cast<u64>(above->base) - address) : 0;
    const Region* nearest = below && (!above || to_below <= to_above) ? below : above;
    if (!nearest || (nearest == below ? to_below : to_above) > nearest->reach)
        report(fiber, site, OUT_OF_BOUNDS, GLOBAL, access, bytes, -1, s64(address));
    report(fiber, site, OUT_OF_BOUNDS, GLOBAL, access, bytes, s32(nearest->object),
           s64(address - reinterpret_cast<u64>(nearest->base)));
}

// ---- shared memory

static bool all(const u8* bytes, u32 count, u8 value) {
    if (count == 4) return load<u32>(reinterpret_cast<const char*>(bytes)) == 0x01010101u * value;
    for (u32 i = 0; i < count; ++i)
        if (bytes[i] != value) return false;
    return true;
}

INLINE void Checker::shared(const Fiber& fiber, u32 site, u32 offset, u32 bytes, Access access) {
    u32 number = last_variable_[site];
    if (number >= launch_.shared_count || !holds(launch_.shared[number], offset, bytes))
        number = last_variable_[site] = find_shared(fiber, site, offset, bytes, access);
    s64 begin = launch_.shared[number].offset;
    if (offset & (bytes - 1))
        report(fiber, site, MISALIGNED, SHARED, access, bytes, s32(number), offset - begin);
    u8* state = &state_[offset];
    if (!all(state, bytes, WRITTEN)) {
        check_state(fiber, site, number, offset, bytes, access);
        if (access & WRITE) std::memset(state, WRITTEN, bytes);
    }
    Conflict conflict;
    if (!races_.access(arena_, offset, bytes, fiber.number, site, access, conflict))
        report_race(fiber, site, SHARED, access, bytes, s32(number), begin, conflict);
}

// The variable that an access lies in; reports one that lies in none.
u32 Checker::find_shared(const Fiber& fiber, u32 site, u32 offset, u32 bytes, Access access) {
    s64 nearest = -1, distance = 0;
    for (u32 v = 0; v < launch_.shared_count; ++v) {
        const SharedVariable& variable = launch_.shared[v];
        if (holds(variable, offset, bytes)) return v;
        s64 begin = variable.offset, end = begin + variable.bytes;
        s64 away = s64(offset) < begin ? begin - s64(offset) : std::max<s64>(0, s64(offset) - end);
        if (nearest < 0 || away < distance) nearest = v, distance = away;
    }
    report(fiber, site, OUT_OF_BOUNDS, SHARED, access, bytes, s32(nearest),
           nearest < 0 ? s64(offset) : s64(s32(offset - launch_.shared[nearest].offset)));
}

// Reports bytes that are read before they were written, or touched while a copy is on its way.
void Checker::check_state(const Fiber& fiber, u32 site, u32 number, u32 offset, u32 bytes,
                          Access access) {
    for (u32 at = offset; at < offset + bytes; ++at) {
        if (state_[at] == WRITTEN || (state_[at] == 0 && !(access & READ))) continue;
        Finding finding{};
        finding.space = SHARED, finding.access = access, finding.bytes = bytes;
        finding.object = s32(number), finding.offset = s64(offset) - launch_.shared[number].offset;
        if (!(state_[at] & COPY_PENDING)) worker_->report(fiber, site, UNINITIALISED, finding);
        for (u32 n = 0; n < worker_->threads() && !finding.has_other; ++n) {
            const Fiber& other = worker_->fiber(n);
            for (const Copy& copy : other.copies) {
                if (at < copy.target || at >= copy.target + copy.bytes) continue;
                finding.has_other = 1, finding.other_site = copy.site, finding.other_access = WRITE;
                std::copy_n(worker_->block().index, 3, finding.other_block);
                std::copy_n(other.index, 3, finding.other_thread);
            }
        }
        worker_->report(fiber, site, ASYNC_COPY, finding);
    }
}

// The bytes of a cp.async may arrive at any time until it was waited for, and be read as late.
void Checker::copy_begins(const Fiber& fiber, const Copy& copy) {
    if (copy.used)
        global(fiber, copy.site, reinterpret_cast<u64>(copy.source), copy.used, copy.bytes, READ);
    shared(fiber, copy.site, copy.target, copy.bytes, WRITE);
    std::memset(&state_[copy.target], COPY_PENDING, copy.bytes);
}

void Checker::copy_ends(const Fiber& fiber, const Copy& copy) {
    std::memset(&state_[copy.target], WRITTEN, copy.bytes);
    if (copy.used)
        global(fiber, copy.site, reinterpret_cast<u64>(copy.source), copy.used, copy.bytes, READ);
    shared(fiber, copy.site, copy.target, copy.bytes, WRITE);
}

// ---- local memory

void Checker::local(const Fiber& fiber, u32 site, u64 address, u32 bytes, Access access) {
    const LocalFrame* frame = fiber.frames;
    for (; frame; frame = frame->outer) {
        u64 offset = address - reinterpret_cast<u64>(frame->base);
        if (offset < frame->bytes && offset + bytes <= frame->bytes) break;
    }
    s64 offset = s64(address - reinterpret_cast<u64>((frame ? frame : fiber.frames)->base));
    if (!frame)
        report(fiber, site, OUT_OF_BOUNDS, LOCAL, access, bytes, s32(fiber.frames->bytes), offset);
    if (address & (bytes - 1)) report(fiber, site, MISALIGNED, LOCAL, access, bytes, -1, offset);
}

// ---- races

void Checker::report_race(const Fiber& fiber, u32 site, Space space, Access access, u32 bytes,
                          s32 object, s64 begin, const Conflict& conflict) {
    Finding finding{};
    finding.space = space, finding.access = access, finding.bytes = bytes;
    finding.object = object, finding.offset = s64(conflict.offset) - begin;
    finding.has_other = 1;
    finding.other_site = conflict.with.site(), finding.other_access = conflict.access;
    std::copy_n(races_.block_at(conflict.with.time), 3, finding.other_block);
    std::copy_n(worker_->fiber(conflict.with.thread()).index, 3, finding.other_thread);
    worker_->report(fiber, site, RACE, finding);
}

}  // namespace emulator
