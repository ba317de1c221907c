// The Python module: every kernel under the name of its backend method, results written into arrays
// that the caller has made. Compiled once an instruction set, under the name MODULE_NAME.

#include <pybind11/stl.h>

#include "activation.h"
#include "arguments.h"
#include "batch_norm.h"
#include "conv2d.h"
#include "correlate.h"
#include "geometry.h"
#include "group_norm.h"
#include "interpolate.h"
#include "loss.h"
#include "matmul.h"
#include "memory.h"
#include "numpy_memory.h"
#include "optimizer.h"
#include "parallel.h"
#include "pool2d.h"
#include "program_module.h"
#include "reduction.h"

namespace {

using Unlocked = py::gil_scoped_release;
using MaybeArray = std::optional<py::array>;

// --- matrix products ----------------------------------------------------------------------------

void py_matmul(const py::array& a, const py::array& b, bool b_transposed, const MaybeArray& bias,
               const std::string& activation, py::array c) {
    with_dtype("matmul", a, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> args("matmul");
        const Shape as = args.dimensions("a", a, 2), bs = args.dimensions("b", b, 2);
        const long m = as[0], k = as[1], n = bs[b_transposed ? 0 : 1];
        const T* pa = args.in("a", a, as);
        const T* pb = args.in("b", b, b_transposed ? Shape{n, k} : Shape{k, n});
        const T* pbias = args.in("bias", bias, {n});
        T* pc = args.out("c", c, {m, n});
        const Activation end = final_activation("matmul", activation);
        Unlocked unlocked;
        matmul(m, n, k, pa, pb, b_transposed, pbias, end, pc);
    });
}

void py_matmul_transposed(const py::array& a, const py::array& b, py::array c) {
    with_dtype("matmul_transposed", a, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> args("matmul_transposed");
        const Shape as = args.dimensions("a", a, 2), bs = args.dimensions("b", b, 2);
        const long k = as[0], m = as[1], n = bs[1];
        const T *pa = args.in("a", a, as), *pb = args.in("b", b, {k, n});
        T* pc = args.out("c", c, {m, n});
        Unlocked unlocked;
        matmul_transposed(m, n, k, pa, pb, pc);
    });
}

// --- convolution --------------------------------------------------------------------------------

// The activation that a gradient goes back through, for which the output has to be there.
Activation passed_activation(const char* f, const std::string& name, bool has_output) {
    const Activation a = final_activation(f, name);
    if (a != Activation::none && !has_output)
        wrong_value(std::string(f) + ": y: expected the output of the activation " + name +
                    ", got None");
    return a;
}

void py_conv2d(const py::array& x, const py::array& weight, const MaybeArray& bias, py::array y,
               Pair stride, const Padding& padding, Pair dilation, long groups,
               const std::string& activation) {
    const char* f = "conv2d";
    with_dtype(f, x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("x", x, 4), ws = a.dimensions("weight", weight, 4);
        const ConvShape s = conv_shape(f, xs, ws, stride, padding, dilation, groups);
        const T *px = a.in("x", x, xs), *pw = a.in("weight", weight, ws);
        const T* pb = a.in("bias", bias, {s.o});
        T* py = a.out("y", y, {s.n, s.p, s.q, s.o});
        const Activation end = final_activation(f, activation);
        Unlocked unlocked;
        conv2d(s, px, pw, pb, end, py);
    });
}

void py_conv2d_grad_input(const py::array& grad_output, const MaybeArray& y,
                          const py::array& weight, py::array grad_input, Pair stride,
                          const Padding& padding, Pair dilation, long groups,
                          const std::string& activation) {
    const char* f = "conv2d_grad_input";
    with_dtype(f, grad_output, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("grad_input", grad_input, 4);
        const Shape ws = a.dimensions("weight", weight, 4);
        const ConvShape s = conv_shape(f, xs, ws, stride, padding, dilation, groups);
        const Shape ys = {s.n, s.p, s.q, s.o};
        const T *pg = a.in("grad_output", grad_output, ys), *py = a.in("y", y, ys);
        const T* pw = a.in("weight", weight, ws);
        T* px = a.out("grad_input", grad_input, xs);
        const Activation end = passed_activation(f, activation, py);
        Unlocked unlocked;
        conv2d_grad_input(s, pg, py, end, pw, px);
    });
}

