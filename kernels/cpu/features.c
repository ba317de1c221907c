// Which instruction sets this processor can run. A module of its own, compiled for every processor of
// its kind, because the others must not be loaded before this is known.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static int append(PyObject* names, const char* name) {
    PyObject* text = PyUnicode_FromString(name);
    if (!text) return -1;
    const int failed = PyList_Append(names, text);
    Py_DECREF(text);
    return failed;
}

static PyObject* runnable(PyObject* self, PyObject* unused) {
    (void)self, (void)unused;
    PyObject* names = PyList_New(0);
    if (!names) return NULL;
    int failed = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        failed |= append(names, "avx512");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        failed |= append(names, "avx2");
#endif
    failed |= append(names, "baseline");
    if (failed) Py_CLEAR(names);
    return names;
}

static PyMethodDef methods[] = {
    {"runnable", runnable, METH_NOARGS, "Return the instruction sets that run here, best first."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_cpu_features", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__cpu_features(void) { return PyModule_Create(&module); }
