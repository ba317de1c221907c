// Threads: OpenMP's, in a number that the caller sets, also in a forked child.
#pragma once

#include <algorithm>
#include <functional>

// How many threads the kernels of this module use; at least 1.
void set_num_threads(int count);
int get_num_threads();

// Call body(index) for each index in [0, count), in any order, on as many threads as there are;
// what one call writes no other may touch.
void for_each_task(long count, const std::function<void(long)>& body);

// Call body(begin, end) on parts of [0, count) of at least `grain` elements, one a thread.
void for_each_range(long count, long grain, const std::function<void(long, long)>& body);

// The part of [0, count) that is for `part` of `parts`.
inline long part_begin(long count, long part, long parts) { return count * part / parts; }