void py_conv2d_grad_weight(const py::array& grad_output, const MaybeArray& y, const py::array& x,
                           py::array grad_weight, MaybeArray grad_bias, Pair stride,
                           const Padding& padding, Pair dilation, long groups,
                           const std::string& activation) {
    const char* f = "conv2d_grad_weight";
    with_dtype(f, grad_output, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("x", x, 4);
        const Shape ws = a.dimensions("grad_weight", grad_weight, 4);
        const ConvShape s = conv_shape(f, xs, ws, stride, padding, dilation, groups);
        const Shape ys = {s.n, s.p, s.q, s.o};
        const T *pg = a.in("grad_output", grad_output, ys), *py = a.in("y", y, ys);
        const T* px = a.in("x", x, xs);
        T *pw = a.out("grad_weight", grad_weight, ws), *pb = a.out("grad_bias", grad_bias, {s.o});
        const Activation end = passed_activation(f, activation, py);
        Unlocked unlocked;
        conv2d_grad_weight(s, pg, py, end, px, pw, pb);
    });
}

// --- pooling ------------------------------------------------------------------------------------

// Call f with a zero of the taps' type: uint8 where the window's taps can be numbered with it.
template <class F>
void with_taps(const PoolShape& s, F f) {
    if (s.kh * s.kw <= 256) return f(uint8_t{});
    f(int32_t{});
}

void py_max_pool2d(const py::array& x, py::array y, py::array taps, Pair size, Pair stride,
                   const Padding& padding, Pair dilation) {
    const char* f = "max_pool2d";
    with_dtype(f, x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("x", x, 4);
        const PoolShape s = pool_shape(f, xs, size, stride, padding, dilation);
        const Shape ys = {s.n, s.p, s.q, s.c};
        with_taps(s, [&](auto tap) {
            using Tap = decltype(tap);
            const T* px = a.in("x", x, xs);
            T* py = a.out("y", y, ys);
            Tap* pt = a.template out_as<Tap>("taps", taps, ys);
            Unlocked unlocked;
            max_pool2d(s, px, py, pt);
        });
    });
}

void py_max_pool2d_grad(const py::array& grad_output, const py::array& taps, py::array grad_input,
                        Pair size, Pair stride, const Padding& padding, Pair dilation) {
    const char* f = "max_pool2d_grad";
    with_dtype(f, grad_output, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("grad_input", grad_input, 4);
        const PoolShape s = pool_shape(f, xs, size, stride, padding, dilation);
        const Shape ys = {s.n, s.p, s.q, s.c};
        with_taps(s, [&](auto tap) {
            using Tap = decltype(tap);
            const T* pg = a.in("grad_output", grad_output, ys);
            const Tap* pt = a.template in_as<Tap>("taps", taps, ys);
            T* px = a.out("grad_input", grad_input, xs);
            Unlocked unlocked;
            max_pool2d_grad(s, pg, pt, px);
        });
    });
}

void py_avg_pool2d(const py::array& x, py::array y, Pair size, Pair stride, const Padding& padding,
                   Pair dilation, bool count_padding) {
    const char* f = "avg_pool2d";
    with_dtype(f, x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("x", x, 4);
        const PoolShape s = pool_shape(f, xs, size, stride, padding, dilation);
        const T* px = a.in("x", x, xs);
        T* py = a.out("y", y, {s.n, s.p, s.q, s.c});
        Unlocked unlocked;
        avg_pool2d(s, count_padding, px, py);
    });
}

void py_avg_pool2d_grad(const py::array& grad_output, py::array grad_input, Pair size, Pair stride,
                        const Padding& padding, Pair dilation, bool count_padding) {
    const char* f = "avg_pool2d_grad";
    with_dtype(f, grad_output, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("grad_input", grad_input, 4);
        const PoolShape s = pool_shape(f, xs, size, stride, padding, dilation);
        const T* pg = a.in("grad_output", grad_output, {s.n, s.p, s.q, s.c});
        T* px = a.out("grad_input", grad_input, xs);
        Unlocked unlocked;
        avg_pool2d_grad(s, count_padding, pg, px);
    });
}

// --- resizing -----------------------------------------------------------------------------------

ResizeShape resize_shape(const char* f, const Shape& x, const Shape& y, std::pair<double, double> steps,
                         bool linear, bool align_corners) {
    const ResizeShape s = {x[0], x[3], {x[1], y[1], steps.first}, {x[2], y[2], steps.second},
                           linear, align_corners};
    for (const ResizeAxis& axis : {s.down, s.across})
        // A position beyond the image means its last pixel, but must be representable.
        if (axis.in < 1 || axis.out < 1 || !(axis.step >= 0 && axis.step * double(axis.out) < 0x1p62))
            wrong_value(std::string(f) + ": cannot resize an input " + text(x) + " to " + text(y) +
                        " by steps of " + std::to_string(axis.step) + " pixels");
    return s;
}

