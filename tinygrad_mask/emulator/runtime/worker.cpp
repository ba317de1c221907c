#include "worker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "checker.h"
#include "counter.h"
#include "fiber.h"

namespace emulator {

char* map_memory(u64 bytes) {
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) throw std::bad_alloc();
    return static_cast<char*>(address);
}

void unmap_memory(char* address, u64 bytes) {
    if (address) munmap(address, bytes);
}

std::atomic<bool> Progress::interrupted{false};

Progress::Progress(const Launch& l, Result& r)
    : launch(l), result(r), parameters(l.parameters), runtime(nullptr) {
    blocks = u64(l.grid[0]) * l.grid[1] * l.grid[2];
    step = 1, start = 0;
    if (l.order == REVERSE) step = blocks - 1, start = blocks - 1;
    if (l.order == RANDOM) {
        std::mt19937_64 random(l.seed);
        do step = random() % blocks;
        while (std::gcd(step, blocks) != 1);
        start = random() % blocks;
    }
}

bool Progress::record(const Finding& finding) {
    std::lock_guard<std::mutex> guard(lock);
    if (failed) return false;
    const Finding *begin = result.findings, *end = begin + result.count;
    bool known = std::any_of(begin, end, [&](const Finding& f) {
        return f.kind == finding.kind && f.site == finding.site;
    });
    if (!known) result.findings[result.count++] = finding;
    return result.count < result.limit;
}

Worker::~Worker() {
    unmap_memory(stacks_, stacks_bytes_);
    unmap_memory(arena_, arena_bytes_);
}

void Worker::run(Progress& progress, Checker* checker, Counter* counter) {
    progress_ = &progress, checker_ = checker, counter_ = counter;
    const Launch& launch = progress.launch;
    threads_ = launch.block[0] * launch.block[1] * launch.block[2];
    // An odd multiple of a cache line, lest the tops of all stacks fall into the same sets.
    stride_ = (u64(launch.stack_bytes) + 4095) / 4096 * 4096 + 192;
    u64 stacks = stride_ * (launch.suspends ? threads_ : 1);
    if (stacks > stacks_bytes_) {
        unmap_memory(stacks_, stacks_bytes_);
        stacks_ = nullptr, stacks_bytes_ = 0;
        stacks_ = map_memory(stacks), stacks_bytes_ = stacks;
    }
    if (launch.arena_bytes > arena_bytes_) {
        unmap_memory(arena_, arena_bytes_);
        arena_ = nullptr, arena_bytes_ = 0;
        arena_ = map_memory(launch.arena_bytes), arena_bytes_ = launch.arena_bytes;
    }
    block_ = {};
    std::copy_n(launch.block, 3, block_.size);
    std::copy_n(launch.grid, 3, block_.grid);
    block_.dynamic_bytes = launch.dynamic_bytes, block_.shared_bytes = launch.arena_bytes;
    block_.shared = arena_;
    block_.parameters = progress.parameters;
    block_.variables = progress.variables.data();
    block_.runtime = progress.runtime;
    block_.counters = launch.counters;
    if (fibers_.size() < threads_) fibers_.resize(threads_);
    warps_.resize((threads_ + 31) / 32);
    for (u32 i = 0; i < threads_; ++i) {
        Fiber& fiber = fibers_[i];
        fiber.block = &block_;
        fiber.index[0] = i % launch.block[0];
        fiber.index[1] = i / launch.block[0] % launch.block[1];
        fiber.index[2] = i / launch.block[0] / launch.block[1];
        fiber.lane = i % 32, fiber.warp = i / 32;
        fiber.worker = this, fiber.number = i;
    }
    order_.resize(threads_);
    std::iota(order_.begin(), order_.end(), 0u);
    if (launch.order == REVERSE) std::reverse(order_.begin(), order_.end());
    for (u64 n;
         !progress.failed && !progress.cut_short() && (n = progress.next++) < progress.blocks;) {
        unsigned __int128 wide = static_cast<unsigned __int128>(progress.step) * n + progress.start;
        run_block(u64(wide % progress.blocks));
    }
}

