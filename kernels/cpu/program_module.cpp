// The Python class `Program`: steps are added with checked shapes and places, then run on arrays.

#include "program_module.h"

#include <pybind11/stl.h>

#include "geometry.h"
#include "program.h"

namespace {

using MaybeArray = std::optional<py::array>;
using Where = std::pair<std::string, long>;

long product(const Shape& shape) {
    long size = 1;
    for (long side : shape) size *= side;
    return size;
}

// A program and the arrays of weights that its steps read.
class PyProgram {
public:
    PyProgram(long input, long arena, const std::vector<long>& outputs)
        : input_(input), outputs_(outputs), program_(input, arena, outputs) {}

    void conv2d(const Where& x, const Shape& image, const py::array& weight, const MaybeArray& bias,
                const std::optional<Where>& addend, Pair stride, const Padding& padding, Pair dilation,
                long groups, const std::string& activation, const Where& y) {
        const char* f = "Program.conv2d";
        const Arguments<float> a(f);
        const Shape ws = a.dimensions("weight", weight, 4);
        const ConvShape s = conv_shape(f, {1, image.at(0), image.at(1), image.at(2)}, ws, stride,
                                       padding, dilation, groups);
        const long size = s.p * s.q * s.o;
        if (addend && is_depthwise(s)) wrong_value("Program.conv2d: a depthwise one has no addend");
        const Place added = addend ? place(*addend, size) : Place{};
        program_.conv2d(s, place(x, product(image)), keep(weight, ws), keep(bias, {s.o}),
                        addend ? &added : nullptr, final_activation(f, activation), place(y, size));
    }

    void linear(const Where& x, long rows, const py::array& weight, const MaybeArray& bias,
                const std::string& activation, const Where& y) {
        const char* f = "Program.linear";
        const Shape ws = Arguments<float>(f).dimensions("weight", weight, 2);
        const long k = ws[0], n = ws[1];
        program_.linear(rows, k, n, place(x, rows * k), keep(weight, ws), keep(bias, {n}),
                        final_activation(f, activation), place(y, rows * n));
    }

    void scale_channels(const Where& x, long rows, const py::array& scale, const py::array& shift,
                        const std::string& activation, const Where& y) {
        const long c = scale.size();
        program_.scale_channels(rows, c, place(x, rows * c), keep(scale, {c}), keep(shift, {c}),
                                activation_named(activation), place(y, rows * c));
    }

    void add(const Where& a, const Where& b, long size, const std::string& activation, const Where& y) {
        program_.add(size, place(a, size), place(b, size), activation_named(activation),
                     place(y, size));
    }

    void activation(const std::string& name, double slope, const Where& x, long size, const Where& y) {
        program_.activation(activation_named(name), float(slope), size, place(x, size),
                            place(y, size));
    }

    void max_pool2d(const Where& x, const Shape& image, Pair size, Pair stride, const Padding& padding,
                    Pair dilation, const Where& y) {
        const PoolShape s = pooling("Program.max_pool2d", image, size, stride, padding, dilation);
        program_.max_pool2d(s, place(x, product(image)), place(y, s.p * s.q * s.c));
    }

    void avg_pool2d(const Where& x, const Shape& image, Pair size, Pair stride, const Padding& padding,
                    Pair dilation, bool count_padding, const Where& y) {
        const PoolShape s = pooling("Program.avg_pool2d", image, size, stride, padding, dilation);
        program_.avg_pool2d(s, count_padding, place(x, product(image)), place(y, s.p * s.q * s.c));
    }

    void interpolate(const Where& x, const Shape& image, Pair size, std::pair<double, double> steps,
                     bool linear, bool align_corners, const Where& y) {
        const ResizeShape s = {1, image.at(2), {image[0], size.first, steps.first},
                               {image[1], size.second, steps.second}, linear, align_corners};
        program_.interpolate(s, place(x, product(image)), place(y, size.first * size.second * s.c));
    }

    void mean_of_pixels(const Where& x, long pixels, long c, const Where& y) {
        program_.mean_of_pixels(pixels, c, place(x, pixels * c), place(y, c));
    }