void py_interpolate(const py::array& x, py::array y, std::pair<double, double> steps, bool linear,
                    bool align_corners) {
    const char* f = "interpolate";
    with_dtype(f, x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("x", x, 4), ys = a.dimensions("y", y, 4);
        const ResizeShape s = resize_shape(f, xs, ys, steps, linear, align_corners);
        const T* px = a.in("x", x, xs);
        T* py = a.out("y", y, {s.n, s.down.out, s.across.out, s.c});
        Unlocked unlocked;
        interpolate(s, px, py);
    });
}

void py_interpolate_grad(const py::array& grad_output, py::array grad_input,
                         std::pair<double, double> steps, bool linear, bool align_corners) {
    const char* f = "interpolate_grad";
    with_dtype(f, grad_output, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("grad_input", grad_input, 4);
        const Shape ys = a.dimensions("grad_output", grad_output, 4);
        const ResizeShape s = resize_shape(f, xs, ys, steps, linear, align_corners);
        const T* pg = a.in("grad_output", grad_output, {s.n, s.down.out, s.across.out, s.c});
        T* px = a.out("grad_input", grad_input, xs);
        Unlocked unlocked;
        interpolate_grad(s, pg, px);
    });
}

// --- activations --------------------------------------------------------------------------------

void py_activation(const std::string& name, const py::array& x, py::array y, double slope) {
    with_dtype("activation", x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a("activation");
        const T* px = a.in("x", x, shape_of(x));
        T* py = a.out("y", y, shape_of(x));
        const long count = x.size();
        const Activation which = activation_named(name);
        Unlocked unlocked;
        activation_forward(which, px, py, count, T(slope));
    });
}

void py_activation_grad(const std::string& name, const py::array& grad_output,
                        const py::array& kept, py::array grad_input, double slope) {
    with_dtype("activation_grad", grad_output, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a("activation_grad");
        const Shape shape = shape_of(grad_output);
        const T *pg = a.in("grad_output", grad_output, shape), *pk = a.in("kept", kept, shape);
        T* px = a.out("grad_input", grad_input, shape);
        const long count = grad_output.size();
        const Activation which = activation_named(name);
        Unlocked unlocked;
        activation_grad(which, pg, pk, px, count, T(slope));
    });
}

// --- normalisation and loss ---------------------------------------------------------------------

// The rows of an array (..., C), and C.
template <class T>
std::pair<long, long> rows_of(const Arguments<T>& a, const py::array& x) {
    if (x.ndim() < 1 || x.shape(x.ndim() - 1) == 0)
        wrong_value(a.label("x") + "expected (..., C), got shape " + text(shape_of(x)));
    const long c = x.shape(x.ndim() - 1);
    return {x.size() / c, c};
}

void py_batch_norm(const py::array& x, const py::array& weight, const py::array& bias,
                   const py::array& mean, const py::array& inverse_std, py::array y) {
    with_dtype("batch_norm", x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a("batch_norm");
        const auto [rows, c] = rows_of(a, x);
        const T *px = a.in("x", x, shape_of(x)), *pw = a.in("weight", weight, {c});
        const T *pb = a.in("bias", bias, {c}), *pm = a.in("mean", mean, {c});
        const T* ps = a.in("inverse_std", inverse_std, {c});
        T* py = a.out("y", y, shape_of(x));
        Unlocked unlocked;
        batch_norm(rows, c, px, pw, pb, pm, ps, py);
    });
}

void py_sum_axis(const py::array& x, py::array y) {
    with_dtype("sum_axis", x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a("sum_axis");
        const Shape xs = a.dimensions("x", x, 3);
        const T* px = a.in("x", x, xs);
        T* py = a.out("y", y, {xs[0], xs[2]});
        Unlocked unlocked;
        sum_axis(xs[0], xs[1], xs[2], px, py);
    });
}

void py_batch_norm_statistics(const py::array& x, py::array mean, py::array variance) {
    with_dtype("batch_norm_statistics", x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a("batch_norm_statistics");
        const auto [rows, c] = rows_of(a, x);
        const T* px = a.in("x", x, shape_of(x));
        T *pm = a.out("mean", mean, {c}), *pv = a.out("variance", variance, {c});
        Unlocked unlocked;
        batch_norm_statistics(rows, c, px, pm, pv);
    });
}

