// Softmax cross-entropy.
#pragma once

#include <cstdint>

// Returns the loss of logits (N, K) and writes its gradient with respect to them, (N, K). target (N)
// is in [0, K); weight (K) or null.
template <class T>
T cross_entropy(long n, long classes, const T* logits, const int64_t* target, const T* weight,
                T label_smoothing, T* gradient);
