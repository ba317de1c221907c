#include "parallel.h"

#include <pthread.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

std::atomic<int> num_threads{1};

#ifdef _OPENMP

// The pool of threads that OpenMP keeps does not live on in a forked child, but the thread that
// forked remembers it and would wait for it for ever. A thread that is new in the child starts a
// pool of its own.
thread_local bool pool_lost = false;

[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { pool_lost = true; });

void run_openmp(int threads, const std::function<void(int, int)>& body) {
    std::exception_ptr failure;
    std::mutex failing;
#pragma omp parallel num_threads(threads)
    {
        try {
            body(omp_get_thread_num(), omp_get_num_threads());
        } catch (...) {  // none may leave the parallel region
            std::lock_guard<std::mutex> lock(failing);
            failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
}

#endif

// Run body(thread, threads) on `threads` threads at once and return when all are done.
void run_parallel(int threads, const std::function<void(int, int)>& body) {
#ifdef _OPENMP
    if (threads > 1) {
        if (!pool_lost) return run_openmp(threads, body);
        std::exception_ptr failure;
        std::thread fresh([&] {
            try {
                run_openmp(threads, body);
            } catch (...) {
                failure = std::current_exception();
            }
        });
        fresh.join();
        if (failure) std::rethrow_exception(failure);
        return;
    }
#endif
    body(0, 1);
}

}  // namespace

void set_num_threads(int count) { num_threads = std::max(count, 1); }

int get_num_threads() { return num_threads; }

void for_each_task(long count, int threads, const std::function<void(long)>& body) {
    threads = int(std::min<long>(count, threads));
    if (threads <= 1) {
        for (long index = 0; index < count; index++) body(index);
        return;
    }
    std::atomic<long> next{0};
    run_parallel(threads, [&](int, int) {
        for (long index; (index = next++) < count;) body(index);
    });
}

void for_each_range(long count, long grain, const std::function<void(long, long)>& body) {
    long parts = std::clamp<long>(count / std::max<long>(grain, 1), 1, num_threads);
    run_parallel(int(parts), [&](int part, int actual) {
        body(part_begin(count, part, actual), part_begin(count, part + 1, actual));
    });
}
