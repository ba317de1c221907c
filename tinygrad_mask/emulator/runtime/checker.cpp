#include "checker.h"

#include <algorithm>
#include <cstring>

#include "types.h"

namespace emulator {

// What is known of a byte of shared memory.
enum : u8 { WRITTEN = 1, COPY_PENDING = 2 };

// Addresses so far from a local array are most likely meant for it.
constexpr u64 NEAR = 4096;

static const LocalFrame* nearest_frame(const Fiber& fiber, u64 address) {
    const LocalFrame* nearest = nullptr;
    u64 distance = 0;
    for (const LocalFrame* frame = fiber.frames; frame; frame = frame->outer) {
        u64 begin = reinterpret_cast<u64>(frame->base), end = begin + frame->bytes;
        u64 away = address < begin ? begin - address : address < end ? 0 : address - end;
        if (frame->bytes && (!nearest || away < distance)) nearest = frame, distance = away;
    }
    return nearest;
}

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
        bool read_only, stays, unwritten;
    };
    std::vector<Range> ranges;
    for (u32 i = 0; i < launch.buffer_count; ++i) {
        const Buffer& buffer = launch.buffers[i];
        char* address = guards_.address(i);
        ranges.push_back({address, address + buffer.bytes, i, buffer.granule, buffer.read_only != 0,
                          buffer.stays != 0, buffer.unwritten != nullptr});
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
        last.unwritten |= range.unwritten;
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
                            cells,
                            range.unwritten ? reinterpret_cast<u8*>(map_memory(bytes)) : nullptr});
    }
    for (u32 i = 0; i < launch.buffer_count; ++i) {
        const Buffer& buffer = launch.buffers[i];
        if (!buffer.unwritten || !buffer.bytes) continue;
        const Region* region = below(reinterpret_cast<u64>(guards_.address(i)));
        std::memcpy(region->unwritten + (guards_.address(i) - region->base), buffer.unwritten,
                    buffer.bytes);
    }
    if (launch.arena_bytes)
        arena_ = {reinterpret_cast<Cell*>(map_memory((launch.arena_bytes / 4 + 1) * sizeof(Cell))),
                  2, true};
}

Checker::~Checker() {
    for (const Region& region : regions_) {
        unmap_memory(reinterpret_cast<char*>(region.memory.cells), region.cells);
        unmap_memory(reinterpret_cast<char*>(region.unwritten), region.bytes);
    }
    if (arena_.cells)
        unmap_memory(reinterpret_cast<char*>(arena_.cells),
                     (launch_.arena_bytes / 4 + 1) * sizeof(Cell));
}

void Checker::copy_back() const {
    guards_.copy_back();
    for (u32 i = 0; i < launch_.buffer_count; ++i) {
        const Buffer& buffer = launch_.buffers[i];
        if (!buffer.unwritten || !buffer.bytes) continue;
        const Region* region = below(reinterpret_cast<u64>(guards_.address(i)));
        std::memcpy(buffer.unwritten, region->unwritten + (guards_.address(i) - region->base),
                    buffer.bytes);
    }
}

void Checker::begin_block(Worker& worker) {
    worker_ = &worker;
    pending_.clear();
    races_.begin_block(worker.block().index);
    std::fill(state_.begin(), state_.end(), u8(0));
}

void Checker::report(const Fiber& fiber, u32 site, Kind kind, Space space, Access access, u32 bytes,
                     s32 object, s64 offset) {
    Finding finding{};
    finding.space = space, finding.access = access, finding.bytes = bytes;
    finding.object = object, finding.offset = offset;
    worker_->note(fiber, site, kind, finding);
}

// Where a wrong access goes: what it reads is zero, what it writes is lost.
char* Checker::nowhere() {
    std::memset(nowhere_, 0, sizeof nowhere_);
    return nowhere_;
}

char* check_access(Thread* thread, u32 site, u64 address, u32 bytes, u32 space, u32 access) {
    Fiber& fiber = *static_cast<Fiber*>(thread);
    Checker& checker = *fiber.worker->checker();
    if (space == GLOBAL || space == CONSTANT)
        return checker.global(fiber, site, address, bytes, bytes, Access(access));
    if (space == SHARED) return checker.shared(fiber, site, u32(address), bytes, Access(access));
    if (space == LOCAL) return checker.local(fiber, site, address, bytes, Access(access));
    if (space == PARAMETER) return checker.parameter(fiber, site, address, bytes, Access(access));
    return checker.generic(fiber, site, address, bytes, Access(access));
}

