#include "program.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "band.h"
#include "batch_norm.h"
#include "matmul.h"
#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace {

// Images that a thread runs at a time: as many as leave the arena in the caches.
long images_at_once(long arena) {
    constexpr long cache = 2 << 20;
    return std::max<long>(cache / std::max<long>(arena * long(sizeof(float)), 1), 1);
}

void copy_axes(const StridedCopy& c, size_t axis, const float* x, float*& y) {
    if (axis == c.shape.size()) {
        *y++ = *x;
        return;
    }
    const long count = c.shape[axis], stride = c.strides[axis];
    if (axis + 1 == c.shape.size() && stride == 1) {
        std::memcpy(y, x, size_t(count) * sizeof(float));
        y += count;
        return;
    }
    for (long k = 0; k < count; k++) copy_axes(c, axis + 1, x + k * stride, y);
}

}  // namespace

Program::Program(long input, long arena, std::vector<long> outputs)
    : input_(input), arena_(arena), outputs_(std::move(outputs)) {}

long Program::room(Place p) const {
    if (p.space == Place::input) return input_;
    if (p.space == Place::output) return outputs_.at(size_t(p.at));
    return arena_ - p.at;
}

const float* Program::Memory::in(Place p) const {
    return p.space == Place::input ? input : out(p);
}

float* Program::Memory::out(Place p) const {
    return p.space == Place::output ? outputs[size_t(p.at)] : arena + n * p.at;
}

void Program::conv2d(const ConvShape& shape, Place x, const float* weight, const float* bias,
                     const Place* addend, Activation activation, Place y) {
    std::shared_ptr<PackedWeights<float>[]> kept(new PackedWeights<float>[size_t(shape.groups)]);
    const bool adds = addend != nullptr;
    const Place added = adds ? *addend : x;
    steps_.push_back([=](const Memory& m) {
        ConvShape s = shape;
        s.n = m.n;
        ::conv2d<float>(s, m.in(x), weight, bias, adds ? m.in(added) : nullptr, activation, m.out(y),
                        kept.get());
    });
}

void Program::linear(long rows, long k, long n, Place x, const float* weight, const float* bias,
                     Activation activation, Place y) {
    steps_.push_back([=](const Memory& m) {
        matmul<float>(m.n * rows, n, k, m.in(x), weight, false, bias, activation, m.out(y));
    });
}

void Program::scale_channels(long rows, long c, Place x, const float* scale, const float* shift,
                             Activation activation, Place y) {
    const auto zeros = std::make_shared<std::vector<float>>(size_t(c), 0.0f);
    const auto ones = std::make_shared<std::vector<float>>(size_t(c), 1.0f);
    steps_.push_back([=](const Memory& m) {
        batch_norm<float>(m.n * rows, c, m.in(x), scale, shift, zeros->data(), ones->data(), m.out(y));
        if (activation != Activation::none)
            activation_forward<float>(activation, m.out(y), m.out(y), m.n * rows * c);
    });
}

void Program::add(long size, Place a, Place b, Activation activation, Place y) {
    steps_.push_back([=](const Memory& m) {
        const float *pa = m.in(a), *pb = m.in(b);
        float* py = m.out(y);
        for_each_range(m.n * size, 1 << 14, [&](long begin, long end) {
            for_each_vector<float>(end - begin, [=](long i, auto get, auto put) {
                put(py + begin + i, get(pa + begin + i) + get(pb + begin + i));
            });
            activate_here(activation, py + begin, end - begin);
        });
    });
}

void Program::activation(Activation activation, float slope, long size, Place x, Place y) {
    steps_.push_back([=](const Memory& m) {
        activation_forward<float>(activation, m.in(x), m.out(y), m.n * size, slope);
    });
}

void Program::max_pool2d(const PoolShape& shape, Place x, Place y) {
    steps_.push_back([=](const Memory& m) {
        PoolShape s = shape;
        s.n = m.n;
        ::max_pool2d<float>(s, m.in(x), m.out(y));
    });
}

void Program::avg_pool2d(const PoolShape& shape, bool count_padding, Place x, Place y) {
    steps_.push_back([=](const Memory& m) {
        PoolShape s = shape;
        s.n = m.n;
        ::avg_pool2d<float>(s, count_padding, m.in(x), m.out(y));
    });
}

void Program::interpolate(const ResizeShape& shape, Place x, Place y) {
    steps_.push_back([=](const Memory& m) {
        ResizeShape s = shape;
        s.n = m.n;
        ::interpolate<float>(s, m.in(x), m.out(y));
    });
}

void Program::mean_of_pixels(long pixels, long c, Place x, Place y) {
    steps_.push_back([=](const Memory& m) {
        const float* px = m.in(x);
        float* py = m.out(y);
        for_each_task(m.n, pixels * c * m.n < (1 << 14) ? 1 : get_num_threads(), [&](long image) {
            // Sums of some pixels, then the sum of these: the rounding error grows with either count.
            constexpr long some = 64;
            for_each_channels<float>(c, [=](long channel, auto count) {
                const float* from = px + image * pixels * c + channel;
                Vector<float> total{};
                for (long first = 0; first < pixels; first += some) {
                    Vector<float> sum{};
                    for (long k = first; k < std::min(first + some, pixels); k++)
                        sum += get(from + k * c, count);
                    total += sum;
                }
                put(py + image * c + channel, total / float(pixels), count);
            });
        });
    });
}

void Program::copy(const StridedCopy& view, long from, Place x, Place y) {
    long to = 1;
    for (long count : view.shape) to *= count;
    steps_.push_back([=](const Memory& m) {
        const float* px = m.in(x);
        float* py = m.out(y);
        for_each_task(m.n, to * m.n < (1 << 14) ? 1 : get_num_threads(), [&](long image) {
            float* at = py + image * to;
            copy_axes(view, 0, px + image * from + view.offset, at);
        });
    });
}

void Program::copy_blocks(long blocks, long size, long from_step, Place x, Place y, long offset,
                          long to_step) {
    steps_.push_back([=](const Memory& m) {
        const float* px = m.in(x);
        float* py = m.out(y) + offset;
        for (long k = 0; k < m.n * blocks; k++)
            std::memcpy(py + k * to_step, px + k * from_step, size_t(size) * sizeof(float));
    });
}

void Program::run(long n, const float* input, const std::vector<float*>& outputs) const {
    // Threads that each run all steps on images of their own need not wait for each other after each
    // step. Fewer images than threads are run by all of them together.
    const long threads = get_num_threads(), most = images_at_once(arena_);
    const bool together = n < threads;
    const long rounds = (n + threads * most - 1) / (threads * most);
    const long chunks = together ? 1 : threads * rounds;
    for_each_task(chunks, [&](long chunk) {
        std::optional<Alone> alone;
        if (!together) alone.emplace();
        const long begin = part_begin(n, chunk, chunks), count = part_begin(n, chunk + 1, chunks) - begin;
        Scratch<float> arena(arena_ * count + 1);
        Memory memory{input + begin * input_, arena, outputs, count};
        for (size_t k = 0; k < outputs.size(); k++) memory.outputs[k] += begin * outputs_[k];
        for (const auto& step : steps_) step(memory);
    });
}