void py_batch_norm_grad(const py::array& grad_output, const py::array& x, const py::array& weight,
                        const py::array& mean, const py::array& inverse_std, bool training,
                        py::array grad_input, py::array grad_weight, py::array grad_bias) {
    with_dtype("batch_norm_grad", x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a("batch_norm_grad");
        const auto [rows, c] = rows_of(a, x);
        const Shape shape = shape_of(x);
        const T *pg = a.in("grad_output", grad_output, shape), *px = a.in("x", x, shape);
        const T *pw = a.in("weight", weight, {c}), *pm = a.in("mean", mean, {c});
        const T* ps = a.in("inverse_std", inverse_std, {c});
        T *pgx = a.out("grad_input", grad_input, shape), *pgw = a.out("grad_weight", grad_weight, {c});
        T* pgb = a.out("grad_bias", grad_bias, {c});
        Unlocked unlocked;
        batch_norm_grad(rows, c, pg, px, pw, pm, ps, training, pgx, pgw, pgb);
    });
}

GroupNormShape group_norm_shape(const char* f, const Shape& x, const Shape& mean) {
    const GroupNormShape s = {x[0], x[1], x[2], mean[1]};
    if (s.groups < 1 || s.c < 1 || s.pixels < 1 || s.c % s.groups)
        wrong_value(std::string(f) + ": " + std::to_string(s.groups) + " groups do not fit an input " +
                    text(x));
    return s;
}

void py_group_norm(const py::array& x, const MaybeArray& weight, const MaybeArray& bias, double eps,
                   py::array y, py::array mean, py::array inverse_std) {
    const char* f = "group_norm";
    with_dtype(f, x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("x", x, 3), ms = a.dimensions("mean", mean, 2);
        const GroupNormShape s = group_norm_shape(f, xs, ms);
        const T *px = a.in("x", x, xs), *pw = a.in("weight", weight, {s.c});
        const T* pb = a.in("bias", bias, {s.c});
        T *py = a.out("y", y, xs), *pm = a.out("mean", mean, {s.n, s.groups});
        T* ps = a.out("inverse_std", inverse_std, {s.n, s.groups});
        Unlocked unlocked;
        group_norm(s, px, pw, pb, eps, py, pm, ps);
    });
}

void py_group_norm_grad(const py::array& grad_output, const py::array& x, const MaybeArray& weight,
                        const py::array& mean, const py::array& inverse_std, py::array grad_input,
                        py::array grad_weight, py::array grad_bias) {
    const char* f = "group_norm_grad";
    with_dtype(f, x, [&](auto zero) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape xs = a.dimensions("x", x, 3), ms = a.dimensions("mean", mean, 2);
        const GroupNormShape s = group_norm_shape(f, xs, ms);
        const Shape sets = {s.n, s.groups};
        const T *pg = a.in("grad_output", grad_output, xs), *px = a.in("x", x, xs);
        const T *pw = a.in("weight", weight, {s.c}), *pm = a.in("mean", mean, sets);
        const T* ps = a.in("inverse_std", inverse_std, sets);
        T *pgx = a.out("grad_input", grad_input, xs), *pgw = a.out("grad_weight", grad_weight, {s.c});
        T* pgb = a.out("grad_bias", grad_bias, {s.c});
        Unlocked unlocked;
        group_norm_grad(s, pg, px, pw, pm, ps, pgx, pgw, pgb);
    });
}

double py_cross_entropy(const py::array& logits, const py::array& target, const MaybeArray& weight,
                        double label_smoothing, py::array gradient) {
    const char* f = "cross_entropy";
    return with_dtype(f, logits, [&](auto zero) -> double {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape shape = a.dimensions("logits", logits, 2);
        const long n = shape[0], classes = shape[1];
        if (n == 0 || classes == 0) wrong_value("cross_entropy: logits: expected (N, K), none 0");
        const T *pl = a.in("logits", logits, shape), *pw = a.in("weight", weight, {classes});
        const int64_t* pt = a.template in_as<int64_t>("target", target, {n});
        T* pg = a.out("gradient", gradient, shape);
        for (long i = 0; i < n; i++)
            if (pt[i] < 0 || pt[i] >= classes)
                wrong_value("cross_entropy: target: expected 0 to " + std::to_string(classes - 1) +
                            ", got " + std::to_string(pt[i]));
        Unlocked unlocked;
        return double(cross_entropy(n, classes, pl, pt, pw, T(label_smoothing), pg));
    });
}

// --- updates ------------------------------------------------------------------------------------

using Arrays = std::vector<py::array>;

void check_counts(const char* f, size_t count, std::initializer_list<size_t> others) {
    for (size_t other : others)
        if (other != count)
            wrong_value(std::string(f) + ": expected " + std::to_string(count) + " of each, got " +
                        std::to_string(other));
}