char* Checker::generic(const Fiber& fiber, u32 site, u64 address, u32 bytes, Access access) {
    u64 arena = reinterpret_cast<u64>(worker_->arena());
    if (address - arena < launch_.arena_bytes)
        return shared(fiber, site, u32(address - arena), bytes, access);
    for (const LocalFrame* frame = fiber.frames; frame; frame = frame->outer)
        if (address - reinterpret_cast<u64>(frame->base) < frame->bytes)
            return local(fiber, site, address, bytes, access);
    u64 parameters = reinterpret_cast<u64>(worker_->block().parameters);
    if (address - parameters < launch_.parameter_bytes)
        return parameter(fiber, site, address, bytes, access);
    const Region* region = below(address);
    if (!region || !region->holds(address, bytes))
        for (const LocalFrame* frame = fiber.frames; frame; frame = frame->outer)
            if (frame->bytes && address + NEAR - reinterpret_cast<u64>(frame->base) <
                                    frame->bytes + 2 * NEAR)
                return local(fiber, site, address, bytes, access);
    return global(fiber, site, address, bytes, bytes, access);
}

// ---- parameters

char* Checker::parameter(const Fiber& fiber, u32 site, u64 address, u32 bytes, Access access) {
    u64 offset = address - reinterpret_cast<u64>(worker_->block().parameters);
    s64 nearest = -1, distance = 0;
    for (u32 p = 0; p < launch_.parameter_count; ++p) {
        s64 begin = launch_.parameter_extents[p].offset,
            end = begin + launch_.parameter_extents[p].bytes;
        s64 away = s64(offset) < begin ? begin - s64(offset) : std::max<s64>(0, s64(offset) - end);
        if (nearest < 0 || away < distance) nearest = p, distance = away;
    }
    if (nearest < 0 || !holds(launch_.parameter_extents[nearest], u32(offset), bytes)) {
        // Parameters of a function that was not inlined are local to the one that calls it.
        for (const LocalFrame* frame = fiber.frames; frame; frame = frame->outer)
            if (address - reinterpret_cast<u64>(frame->base) < frame->bytes)
                return local(fiber, site, address, bytes, access);
        s64 begin = nearest < 0 ? 0 : launch_.parameter_extents[nearest].offset;
        report(fiber, site, OUT_OF_BOUNDS, PARAMETER, access, bytes, s32(nearest),
               s64(offset) - begin);
        return nowhere();
    }
    s64 within = s64(offset) - launch_.parameter_extents[nearest].offset;
    if (access & WRITE)
        report(fiber, site, READ_ONLY, PARAMETER, access, bytes, s32(nearest), within);
    if (address & (bytes - 1))
        report(fiber, site, MISALIGNED, PARAMETER, access, bytes, s32(nearest), within);
    return access & WRITE ? nowhere() : reinterpret_cast<char*>(address);
}

// ---- global memory

static bool any(const u8* bytes, u32 count) {
    for (u32 i = 0; i < count; ++i)
        if (bytes[i]) return true;
    return false;
}

INLINE char* Checker::global(const Fiber& fiber, u32 site, u64 address, u32 bytes, u32 aligned,
                             Access access) {
    const Region* region = last_region_[site];
    if (!region || !region->holds(address, bytes)) {
        region = find(fiber, site, address, bytes, access);
        if (!region) return nowhere();
        last_region_[site] = region;
    }
    u64 offset = address - reinterpret_cast<u64>(region->base);
    if (address & (aligned - 1)) {
        report(fiber, site, MISALIGNED, GLOBAL, access, aligned, s32(region->object), s64(offset));
        return nowhere();
    }
    if (region->read_only && access & WRITE) {
        report(fiber, site, READ_ONLY, GLOBAL, access, bytes, s32(region->object), s64(offset));
        return nowhere();
    }
    if (region->unwritten && any(region->unwritten + offset, bytes)) {
        if (access & READ)
            report(fiber, site, UNINITIALISED_GLOBAL, GLOBAL, access, bytes, s32(region->object),
                   s64(offset));
        std::memset(region->unwritten + offset, 0, bytes);  // each is reported once
    }
    char* place = reinterpret_cast<char*>(address);
    if (access == COMPARE_AND_SWAP) forgive(fiber, place);
    Conflict conflict;
    if (!races_.access(region->memory, offset, bytes, fiber.number, site, access, conflict))
        report_race(fiber, site, GLOBAL, access, bytes, s32(region->object), 0, place, conflict);
    return place;
}

// The region that begins last at or before an address.
const Checker::Region* Checker::below(u64 address) const {
    auto after = std::upper_bound(
        regions_.begin(), regions_.end(), address,
        [](u64 a, const Region& region) { return a < reinterpret_cast<u64>(region.base); });
    return after == regions_.begin() ? nullptr : &*std::prev(after);
}