void Worker::run_block(u64 linear) {
    const Launch& launch = this->launch();
    block_.index[0] = u32(linear % launch.grid[0]);
    block_.index[1] = u32(linear / launch.grid[0] % launch.grid[1]);
    block_.index[2] = u32(linear / launch.grid[0] / launch.grid[1]);
    live_ = ready_ = threads_, cursor_ = 0;
    std::memset(barriers_, 0, sizeof barriers_);
    if (launch.arena_bytes) std::memset(arena_, 0xff, launch.arena_bytes);  // NaN in every type
    for (u32 w = 0; w < warps_.size(); ++w) {
        u32 lanes = std::min(32u, threads_ - 32 * w);
        warps_[w] = {lanes == 32 ? ~0u : (1u << lanes) - 1, 0, 0};
    }
    if (launch.order == RANDOM) {
        random_.seed(launch.seed * 7919 + u32(linear) + 1);
        std::shuffle(order_.begin(), order_.end(), random_);
    }
    for (u32 i = 0; i < threads_; ++i) {
        Fiber& fiber = fibers_[i];
        fiber.frames = nullptr, fiber.state = State::READY;
        fiber.group = fiber.accesses = fiber.loops = 0;
        fiber.copies.clear();
    }
    if (checker_) checker_->begin_block(*this);
    if (launch.suspends) {
        for (u32 i = 0; i < threads_; ++i)
            fibers_[i].stack = prepare_stack(stacks_ + i * stride_, stride_, start, &fibers_[i]);
        emulator_switch(&main_, next()->stack);
    } else {
        emulator_switch(&main_, prepare_stack(stacks_, stride_, start_all, this));
    }
    if (counter_) counter_->end_block();
}

void Worker::start(void* argument) {
    Fiber& fiber = *static_cast<Fiber*>(argument);
    fiber.worker->launch().entry(&fiber);
    fiber.worker->finish(fiber);
}

// Threads that never wait need no stack of their own.
void Worker::start_all(void* argument) {
    Worker& worker = *static_cast<Worker*>(argument);
    auto entry = worker.launch().entry;
    for (u32 number : worker.order_) {
        entry(&worker.fibers_[number]);
        if (worker.checker_) worker.checker_->settle(worker.fibers_[number]);
    }
    void* unused;
    emulator_switch(&unused, worker.main_);
}

Fiber* Worker::next() {
    if (!ready_) return nullptr;
    for (;;) {
        for (; cursor_ < threads_; ++cursor_) {
            Fiber& fiber = fibers_[order_[cursor_]];
            if (fiber.state == State::READY) {
                ++cursor_;
                return &fiber;
            }
        }
        cursor_ = 0;
        if (launch().order == RANDOM) std::shuffle(order_.begin(), order_.end(), random_);
    }
}

void Worker::suspend(Fiber& fiber) {
    Fiber* other = next();
    if (!other) report_stuck();
    if (other != &fiber) emulator_switch(&fiber.stack, other->stack);
}

void Worker::finish(Fiber& fiber) {
    if (checker_) checker_->settle(fiber);
    fiber.state = State::DONE;
    --ready_, --live_;
    Warp& warp = warps_[fiber.warp];
    warp.exited |= 1u << fiber.lane;
    // Lanes may be waiting for this one.
    for (u32 waiting = warp.waiting; waiting; waiting &= waiting - 1) {
        Fiber& other = fibers_[32 * fiber.warp + u32(__builtin_ctz(waiting))];
        if (!(other.mask >> fiber.lane & 1) || other.state != State::IN_WARP) continue;
        complete_warp(other);
    }
    if (Fiber* other = next()) emulator_switch(&fiber.stack, other->stack);
    if (live_) report_stuck();
    emulator_switch(&fiber.stack, main_);
    __builtin_unreachable();
}

void Worker::note(const Fiber& fiber, u32 site, Kind kind, const Finding& found) {
    Finding finding = found;
    finding.kind = kind, finding.site = site;
    std::copy_n(block_.index, 3, finding.block);
    std::copy_n(fiber.index, 3, finding.thread);
    if (!progress_->record(finding)) leave();
}

void Worker::report(const Fiber& fiber, u32 site, Kind kind, const Finding& finding) {
    note(fiber, site, kind, finding);
    leave();
}

void Worker::leave() {
    progress_->failed = true;
    void* unused;
    emulator_switch(&unused, main_);
    __builtin_unreachable();
}

void Worker::give_way(Fiber& fiber) {
    if (launch().suspends) suspend(fiber);
}

// Lets others go on, one of which it may wait for; ends what goes on for ever, or was interrupted.
void Worker::looped(Fiber& fiber, u32 site) {
    const u64 endless = launch().mode == FAST ? u64(1) << 31 : u64(1) << 26;
    Finding finding{};
    finding.offset = s64(++fiber.loops) * LOOPS;
    if (u64(finding.offset) >= endless || progress_->cut_short())
        report(fiber, site, ENDLESS_LOOP, finding);
    give_way(fiber);
}

// ---- barriers