    void copy(const Where& x, long from, long offset, const Shape& shape, const Shape& strides,
              const Where& y) {
        if (shape.size() != strides.size()) wrong_value("Program.copy: shape and strides differ");
        long lowest = offset, highest = offset;
        for (size_t k = 0; k < shape.size(); k++) {
            if (shape[k] < 1) wrong_value("Program.copy: expected elements along each axis");
            (strides[k] < 0 ? lowest : highest) += (shape[k] - 1) * strides[k];
        }
        if (lowest < 0 || highest >= from) wrong_value("Program.copy: the view leaves its image");
        program_.copy({offset, shape, strides}, from, place(x, from), place(y, product(shape)));
    }

    void copy_blocks(const Where& x, long blocks, long size, const Where& y, long offset, long to_step) {
        if (offset < 0 || offset + size > to_step) wrong_value("Program.copy_blocks: blocks overlap");
        program_.copy_blocks(blocks, size, size, place(x, blocks * size), place(y, blocks * to_step),
                             offset, to_step);
    }

    void run(const py::array& x, std::vector<py::array> outputs) const {
        const Arguments<float> a("Program.run");
        if (x.ndim() < 1 || outputs.size() != outputs_.size())
            wrong_value("Program.run: expected images and " + std::to_string(outputs_.size()) +
                        " outputs");
        const Shape shape = shape_of(x);
        const long n = shape[0];
        const float* px = a.in("x", x, shape);
        if (x.size() != n * input_) wrong_value("Program.run: x: another size per image");
        std::vector<float*> to;
        for (size_t k = 0; k < outputs.size(); k++) {
            if (outputs[k].size() != n * outputs_[k])
                wrong_value("Program.run: output: another size per image");
            to.push_back(a.out("output", outputs[k], shape_of(outputs[k])));
        }
        py::gil_scoped_release unlocked;
        program_.run(n, px, to);
    }

private:
    static PoolShape pooling(const char* f, const Shape& image, Pair size, Pair stride,
                             const Padding& padding, Pair dilation) {
        return pool_shape(f, {1, image.at(0), image.at(1), image.at(2)}, size, stride, padding,
                          dilation);
    }

    Place place(const Where& where, long size) const {
        const auto& [space, at] = where;
        Place p{};
        if (space == "input")
            p = {Place::input, 0};
        else if (space == "output" && at >= 0 && size_t(at) < outputs_.size())
            p = {Place::output, at};
        else if (space == "arena" && at >= 0)
            p = {Place::arena, at};
        else
            wrong_value("Program: expected a place in input, output or arena, got " + space);
        if (size < 0 || size > program_.room(p))
            wrong_value("Program: " + std::to_string(size) + " elements do not fit their place");
        return p;
    }

    const float* keep(const py::array& array, const Shape& shape) {
        const float* data = Arguments<float>("Program").in("weight", array, shape);
        kept_.push_back(array);
        return data;
    }
    const float* keep(const MaybeArray& array, const Shape& shape) {
        return array ? keep(*array, shape) : nullptr;
    }

    long input_;
    std::vector<long> outputs_;
    Program program_;
    std::vector<py::array> kept_;
};

}  // namespace

void bind_program(py::module_& m) {
    py::class_<PyProgram>(m, "Program", py::module_local())
        .def(py::init<long, long, const std::vector<long>&>())
        .def("conv2d", &PyProgram::conv2d)
        .def("linear", &PyProgram::linear)
        .def("scale_channels", &PyProgram::scale_channels)
        .def("add", &PyProgram::add)
        .def("activation", &PyProgram::activation)
        .def("max_pool2d", &PyProgram::max_pool2d)
        .def("avg_pool2d", &PyProgram::avg_pool2d)
        .def("interpolate", &PyProgram::interpolate)
        .def("mean_of_pixels", &PyProgram::mean_of_pixels)
        .def("copy", &PyProgram::copy)
        .def("copy_blocks", &PyProgram::copy_blocks)
        .def("run", &PyProgram::run);
}