// The region that an access lies in; reports one that lies in none, and returns null.
const Checker::Region* Checker::find(const Fiber& fiber, u32 site, u64 address, u32 bytes,
                                     Access access) {
    const Region* below = this->below(address);
    if (below && below->holds(address, bytes)) return below;
    const Region* next = below ? below + 1 : regions_.data();
    const Region* above = next == regions_.data() + regions_.size() ? nullptr : next;
    s64 to_below = below ? s64(address - reinterpret_cast<u64>(below->base) - below->bytes) : 0;
    s64 to_above = above ? s64(reinterpret_cast<u64>(above->base) - address) : 0;
    const Region* nearest = below && (!above || to_below <= to_above) ? below : above;
    if (!nearest || (nearest == below ? to_below : to_above) > nearest->reach) {
        report(fiber, site, OUT_OF_BOUNDS, GLOBAL, access, bytes, -1, s64(address));
        return nullptr;
    }
    report(fiber, site, OUT_OF_BOUNDS, GLOBAL, access, bytes, s32(nearest->object),
           s64(address - reinterpret_cast<u64>(nearest->base)));
    return nullptr;
}

// ---- shared memory

static bool all(const u8* bytes, u32 count, u8 value) {
    if (count == 4) return load<u32>(reinterpret_cast<const char*>(bytes)) == 0x01010101u * value;
    for (u32 i = 0; i < count; ++i)
        if (bytes[i] != value) return false;
    return true;
}

INLINE char* Checker::shared(const Fiber& fiber, u32 site, u32 offset, u32 bytes, Access access) {
    u32 number = last_variable_[site];
    if (number >= launch_.shared_count || !holds(launch_.shared[number], offset, bytes)) {
        number = find_shared(fiber, site, offset, bytes, access);
        if (number == ~0u) return nowhere();
        last_variable_[site] = number;
    }
    s64 begin = launch_.shared[number].offset;
    if (offset & (bytes - 1)) {
        report(fiber, site, MISALIGNED, SHARED, access, bytes, s32(number), offset - begin);
        return nowhere();
    }
    char* place = worker_->arena() + offset;
    u8* state = &state_[offset];
    if (!all(state, bytes, WRITTEN)) {
        if (!arrived(fiber, site, number, offset, bytes, access)) return nowhere();
        std::memset(state, WRITTEN, bytes);  // what was not is reported once
    }
    if (access == COMPARE_AND_SWAP) forgive(fiber, place);
    Conflict conflict;
    if (!races_.access(arena_, offset, bytes, fiber.number, site, access, conflict))
        report_race(fiber, site, SHARED, access, bytes, s32(number), begin, place, conflict);
    return place;
}

// The variable that an access lies in; reports one that lies in none, and returns ~0.
u32 Checker::find_shared(const Fiber& fiber, u32 site, u32 offset, u32 bytes, Access access) {
    s64 nearest = -1, distance = 0;
    for (u32 v = 0; v < launch_.shared_count; ++v) {
        const Extent& variable = launch_.shared[v];
        if (holds(variable, offset, bytes)) return v;
        s64 begin = variable.offset, end = begin + variable.bytes;
        s64 away = s64(offset) < begin ? begin - s64(offset) : std::max<s64>(0, s64(offset) - end);
        if (nearest < 0 || away < distance) nearest = v, distance = away;
    }
    report(fiber, site, OUT_OF_BOUNDS, SHARED, access, bytes, s32(nearest),
           nearest < 0 ? s64(offset) : s64(s32(offset - launch_.shared[nearest].offset)));
    return ~0u;
}

// Reports bytes that are read before they were written, or touched while a copy is on its way; false
// in the latter case.
bool Checker::arrived(const Fiber& fiber, u32 site, u32 number, u32 offset, u32 bytes,
                      Access access) {
    for (u32 at = offset; at < offset + bytes; ++at) {
        if (state_[at] == WRITTEN || (state_[at] == 0 && !(access & READ))) continue;
        Finding finding{};
        finding.space = SHARED, finding.access = access, finding.bytes = bytes;
        finding.object = s32(number), finding.offset = s64(offset) - launch_.shared[number].offset;
        if (!(state_[at] & COPY_PENDING)) {
            worker_->note(fiber, site, UNINITIALISED, finding);
            return true;
        }
        for (u32 n = 0; n < worker_->threads() && !finding.has_other; ++n) {
            const Fiber& other = worker_->fiber(n);
            for (const Copy& copy : other.copies) {
                if (at < copy.target || at >= copy.target + copy.bytes) continue;
                finding.has_other = 1, finding.other_site = copy.site, finding.other_access = WRITE;
                std::copy_n(worker_->block().index, 3, finding.other_block);
                std::copy_n(other.index, 3, finding.other_thread);
            }
        }
        worker_->note(fiber, site, ASYNC_COPY, finding);
        return false;
    }
    return true;
}

