// The entry point: runs a kernel over its grid.
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "checker.h"
#include "counter.h"
#include "floats.h"
#include "print.h"
#include "worker.h"

namespace emulator {

// ---- what a kernel calls

static Fiber& fiber_of(Thread* thread) { return *static_cast<Fiber*>(thread); }

static u32 on_barrier(Thread* thread, u32 site, u32 id, u32 count, u32 reduction, u32 value) {
    Fiber& fiber = fiber_of(thread);
    return fiber.worker->barrier(fiber, site, id, count, reduction, value, true);
}

static void on_arrive(Thread* thread, u32 site, u32 id, u32 count) {
    Fiber& fiber = fiber_of(thread);
    fiber.worker->barrier(fiber, site, id, count, REDUCE_NONE, 0, false);
}

static u64 on_meet(Thread* thread, u32 site, u32 operation, u32 mask, u64 value, u32 source) {
    Fiber& fiber = fiber_of(thread);
    return fiber.worker->meet(fiber, site, operation, mask, value, source);
}

static char* on_access_fast(Thread*, u32, u64, u32, u32, u32) { return nullptr; }

static char* on_access_count(Thread* thread, u32 site, u64 address, u32 bytes, u32 space,
                             u32 access) {
    Fiber& fiber = fiber_of(thread);
    fiber.worker->counter()->access(fiber, site, address, bytes, Space(space), Access(access));
    return nullptr;
}

static void on_copy(Thread* thread, u32 site, u32 target, const char* source, u32 bytes, u32 used) {
    Fiber& fiber = fiber_of(thread);
    fiber.worker->copy(fiber, {site, target, source, bytes, std::min(used, bytes), 0});
}

static void on_commit(Thread* thread) { ++fiber_of(thread).group; }

static void on_wait(Thread* thread, u32 groups, u32 uncommitted) {
    Fiber& fiber = fiber_of(thread);
    fiber.worker->wait(fiber, groups, uncommitted != 0);
}

static void on_give_way(Thread* thread) { fiber_of(thread).worker->give_way(fiber_of(thread)); }

static void on_looped(Thread* thread, u32 site) {
    fiber_of(thread).worker->looped(fiber_of(thread), site);
}

static void on_fail(Thread* thread, u32 site, u32 kind, const char* text) {
    Fiber& fiber = fiber_of(thread);
    Finding finding{};
    if (text) std::strncpy(finding.text, text, sizeof finding.text - 1);
    fiber.worker->report(fiber, site, Kind(kind), finding);
}

static void on_assertion(Thread* thread, u32 site, const char* condition, const char* file,
                         u32 line, const char* function) {
    Fiber& fiber = fiber_of(thread);
    Finding finding{};
    std::snprintf(finding.text, sizeof finding.text, "`%s` failed at %s:%u in %s", condition, file,
                  line, function);
    fiber.worker->report(fiber, site, ASSERTION, finding);
}

static u32 on_print(Thread* thread, u32 site, const char* format, const char* arguments) {
    return print(fiber_of(thread), site, format, arguments);
}

static const Runtime runtimes[3] = {
    {on_barrier, on_arrive, on_meet, on_access_fast, on_copy, on_commit, on_wait, on_give_way,
     on_looped, on_fail, on_assertion, on_print},
    {on_barrier, on_arrive, on_meet, check_access, on_copy, on_commit, on_wait, on_give_way,
     on_looped, on_fail, on_assertion, on_print},
    {on_barrier, on_arrive, on_meet, on_access_count, on_copy, on_commit, on_wait, on_give_way,
     on_looped, on_fail, on_assertion, on_print},
};

// ---- workers

// Denormals are zeros on this thread while it lives.
class Flush {
public:
    explicit Flush(bool on) : before_(control()) {
#if defined(__x86_64__)
        if (on) set_control(before_ | 0x8040);
#else
        if (on) set_control(before_ | Control(1) << 24);
#endif
    }
    ~Flush() { set_control(before_); }

private:
    Control before_;
};

// Workers are kept, for their stacks and arenas.
static std::mutex idle_lock;
static std::vector<std::unique_ptr<Worker>> idle;

static std::unique_ptr<Worker> take_worker() {
    std::lock_guard<std::mutex> guard(idle_lock);
    if (idle.empty()) return std::make_unique<Worker>();
    std::unique_ptr<Worker> worker = std::move(idle.back());
    idle.pop_back();
    return worker;
}

static void run_worker(Progress& progress, Checker* checker, Counter* counter) {
    std::unique_ptr<Worker> worker = take_worker();
    {
        Flush flush(progress.launch.flush);
        worker->run(progress, checker, counter);
    }
    std::lock_guard<std::mutex> guard(idle_lock);
    idle.push_back(std::move(worker));
}

// While it lives, Ctrl-C ends the launch; it is then passed on to who handled it before.
class Interrupts {
public:
    explicit Interrupts(bool on) : on_(on) {
        if (!on_) return;
        struct sigaction action{};
        action.sa_handler = [](int) { Progress::interrupted = true; };
        sigaction(SIGINT, &action, &before_);
    }
    ~Interrupts() {
        if (!on_) return;
        sigaction(SIGINT, &before_, nullptr);
        if (Progress::interrupted) raise(SIGINT);
        Progress::interrupted = false;
    }

private:
    bool on_;
    struct sigaction before_{};
};

static void run(const Launch& launch, Result& result) {
    std::unique_ptr<Checker> checker;
    std::unique_ptr<Counter> counter;
    if (launch.mode == CHECK) checker = std::make_unique<Checker>(launch);
    if (launch.mode == COUNT) counter = std::make_unique<Counter>(launch);
    auto address = [&](u32 buffer) {
        return checker ? checker->guards().address(buffer) : launch.buffers[buffer].address;
    };

    std::vector<u64> parameters((launch.parameter_bytes + 7) / 8 + 2);
    char* bytes = reinterpret_cast<char*>(parameters.data());
    if (reinterpret_cast<u64>(bytes) % 16) bytes += 8;
    std::memcpy(bytes, launch.parameters, launch.parameter_bytes);
    for (u32 i = 0; i < launch.pointer_count; ++i) {
        char* pointer = address(launch.pointers[i].buffer);
        std::memcpy(bytes + launch.pointers[i].offset, &pointer, sizeof pointer);
    }
    Progress progress(launch, result);
    progress.parameters = bytes;
    progress.runtime = &runtimes[launch.mode];
    for (u32 i = launch.buffer_count - launch.variable_count; i < launch.buffer_count; ++i)
        progress.variables.push_back(address(i));

    u64 workers = launch.mode == FAST ? std::min<u64>(launch.workers, progress.blocks) : 1;
    std::vector<std::thread> others;
    std::exception_ptr error;
    std::mutex error_lock;
    auto work = [&] {
        try {
            run_worker(progress, checker.get(), counter.get());
        } catch (...) {
            std::lock_guard<std::mutex> guard(error_lock);
            progress.failed = true;
            error = std::current_exception();
        }
    };
    try {
        for (u64 i = 1; i < workers; ++i) others.emplace_back(work);
    } catch (const std::system_error&) {
        // As many as the system gives.
    }
    work();
    for (std::thread& other : others) other.join();
    if (error) std::rethrow_exception(error);
    if (checker) checker->copy_back();
    if (!progress.printed.empty()) {
        result.printed = static_cast<char*>(std::malloc(progress.printed.size()));
        if (!result.printed) throw std::bad_alloc();
        result.printed_bytes = progress.printed.size();
        std::memcpy(result.printed, progress.printed.data(), progress.printed.size());
    }
}

}  // namespace emulator

// 0 if it ran, 1 if something was found, 2 if memory ran out.
extern "C" __attribute__((visibility("default"))) int emulator_launch(
    const emulator::Launch* launch, emulator::Result* result) {
    using namespace emulator;
    try {
        Interrupts interrupts(launch->interruptible);
        run(*launch, *result);
    } catch (const std::bad_alloc&) {
        return 2;
    }
    return result->count ? 1 : 0;
}

extern "C" __attribute__((visibility("default"))) void emulator_free(char* printed) {
    std::free(printed);
}
