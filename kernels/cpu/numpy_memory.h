// NumPy arrays in the pool's memory (NEP 49: data allocation strategies).
#pragma once

#include <pybind11/pybind11.h>

// Once, before anything else here.
void use_numpy();

// An allocator that takes arrays' memory from the pool; what NumPy calls a handler.
pybind11::object pool_allocator();

// Have NumPy take the memory of new arrays from an allocator, in this thread (more exactly, in this
// context), and return the one before. Arrays that are there already keep their own.
pybind11::object set_allocator(const pybind11::object& allocator);