// The bytes of a cp.async may arrive at any time until it was waited for, and be read as late.
bool Checker::copy_begins(const Fiber& fiber, const Copy& copy) {
    if (copy.used && global(fiber, copy.site, reinterpret_cast<u64>(copy.source), copy.used,
                            copy.bytes, READ) == nowhere_)
        return false;
    if (shared(fiber, copy.site, copy.target, copy.bytes, WRITE) == nowhere_) return false;
    std::memset(&state_[copy.target], COPY_PENDING, copy.bytes);
    return true;
}

void Checker::copy_ends(const Fiber& fiber, const Copy& copy) {
    std::memset(&state_[copy.target], WRITTEN, copy.bytes);
    if (copy.used)
        global(fiber, copy.site, reinterpret_cast<u64>(copy.source), copy.used, copy.bytes, READ);
    shared(fiber, copy.site, copy.target, copy.bytes, WRITE);
}

// ---- local memory

char* Checker::local(const Fiber& fiber, u32 site, u64 address, u32 bytes, Access access) {
    const LocalFrame* frame = fiber.frames;
    for (; frame; frame = frame->outer) {
        u64 offset = address - reinterpret_cast<u64>(frame->base);
        if (offset < frame->bytes && offset + bytes <= frame->bytes) break;
    }
    if (!frame) {
        const LocalFrame* own = nearest_frame(fiber, address);
        report(fiber, site, OUT_OF_BOUNDS, LOCAL, access, bytes, own ? s32(own->bytes) : 0,
               own ? s64(address - reinterpret_cast<u64>(own->base)) : s64(address));
        return nowhere();
    }
    if (address & (bytes - 1)) {
        report(fiber, site, MISALIGNED, LOCAL, access, bytes, -1,
               s64(address - reinterpret_cast<u64>(frame->base)));
        return nowhere();
    }
    return reinterpret_cast<char*>(address);
}

// ---- text

const char* Checker::text(const Fiber& fiber, u32 site, const char* text) {
    u64 address = reinterpret_cast<u64>(text), end = 0;
    if (const Region* region = below(address); region && region->holds(address, 1))
        end = reinterpret_cast<u64>(region->base) + region->bytes;
    for (const LocalFrame* frame = fiber.frames; frame; frame = frame->outer)
        if (address - reinterpret_cast<u64>(frame->base) < frame->bytes)
            end = reinterpret_cast<u64>(frame->base) + frame->bytes;
    u64 arena = reinterpret_cast<u64>(worker_->arena());
    if (address - arena < launch_.arena_bytes) end = arena + launch_.arena_bytes;
    if (end && std::memchr(text, 0, end - address)) return text;
    generic(fiber, site, end ? end : address, 1, READ);
    return nullptr;
}

// ---- races

void Checker::report_race(const Fiber& fiber, u32 site, Space space, Access access, u32 bytes,
                          s32 object, s64 begin, const char* address, const Conflict& conflict) {
    Finding finding{};
    finding.space = space, finding.access = access, finding.bytes = bytes;
    finding.object = object, finding.offset = s64(conflict.offset) - begin;
    finding.has_other = 1;
    finding.other_site = conflict.with.site(), finding.other_access = conflict.access;
    std::copy_n(races_.block_at(conflict.with.time), 3, finding.other_block);
    std::copy_n(worker_->fiber(conflict.with.thread()).index, 3, finding.other_thread);
    if (access == READ && conflict.access == ATOMIC)
        pending_.push_back({fiber.number, address, site, finding});
    else
        worker_->note(fiber, site, RACE, finding);
}

void Checker::forgive(const Fiber& fiber, const char* address) {
    pending_.erase(std::remove_if(pending_.begin(), pending_.end(),
                                  [&](const Pending& pending) {
                                      return pending.thread == fiber.number &&
                                             pending.address == address;
                                  }),
                   pending_.end());
}

void Checker::report_pending(const Fiber& fiber) {
    for (size_t i = 0; i < pending_.size();) {
        if (pending_[i].thread != fiber.number) {
            ++i;
            continue;
        }
        const Pending pending = pending_[i];
        pending_.erase(pending_.begin() + s64(i));
        worker_->note(fiber, pending.site, RACE, pending.finding);
    }
}

}  // namespace emulator
