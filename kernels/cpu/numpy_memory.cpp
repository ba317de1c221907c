#include "numpy_memory.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include <cstdint>
#include <cstring>
#include <new>

#include "memory.h"

namespace {

// NumPy does not say how large a block was that it wants to have grown: it stands before the data.
constexpr size_t header = 64;

void* array_malloc(void*, size_t size) {
    if (size > SIZE_MAX - header) return nullptr;
    try {
        char* memory = static_cast<char*>(allocate(size + header));
        memcpy(memory, &size, sizeof size);
        return memory + header;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void array_free(void*, void* data, size_t) {
    if (!data) return;
    char* memory = static_cast<char*>(data) - header;
    size_t size;
    memcpy(&size, memory, sizeof size);
    release(memory, size + header);
}

void* array_calloc(void*, size_t count, size_t element) {
    if (element && count > SIZE_MAX / element) return nullptr;
    void* data = array_malloc(nullptr, count * element);
    if (data) memset(data, 0, count * element);
    return data;
}

void* array_realloc(void*, void* data, size_t size) {
    void* grown = array_malloc(nullptr, size);
    if (data && grown) {
        size_t before;
        memcpy(&before, static_cast<char*>(data) - header, sizeof before);
        memcpy(grown, data, before < size ? before : size);
        array_free(nullptr, data, before);
    }
    return grown;
}

PyDataMem_Handler handler = {
    "tinygrad_mask_pool", 1, {nullptr, array_malloc, array_calloc, array_realloc, array_free}};

}  // namespace

int use_numpy() { return _import_array(); }

PyObject* pool_allocator() { return PyCapsule_New(&handler, "mem_handler", nullptr); }

PyObject* set_allocator(PyObject* allocator) {
    return PyDataMem_SetHandler(allocator == Py_None ? nullptr : allocator);
}
