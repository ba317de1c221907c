// Threads, in a number that the caller sets, also in a forked child and for several callers at once.
#pragma once

#include <algorithm>
#include <functional>

// How many threads the kernels of this module use; at least 1.
void set_num_threads(int count);
int get_num_threads();  // 1 in a thread that lives within `Alone`

// While it lives, kernels that this thread calls use this thread alone: for tasks that are whole
// computations of their own.
class Alone {
public:
    Alone();
    ~Alone();
    Alone(const Alone&) = delete;
    Alone& operator=(const Alone&) = delete;

private:
    bool before_;
};

// Call body(index) for each index in [0, count), in any order, on up to `threads` threads; what one
// call writes no other may touch.
void for_each_task(long count, int threads, const std::function<void(long)>& body);

// The same on as many threads as there are.
inline void for_each_task(long count, const std::function<void(long)>& body) {
    for_each_task(count, get_num_threads(), body);
}

// Call body(begin, end) on parts of [0, count), in any order, on as many threads as there are and get
// at least `grain` elements each. What the parts are depends on these numbers alone.
void for_each_range(long count, long grain, const std::function<void(long, long)>& body);

// The part of [0, count) that is for `part` of `parts`.
inline long part_begin(long count, long part, long parts) { return count * part / parts; }
