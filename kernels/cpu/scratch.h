// Memory for intermediate results, aligned to cache lines, freed at the end of its scope.
#pragma once

#include <cstddef>

#include "memory.h"

template <class T>
class Scratch {
public:
    explicit Scratch(long count) : size_(size_t(count) * sizeof(T)), data_(allocate(size_)) {}
    ~Scratch() { release(data_, size_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    operator T*() const { return static_cast<T*>(data_); }

private:
    size_t size_;
    void* data_;
};
