// What every entry asks of the arrays that it is given: dtype, shape, memory in C order. Whatever is
// wrong is said in one line; nothing that Python hands over may crash the interpreter.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

namespace py = pybind11;

using Shape = std::vector<long>;

inline std::string text(const Shape& shape) {
    std::string s = "(";
    for (size_t k = 0; k < shape.size(); k++) s += (k ? ", " : "") + std::to_string(shape[k]);
    return s + (shape.size() == 1 ? ",)" : ")");
}

inline Shape shape_of(const py::array& array) {
    return Shape(array.shape(), array.shape() + array.ndim());
}

template <class T>
inline bool has_dtype(const py::array& array) {
    static PyObject* const builtin = py::dtype::of<T>().release().ptr();  // what nearly all arrays share
    const py::dtype dtype = array.dtype();
    return dtype.ptr() == builtin || dtype.equal(py::handle(builtin));
}

inline bool has_shape(const py::array& array, const Shape& shape) {
    return size_t(array.ndim()) == shape.size() &&
           std::equal(shape.begin(), shape.end(), array.shape());
}

[[noreturn]] inline void wrong_value(const std::string& what) { throw py::value_error(what); }

// The name of an entry and the dtype that all its arrays must have.
template <class T>
class Arguments {
public:
    explicit Arguments(const char* function) : function_(function) {}

    const T* in(const char* name, const py::array& array, const Shape& shape) const {
        return static_cast<const T*>(data<T>(name, array, shape));
    }
    const T* in(const char* name, const std::optional<py::array>& array, const Shape& shape) const {
        return array ? in(name, *array, shape) : nullptr;
    }
    T* out(const char* name, py::array& array, const Shape& shape) const {
        return out_as<T>(name, array, shape);
    }
    T* out(const char* name, std::optional<py::array>& array, const Shape& shape) const {
        return array ? out(name, *array, shape) : nullptr;
    }
    template <class U>
    const U* in_as(const char* name, const py::array& array, const Shape& shape) const {
        return static_cast<const U*>(data<U>(name, array, shape));
    }
    template <class U>
    U* out_as(const char* name, py::array& array, const Shape& shape) const {
        if (!array.writeable()) wrong_value(label(name) + "expected an array that may be written to");
        return static_cast<U*>(const_cast<void*>(data<U>(name, array, shape)));
    }

    // An array of as many dimensions; its shape.
    Shape dimensions(const char* name, const py::array& array, long count) const {
        if (array.ndim() != count)
            wrong_value(label(name) + "expected " + std::to_string(count) + " dimensions, got shape " +
                        text(shape_of(array)));
        return shape_of(array);
    }

    std::string label(const char* name) const { return std::string(function_) + ": " + name + ": "; }

private:
    template <class U>
    const void* data(const char* name, const py::array& array, const Shape& shape) const {
        if (!has_dtype<U>(array))
            throw py::type_error(label(name) + "expected dtype " +
                                 std::string(py::str(py::dtype::of<U>())) + ", got " +
                                 std::string(py::str(array.dtype())));
        if (!has_shape(array, shape))
            wrong_value(label(name) + "expected shape " + text(shape) + ", got " +
                        text(shape_of(array)));
        if (!(array.flags() & py::array::c_style))
            wrong_value(label(name) + "expected a contiguous array in C order, got strides " +
                        text(Shape(array.strides(), array.strides() + array.ndim())));
        if (reinterpret_cast<uintptr_t>(array.data()) % alignof(U) != 0)
            wrong_value(label(name) + "expected elements aligned to their size");
        return array.data();
    }

    const char* function_;
};

// Call f with a zero of the array's dtype, which must be float32 or float64.
template <class F>
auto with_dtype(const char* function, const py::array& array, F f) {
    if (has_dtype<float>(array)) return f(float{});
    if (has_dtype<double>(array)) return f(double{});
    throw py::type_error(std::string(function) + ": expected float32 or float64, got " +
                         std::string(py::str(array.dtype())));
}

// A number of a window's geometry.
inline long window_number(const char* function, const char* name, long value, long least) {
    constexpr long most = 0x7fffffff;
    if (value < least || value > most)
        wrong_value(std::string(function) + ": " + name + ": expected " + std::to_string(least) +
                    " to " + std::to_string(most) + ", got " + std::to_string(value));
    return value;
}

using Pair = std::pair<long, long>;
using Padding = std::pair<Pair, Pair>;

// floor((pixels + padding - dilation * (taps - 1) - 1) / stride) + 1, which must be at least 1.
inline long window_results(const char* function, long pixels, Pair padding, long taps, long stride,
                           long dilation) {
    window_number(function, "window", taps, 1);
    window_number(function, "stride", stride, 1);
    window_number(function, "dilation", dilation, 1);
    window_number(function, "padding", padding.first, 0);
    window_number(function, "padding", padding.second, 0);
    const long space = pixels + padding.first + padding.second - dilation * (taps - 1) - 1;
    if (space < 0)
        wrong_value(std::string(function) + ": a window of " + std::to_string(taps) +
                    " does not fit " + std::to_string(pixels) + " pixels");
    return space / stride + 1;
}
