// A worker runs blocks, one after another, on one thread of the host. A block's threads are fibers.
#pragma once
#include <atomic>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "abi.h"

namespace emulator {

class Checker;
class Counter;
class Worker;

// A cp.async on its way. Its bytes arrive when the thread waits for them, not before.
struct Copy {
    u32 site, target;
    const char* source;
    u32 bytes, used, group;
};

enum class State : u8 { READY, AT_BARRIER, IN_WARP, DONE };

struct Fiber : Thread {
    Worker* worker = nullptr;
    void* stack = nullptr;  // where it goes on
    u32 number = 0;  // in its block
    State state = State::READY;
    u32 site = 0;  // of the instruction it waits at
    u32 barrier = 0;  // that it waits at
    u32 operation = 0, mask = 0, source = 0;  // of the warp that it waits in
    u64 value = 0, result = 0;
    std::vector<Copy> copies;
    u32 group = 0;  // of its next cp.async
    u32 accesses = 0;  // since it last gave way (count mode)
    u32 loops = 0;  // times LOOPS that it went back to the beginning of a loop
};

struct Warp {
    u32 existing, exited, waiting;  // lanes
};

struct Barrier {
    u32 arrived, expected, site;
    u32 all, any, count;  // of the predicates that came with the threads
    bool whole;  // it waits for all threads of the block, whatever their number
    bool mixed;  // the threads are not all at the same instruction
};

// What the workers of a launch share.
struct Progress {
    Progress(const Launch& l, Result& r);

    const Launch& launch;
    Result& result;
    const char* parameters;
    std::vector<char*> variables;
    const Runtime* runtime;
    u64 blocks, step, start;  // the n-th block to run is step * n + start
    std::atomic<u64> next{0};
    std::atomic<bool> failed{false};
    std::mutex lock;  // of the result and what was printed
    std::string printed;
    static std::atomic<bool> interrupted;

    // Whether more findings are wanted.
    bool record(const Finding& finding);
    // Ctrl-C ends the launch that takes it; those of other threads of Python go on.
    bool cut_short() const { return launch.interruptible && interrupted; }
};

class Worker {
public:
    Worker() = default;
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    // Runs blocks until none is left or one has failed.
    void run(Progress& progress, Checker* checker, Counter* counter);

    // What a thread of the kernel may ask.
    u32 barrier(Fiber&, u32 site, u32 id, u32 count, u32 reduction, u32 value, bool wait);
    u64 meet(Fiber&, u32 site, u32 operation, u32 mask, u64 value, u32 source);
    void give_way(Fiber& fiber);
    void looped(Fiber&, u32 site);
    void copy(Fiber&, const Copy&);
    void wait(Fiber&, u32 groups, bool uncommitted);
    // Records a finding after which the thread can go on; leaves the block for good if it was the
    // last that was asked for.
    void note(const Fiber&, u32 site, Kind kind, const Finding& finding);
    // Records a finding and leaves the block for good.
    [[noreturn]] void report(const Fiber&, u32 site, Kind kind, const Finding& finding);

    Checker* checker() const { return checker_; }
    Progress& progress() const { return *progress_; }
    Counter* counter() const { return counter_; }
    const Launch& launch() const { return progress_->launch; }
    const Block& block() const { return block_; }
    char* arena() const { return block_.shared; }
    u32 threads() const { return threads_; }
    Fiber& fiber(u32 number) { return fibers_[number]; }

private:
    static void start(void* fiber);
    static void start_all(void* worker);
    void run_block(u64 linear);
    void finish(Fiber&);
    void suspend(Fiber&);
    Fiber* next();
    void resume(Fiber& fiber) { fiber.state = State::READY, ++ready_; }
    void complete(u32 id);
    bool complete_warp(Fiber&);
    [[noreturn]] void report_stuck();
    [[noreturn]] void leave();

    Progress* progress_ = nullptr;
    Checker* checker_ = nullptr;
    Counter* counter_ = nullptr;
    Block block_{};
    u32 threads_ = 0, live_ = 0, ready_ = 0, cursor_ = 0;
    std::vector<Fiber> fibers_;
    std::vector<u32> order_;
    std::vector<Warp> warps_;
    Barrier barriers_[16];
    std::minstd_rand random_;
    void* main_ = nullptr;  // the stack of run()
    char *stacks_ = nullptr, *arena_ = nullptr;
    u64 stacks_bytes_ = 0, arena_bytes_ = 0, stride_ = 0;
};

// Memory of zeros straight from the system, taken as it is touched; throws std::bad_alloc.
char* map_memory(u64 bytes);
void unmap_memory(char* address, u64 bytes);

}  // namespace emulator
