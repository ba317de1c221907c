#include "counter.h"

#include <algorithm>

namespace emulator {

Counter::Counter(const Launch& launch)
    : launch_(launch),
      threads_(launch.block[0] * launch.block[1] * launch.block[2]),
      sites_(launch.site_count) {
    for (u32 i = 0; i < launch.buffer_count; ++i)
        sectors_.emplace_back(launch.buffers[i].bytes / 32 + 2);
}

Counter::~Counter() {
    for (const std::vector<u8>& sectors : sectors_)
        for (u8 touched : sectors) {
            if (touched & READ) ++launch_.sectors[0];
            if (touched & WRITE) ++launch_.sectors[1];
        }
}

u64 Counter::touch(Site& site, u64 address, u32 bytes, Access access) {
    for (u32 i = 0; i < launch_.buffer_count; ++i) {
        u32 number = (site.buffer + i) % launch_.buffer_count;
        const Buffer& buffer = launch_.buffers[number];
        u64 offset = address - reinterpret_cast<u64>(buffer.address);
        if (offset >= buffer.bytes) continue;
        site.buffer = number;
        u64 first = buffer.misalignment % 32 + offset, last = first + bytes - 1;
        for (u64 sector = first / 32; sector <= last / 32 && sector < sectors_[number].size();
             ++sector)
            sectors_[number][sector] |= access & (READ | WRITE);
        return (u64(number + 1) << 48) + buffer.misalignment + offset;
    }
    return address;
}

void Counter::access(Fiber& fiber, u32 number, u64 address, u32 bytes, Space space, Access access) {
    u64 arena = reinterpret_cast<u64>(fiber.worker->arena());
    if (space == GENERIC && address - arena < launch_.arena_bytes) space = SHARED, address -= arena;
    for (const LocalFrame* frame = fiber.frames; space == GENERIC && frame; frame = frame->outer)
        if (address - reinterpret_cast<u64>(frame->base) < frame->bytes) space = LOCAL;
    if (space == LOCAL || space == CONSTANT) return;
    Site& site = sites_[number];
    if (bytes > site.bytes) site.bytes = bytes;
    if (site.visits.empty()) {
        site.shared = space == SHARED;
        launch_.memory[number].shared = site.shared;
        site.visits.resize(threads_);
        site.open.resize((threads_ + 31) / 32);
    }
    Open& open = site.open[fiber.warp];
    u32 nth = site.visits[fiber.number]++ - open.first;
    if (nth >= open.requests.size()) open.requests.resize(nth + 1);
    Request& request = open.requests[nth];
    request.came |= 1u << fiber.lane;
    if (bytes) {
        request.address[fiber.lane] = site.shared ? address : touch(site, address, bytes, access);
        request.bytes[fiber.lane] = u8(bytes);
        request.lanes |= 1u << fiber.lane;
    }
    if (request.came == ~0u && nth == 0) {  // all lanes have come to the oldest
        MemoryCount& count = launch_.memory[number];
        size_t done = 0;
        for (; done < open.requests.size() && open.requests[done].came == ~0u; ++done)
            close(site, open.requests[done], count);
        open.requests.erase(open.requests.begin(), open.requests.begin() + long(done));
        open.first += u32(done);
    }
    if (++fiber.accesses % launch_.warp_accesses == 0) fiber.worker->give_way(fiber);
}

void Counter::synchronise() {
    for (u32 i = 0; i < sites_.size(); ++i) {
        Site& site = sites_[i];
        std::fill(site.visits.begin(), site.visits.end(), 0u);
        for (Open& open : site.open) {
            for (const Request& request : open.requests) close(site, request, launch_.memory[i]);
            open.requests.clear();
            open.first = 0;
        }
    }
}

void Counter::close(const Site& site, const Request& request, MemoryCount& count) const {
    struct Asked {
        u64 begin, end;
    } asked[32];
    u32 lanes = 0;
    for (u32 rest = request.lanes; rest; rest &= rest - 1) {
        u32 lane = u32(__builtin_ctz(rest));
        asked[lanes++] = {request.address[lane], request.address[lane] + request.bytes[lane]};
        count.bytes += request.bytes[lane];
    }
    if (!lanes) return;
    ++count.requests;
    if (!site.shared) {
        std::sort(asked, asked + lanes,
                  [](const Asked& a, const Asked& b) { return a.begin < b.begin; });
        u64 next_byte = 0, next_sector = 0, distinct = 0;  // the first not counted yet
        for (u32 i = 0; i < lanes; ++i) {
            u64 first = std::max(next_byte, asked[i].begin),
                sector = std::max(next_sector, asked[i].begin / 32);
            if (asked[i].end > first) distinct += asked[i].end - first;
            if ((asked[i].end + 31) / 32 > sector) count.moved += (asked[i].end + 31) / 32 - sector;
            next_byte = std::max(next_byte, asked[i].end),
            next_sector = std::max(next_sector, (asked[i].end + 31) / 32);
        }
        count.fewest += (distinct + 31) / 32;
        return;
    }
    // 32 banks of 4 bytes; 8- and 16-byte accesses go by half and by quarter warps. Lanes that ask
    // for the same word are served together.
    u32 parts = site.bytes <= 4 ? 1 : site.bytes / 4, lanes_a_part = 32 / parts;
    for (u32 part = 0; part < parts; ++part) {
        u64 words[64];
        u32 n = 0;
        for (u32 lane = part * lanes_a_part; lane < (part + 1) * lanes_a_part; ++lane) {
            if (!(request.lanes >> lane & 1)) continue;
            u64 address = request.address[lane];
            for (u64 word = address / 4; word <= (address + request.bytes[lane] - 1) / 4; ++word)
                words[n++] = word;
        }
        if (!n) continue;
        std::sort(words, words + n);
        n = u32(std::unique(words, words + n) - words);
        u32 banks[32] = {}, passes = 0;
        for (u32 i = 0; i < n; ++i) passes = std::max(passes, ++banks[words[i] % 32]);
        count.moved += passes;
        count.fewest += 1;
    }
}

}  // namespace emulator
