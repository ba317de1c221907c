#include "parallel.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace {

std::atomic<int> num_threads{1};
thread_local bool alone = false;

// Let the processor rest for some cycles, and the other thread of its core go on.
inline void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Wait for something that will soon be there; false if it is not after a while. (Who yields or sleeps
// in between comes back late: the kernels of a network follow on each other within microseconds.)
template <class Condition>
bool spin_until(const Condition& condition) {
    constexpr std::chrono::milliseconds most{3};
    const auto end = std::chrono::steady_clock::now() + most;
    do {
        for (int round = 0; round < 50; round++) {
            if (condition()) return true;
            pause_briefly();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

// Lock what nobody holds for long: to sleep until it is free would take longer.
std::unique_lock<std::mutex> lock_soon(std::mutex& mutex) {
    for (int round = 0; round < 1000; round++) {
        std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
        if (lock) return lock;
        pause_briefly();
    }
    return std::unique_lock<std::mutex>(mutex);
}

// Tasks that a thread, the job's own, wants to have done, and waits for. Each thread begins with a share
// of them that is the same in every job of as many tasks, since the images or rows that it had before are
// still in its caches, and goes on with what is left of the others'.
class Job {
    struct alignas(64) Share {  // a cache line each: threads write them all the time
        std::atomic<long> next;
        long end;
    };
    static constexpr int most_shares = 16;
    Share shares[most_shares];
    const int share_count;
    const std::function<void(long)>& body;
    std::mutex failing;

  public:
    int places;                   // for how many other threads
    std::atomic<int> helping{0};  // other threads that are at work on it
    std::exception_ptr failure;

    Job(const std::function<void(long)>& tasks, long count, int threads)
        : share_count(std::min(threads, most_shares)), body(tasks), places(threads - 1) {
        for (int k = 0; k < share_count; k++) {
            shares[k].next = part_begin(count, k, share_count);
            shares[k].end = part_begin(count, k + 1, share_count);
        }
    }

    // As the thread of this number; the job's own is 0.
    void work(int thread) {
        try {
            for (int k = 0; k < share_count; k++) {
                Share& share = shares[(thread + k) % share_count];
                for (long index; (index = share.next++) < share.end;) body(index);
            }
        } catch (...) {
            std::lock_guard<std::mutex> lock(failing);
            failure = std::current_exception();
            for (int k = 0; k < share_count; k++) shares[k].next = shares[k].end;
        }
    }
};

// Threads that help others with their jobs. A job's own thread takes tasks as all others do, and waits
// only for those who have taken one: where the other processors are busy with something else it does
// all of them itself, while OpenMP would wait for every thread to come and say that it is done.
//
// A pool is never destroyed, for its threads may outlive whatever would do that.
class Pool {
    std::mutex mutex;  // of all that follows
    std::condition_variable wake;
    std::vector<Job*> jobs;
    int threads = 0, asleep = 0;
    std::atomic<long> posted{0};  // how many jobs there have been; may be read without the lock

    Job* find() {
        for (Job* job : jobs)
            if (job->places > 0) {
                job->places--;
                job->helping++;
                return job;
            }
        return nullptr;
    }

    void serve(int thread) {
        for (;;) {
            auto lock = lock_soon(mutex);
            const long seen = posted;
            const auto more = [&] { return posted != seen; };
            if (Job* job = find()) {
                lock.unlock();
                job->work(thread);
                job->helping--;  // from here on the job may be gone
                continue;
            }
            lock.unlock();
            if (spin_until(more)) continue;
            lock.lock();
            asleep++;
            wake.wait(lock, more);
            asleep--;
        }
    }

    void start_threads(int wanted) {
        try {
            for (; threads < wanted; threads++)
                std::thread([this, thread = threads + 1] { serve(thread); }).detach();
        } catch (const std::system_error&) {
            // No more of them are to be had: fewer will do.
        }
    }

  public:
    // Have a job done, by this thread and those that come in time.
    void run(Job& job) {
        {
            const auto lock = lock_soon(mutex);
            start_threads(job.places);
            jobs.push_back(&job);
            posted++;
            for (int k = std::min(job.places, asleep); k > 0; k--) wake.notify_one();
        }
        job.work(0);
        {
            const auto lock = lock_soon(mutex);
            jobs.erase(std::find(jobs.begin(), jobs.end(), &job));
        }
        while (!spin_until([&] { return job.helping == 0; })) std::this_thread::yield();
        if (job.failure) std::rethrow_exception(job.failure);
    }
};

std::atomic<Pool*> pool{nullptr};

// The threads of a pool do not live on in a forked child, and its lock may be anybody's: the child
// leaves it alone and starts one of its own.
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { pool = nullptr; });

Pool& the_pool() {
    Pool* found = pool;
    if (!found) {
        Pool* fresh = new Pool;
        if (pool.compare_exchange_strong(found, fresh)) return *fresh;
        delete fresh;  // another thread was faster
    }
    return *found;
}

}  // namespace

void set_num_threads(int count) { num_threads = std::max(count, 1); }

int get_num_threads() { return alone ? 1 : num_threads.load(); }

Alone::Alone() : before_(alone) { alone = true; }
Alone::~Alone() { alone = before_; }

void for_each_task(long count, int threads, const std::function<void(long)>& body) {
    threads = alone ? 1 : int(std::min<long>(count, threads));
    if (threads <= 1) {
        for (long index = 0; index < count; index++) body(index);
        return;
    }
    Job job(body, count, threads);
    the_pool().run(job);
}

void for_each_range(long count, long grain, const std::function<void(long, long)>& body) {
    const long grains = count / std::max<long>(grain, 1);
    const int threads = int(std::clamp<long>(grains, 1, get_num_threads()));
    if (threads == 1) return body(0, count);
    // More parts than threads, so that one which is held up leaves the rest to the others, and as many
    // for each.
    const long parts = std::clamp<long>(grains / 4 / threads, 1, 8) * threads;
    for_each_task(parts, threads, [&](long part) {
        body(part_begin(count, part, parts), part_begin(count, part + 1, parts));
    });
}