// Call step(zero, k, update) for each parameter, first to check the arguments of all, then to update:
// nothing has moved if one of them is refused.
template <class Step>
void check_then_update(const char* f, const Arrays& parameters, Step step) {
    for (const bool update : {false, true})
        for (size_t k = 0; k < parameters.size(); k++)
            with_dtype(f, parameters[k], [&](auto zero) { step(zero, k, update); });
}

void py_sgd_update(Arrays parameters, const Arrays& gradients, std::optional<Arrays> velocities,
                   double lr, double momentum, bool nesterov, double weight_decay) {
    const char* f = "sgd_update";
    const size_t count = parameters.size();
    check_counts(f, count, {gradients.size(), velocities ? velocities->size() : count});
    const SgdSettings settings = {lr, momentum, weight_decay, nesterov};
    check_then_update(f, parameters, [&](auto zero, size_t k, bool update) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape shape = shape_of(parameters[k]);
        T* pp = a.out("parameter", parameters[k], shape);
        const T* pg = a.in("gradient", gradients[k], shape);
        T* pv = velocities ? a.out("velocity", (*velocities)[k], shape) : nullptr;
        if (!update) return;
        const long size = parameters[k].size();
        Unlocked unlocked;
        sgd_update(settings, size, pp, pg, pv);
    });
}

void py_adam_update(Arrays parameters, const Arrays& gradients, Arrays first_moments,
                    Arrays second_moments, const std::vector<long>& steps, double lr,
                    std::pair<double, double> betas, double eps, double weight_decay,
                    bool decoupled) {
    const char* f = "adam_update";
    const size_t count = parameters.size();
    check_counts(f, count, {gradients.size(), first_moments.size(), second_moments.size(), steps.size()});
    const AdamSettings settings = {lr, betas.first, betas.second, eps, weight_decay, decoupled};
    check_then_update(f, parameters, [&](auto zero, size_t k, bool update) {
        using T = decltype(zero);
        const Arguments<T> a(f);
        const Shape shape = shape_of(parameters[k]);
        T* pp = a.out("parameter", parameters[k], shape);
        const T* pg = a.in("gradient", gradients[k], shape);
        T* pm = a.out("first_moment", first_moments[k], shape);
        T* pv = a.out("second_moment", second_moments[k], shape);
        if (!update) return;
        const long size = parameters[k].size();
        Unlocked unlocked;
        adam_update(settings, steps[k], size, pp, pg, pm, pv);
    });
}

// --- the machine --------------------------------------------------------------------------------

// A new reference from a function of Python's C API, which has set an error if there is none.
py::object owned(PyObject* object) {
    if (!object) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
}

}  // namespace

PYBIND11_MODULE(MODULE_NAME, m) {
    m.doc() = "The kernels for the CPU, compiled for one instruction set.";
    if (use_numpy() < 0) throw py::error_already_set();
    m.def("matmul", py_matmul);
    m.def("matmul_transposed", py_matmul_transposed);
    m.def("conv2d", py_conv2d);
    m.def("conv2d_grad_input", py_conv2d_grad_input);
    m.def("conv2d_grad_weight", py_conv2d_grad_weight);
    m.def("max_pool2d", py_max_pool2d);
    m.def("max_pool2d_grad", py_max_pool2d_grad);
    m.def("avg_pool2d", py_avg_pool2d);
    m.def("avg_pool2d_grad", py_avg_pool2d_grad);
    m.def("interpolate", py_interpolate);
    m.def("interpolate_grad", py_interpolate_grad);
    m.def("activation", py_activation);
    m.def("activation_grad", py_activation_grad);
    m.def("batch_norm", py_batch_norm);
    m.def("sum_axis", py_sum_axis);
    m.def("batch_norm_statistics", py_batch_norm_statistics);
    m.def("batch_norm_grad", py_batch_norm_grad);
    m.def("group_norm", py_group_norm);
    m.def("group_norm_grad", py_group_norm_grad);
    m.def("cross_entropy", py_cross_entropy);
    m.def("sgd_update", py_sgd_update);
    m.def("adam_update", py_adam_update);
    m.def("set_num_threads", set_num_threads);
    m.def("set_winograd", set_winograd);
    m.def("vector_bytes", [] { return vector_bytes; });
    m.def("memory_use", [] {
        const MemoryUse use = memory_use();
        py::dict result;
        result["used"] = use.used, result["unused"] = use.unused, result["peak"] = use.peak;
        result["mapped"] = use.mapped;
        return result;
    });
    m.def("set_allocator", [](const py::object& allocator) {
        return owned(set_allocator(allocator.ptr()));
    });
    m.attr("pool") = owned(pool_allocator());
    bind_program(m);
}
