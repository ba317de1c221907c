// NumPy arrays in the pool's memory (NEP 49: data allocation strategies).
#pragma once

// Plain Python objects here: the headers of the binding library take longer to compile than a kernel.
#include <Python.h>

// Once, before anything else here. Returns a negative number and sets Python's error if it fails.
int use_numpy();

// A new reference to an allocator that takes arrays' memory from the pool; what NumPy calls a handler.
PyObject* pool_allocator();

// Have NumPy take the memory of new arrays from an allocator (None: NumPy's own), in this thread (more
// exactly, in this context), and return a new reference to the one before. Arrays that are there
// already keep their own. Both return nullptr and set Python's error if they fail.
PyObject* set_allocator(PyObject* allocator);
