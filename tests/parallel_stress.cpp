// Several callers hand tasks and ranges to the pool of kernels/cpu/parallel.cpp at once, some from
// within a task and some that fail; every index must be met once. .ci/sanitize compiles it with
// ThreadSanitizer, which finds what is not ordered even where it goes well.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "parallel.h"

namespace {

void expect(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "parallel_stress: %s\n", what);
    std::exit(1);
}

// What is written is not atomic: tasks that were not ordered before the return would be a race.
void count_up(std::vector<int>& met) {
    for_each_task(long(met.size()), [&](long index) { met[index]++; });
    for_each_range(long(met.size()), 3, [&](long begin, long end) {
        for (long index = begin; index < end; index++) met[index]++;
    });
}

void call(unsigned seed) {
    for (int round = 0; round < 300; round++) {
        std::vector<int> met((seed * 7 + round) % 50, 0);
        count_up(met);
        for (int count : met) expect(count == 2, "an index was not met once");

        std::vector<std::vector<int>> inner(3, std::vector<int>(5, 0));
        for_each_task(3, [&](long index) { count_up(inner[index]); });
        for (const auto& each : inner)
            for (int count : each) expect(count == 2, "an index within a task was not met once");

        bool caught = false;
        try {
            for_each_task(8, [&](long index) {
                if (index == 5) throw std::runtime_error("five");
            });
        } catch (const std::runtime_error&) {
            caught = true;
        }
        expect(caught, "what a task throws does not arrive");
    }
}

}  // namespace

int main() {
    for (int threads : {1, 2, 5}) {
        set_num_threads(threads);
        expect(get_num_threads() == threads, "the number of threads is another");
        std::vector<std::thread> callers;
        for (unsigned caller = 0; caller < 3; caller++) callers.emplace_back(call, caller);
        for (std::thread& caller : callers) caller.join();
    }
}