u32 Worker::barrier(Fiber& fiber, u32 site, u32 id, u32 count, u32 reduction, u32 value,
                    bool wait) {
    if (checker_) checker_->settle(fiber);
    Finding finding{};
    u32 expected = count ? count : threads_;
    if (id >= 16 || count % 32 || expected > (threads_ + 31) / 32 * 32) {
        std::strcpy(finding.text, id >= 16 ? "there are 16 barriers, 0 to 15"
                                           : "the number of threads that a barrier waits for is a "
                                             "multiple of 32 and at most the block's");
        report(fiber, site, DIVERGENT_BARRIER, finding);
    }
    expected = std::min(expected, threads_);
    Barrier& barrier = barriers_[id];
    if (!barrier.arrived) {
        barrier = {0, expected, site, 1, 0, 0, count == 0, false};
    } else if (barrier.expected != expected || barrier.whole != (count == 0)) {
        finding.has_other = 1, finding.other_site = barrier.site;
        std::strcpy(
            finding.text,
            "threads come to the same barrier with different numbers of threads to wait for");
        report(fiber, site, DIVERGENT_BARRIER, finding);
    }
    ++barrier.arrived;
    barrier.mixed |= barrier.site != site;
    barrier.all &= value, barrier.any |= value, barrier.count += value;
    if (checker_ && count) checker_->races().arrive(fiber.number, id);
    if (wait) fiber.state = State::AT_BARRIER, fiber.barrier = id, fiber.site = site, --ready_;
    if (barrier.arrived == barrier.expected) complete(id);
    if (!wait) return 0;
    suspend(fiber);
    return reduction == REDUCE_AND  ? u32(fiber.result & 1)
           : reduction == REDUCE_OR ? u32(fiber.result >> 1 & 1)
                                    : u32(fiber.result >> 2);
}

void Worker::complete(u32 id) {
    Barrier& barrier = barriers_[id];
    if (barrier.whole && barrier.mixed) report_stuck();
    u64 result = u64(barrier.count) << 2 | barrier.any << 1 | barrier.all;
    for (u32 i = 0; i < threads_; ++i) {
        Fiber& fiber = fibers_[i];
        if (fiber.state != State::AT_BARRIER || fiber.barrier != id) continue;
        fiber.result = result;
        resume(fiber);
        if (checker_ && !barrier.whole) checker_->races().depart(fiber.number, id);
    }
    barrier.arrived = 0;
    if (barrier.whole && checker_) checker_->races().synchronise();
    if (barrier.whole && counter_) counter_->synchronise();
    cursor_ = 0;
}

// ---- warps

u64 Worker::meet(Fiber& fiber, u32 site, u32 operation, u32 mask, u64 value, u32 source) {
    Warp& warp = warps_[fiber.warp];
    fiber.site = site, fiber.operation = operation, fiber.mask = mask;
    fiber.value = value, fiber.source = source;
    if (!(mask >> fiber.lane & 1)) {
        Finding finding{};
        finding.mask = mask, finding.lane = fiber.lane;
        std::strcpy(finding.text, "the lane is not in its own mask");
        report(fiber, site, WARP_MASK, finding);
    }
    if (checker_ && (mask & ~warp.existing)) {
        Finding finding{};
        finding.mask = mask, finding.other_mask = mask & ~warp.existing;
        std::strcpy(finding.text, "the mask names lanes that the block does not have");
        note(fiber, site, WARP_MASK, finding);
    }
    if (checker_ && operation == WARP_SYNC) checker_->settle(fiber);
    fiber.state = State::IN_WARP, --ready_;
    warp.waiting |= 1u << fiber.lane;
    if (!complete_warp(fiber)) suspend(fiber);
    return fiber.result;
}

