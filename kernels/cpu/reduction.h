// Sums over an axis.
#pragma once

// y (outer, inner): the sums of x (outer, reduced, inner) over its second axis, 0 if that is empty.
//
// However long the axis, the relative error (against the sum of the absolute values) is at most some
// 24 roundings: 4 levels of pairs, at most 16 additions in a row, one per leftover row, and then
// double precision. It does not depend on the number of threads.
template <class T>
void sum_axis(long outer, long reduced, long inner, const T* x, T* y);