// If all lanes that `fiber` waits for are there, gives each its result and lets all go on.
bool Worker::complete_warp(Fiber& fiber) {
    Warp& warp = warps_[fiber.warp];
    u32 lanes = fiber.mask & warp.existing & ~warp.exited;
    if (lanes & ~warp.waiting) return false;
    Fiber* lane = &fibers_[32 * fiber.warp];
    u64 votes = 0;
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        Fiber& other = lane[__builtin_ctz(rest)];
        if (other.mask != fiber.mask) return false;
        if (other.site != fiber.site) {
            Finding finding{};
            finding.has_other = 1, finding.other_site = other.site, finding.mask = fiber.mask;
            std::copy_n(block_.index, 3, finding.other_block);
            std::copy_n(other.index, 3, finding.other_thread);
            std::strcpy(finding.text, "lanes of one mask are at different instructions");
            report(fiber, fiber.site, DIVERGENT_WARP, finding);
        }
        votes |= (other.value & 1) << other.lane;
    }
    u64 reduced = lane[__builtin_ctz(lanes)].value;
    for (u32 rest = fiber.operation < WARP_ADD ? 0 : lanes & (lanes - 1); rest; rest &= rest - 1) {
        u64 value = lane[__builtin_ctz(rest)].value;
        switch (fiber.operation) {
            case WARP_ADD: reduced += value; break;
            case WARP_AND: reduced &= value; break;
            case WARP_OR: reduced |= value; break;
            case WARP_XOR: reduced ^= value; break;
            case WARP_MIN: reduced = std::min(reduced, value); break;
            case WARP_MAX: reduced = std::max(reduced, value); break;
            case WARP_MIN_SIGNED: reduced = u64(std::min(s64(reduced), s64(value))); break;
            case WARP_MAX_SIGNED: reduced = u64(std::max(s64(reduced), s64(value))); break;
            default: break;
        }
    }
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        Fiber& other = lane[__builtin_ctz(rest)];
        switch (other.operation) {
            // What a lane that does not take part holds is undefined: all ones.
            case WARP_SHUFFLE:
                other.result = lanes >> other.source & 1 ? lane[other.source].value : ~u64(0);
                break;
            // Lanes that have returned take no part in it; the upper half says which do.
            case WARP_BALLOT: other.result = votes | u64(lanes) << 32; break;
            case WARP_MATCH:
                other.result = u64(lanes) << 32;
                for (u32 all = lanes; all; all &= all - 1)
                    if (lane[__builtin_ctz(all)].value == other.value) other.result |= all & -all;
                break;
            default: other.result = reduced; break;
        }
    }
    if (checker_ && fiber.operation == WARP_SYNC)
        checker_->races().synchronise(32 * fiber.warp, lanes);
    for (u32 rest = lanes; rest; rest &= rest - 1) resume(lane[__builtin_ctz(rest)]);
    warp.waiting &= ~lanes;
    return true;
}

// No thread can go on.
void Worker::report_stuck() {
    Finding finding{};
    finding.threads = threads_, finding.exited = threads_ - live_;
    const Fiber *at_barrier = nullptr, *in_warp = nullptr;
    for (u32 i = 0; i < threads_; ++i) {
        const Fiber& fiber = fibers_[i];
        if (fiber.state == State::IN_WARP) {
            ++finding.in_warp;
            if (!in_warp) in_warp = &fiber;
        }
        if (fiber.state == State::AT_BARRIER) {
            if (!at_barrier) at_barrier = &fiber;
            if (fiber.site == at_barrier->site) {
                ++finding.waiting;
            } else {
                ++finding.elsewhere;
                if (!finding.has_other) {
                    finding.has_other = 1, finding.other_site = fiber.site;
                    std::copy_n(block_.index, 3, finding.other_block);
                    std::copy_n(fiber.index, 3, finding.other_thread);
                }
            }
        }
    }
    if (!in_warp) report(*at_barrier, at_barrier->site, DIVERGENT_BARRIER, finding);
    for (u32 lane = 0; lane < 32 && 32 * in_warp->warp + lane < threads_; ++lane) {
        const Fiber& other = fibers_[32 * in_warp->warp + lane];
        if (!(in_warp->mask >> lane & 1) || other.state != State::IN_WARP ||
            other.mask == in_warp->mask)
            continue;
        finding.mask = in_warp->mask, finding.other_mask = other.mask;
        finding.has_other = 1, finding.other_site = other.site;
        std::copy_n(block_.index, 3, finding.other_block);
        std::copy_n(other.index, 3, finding.other_thread);
        std::strcpy(finding.text, "lanes meet with different masks");
        report(*in_warp, in_warp->site, WARP_MASK, finding);
    }
    const Warp& warp = warps_[in_warp->warp];
    finding.mask = in_warp->mask;
    finding.other_mask = in_warp->mask & warp.existing & ~warp.waiting & ~warp.exited;
    report(*in_warp, in_warp->site, DIVERGENT_WARP, finding);
}

// ---- cp.async

void Worker::copy(Fiber& fiber, const Copy& copy) {
    if (checker_ && !checker_->copy_begins(fiber, copy)) return;
    fiber.copies.push_back(copy);
    fiber.copies.back().group = fiber.group;
}

void Worker::wait(Fiber& fiber, u32 groups, bool uncommitted) {
    auto arrives = [&](const Copy& copy) {
        return uncommitted || copy.group + groups < fiber.group;
    };
    for (const Copy& copy : fiber.copies) {
        if (!arrives(copy)) continue;
        if (checker_) checker_->copy_ends(fiber, copy);
        std::memcpy(arena_ + copy.target, copy.source, copy.used);
        std::memset(arena_ + copy.target + copy.used, 0, copy.bytes - copy.used);
    }
    fiber.copies.erase(std::remove_if(fiber.copies.begin(), fiber.copies.end(), arrives),
                       fiber.copies.end());
}

}  // namespace emulator
