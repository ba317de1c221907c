// A network as a list of kernel calls, run without Python between them.
//
// Everything is float32 and per image: a step knows how many elements an image has, and `run` says how
// many images there are. Images are independent, so each thread runs all steps on a few images at a
// time: what passes from step to step stays in its caches, and no thread waits for another one until the
// end. Only fewer images than threads are run by all threads together, step by step.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "conv2d.h"
#include "interpolate.h"
#include "pool2d.h"

// Where a value lies: the input, an output, or, from element `at` (per image) on, the arena.
struct Place {
    enum Space { input, output, arena } space;
    long at;
};

// Copies an image of any strides to a dense one: the view has up to 8 axes.
struct StridedCopy {
    long offset;
    std::vector<long> shape, strides;  // in elements
};

class Program {
public:
    // The elements per image of the input, of the arena and of each output.
    Program(long input, long arena, std::vector<long> outputs);

    // The elements per image at a place, from there to the end of its memory.
    long room(Place) const;

    // Steps, in the order in which they run. A shape describes one image (n is ignored). Weights are
    // not copied: the caller keeps them alive.
    void conv2d(const ConvShape&, Place x, const float* weight, const float* bias, const Place* addend,
                Activation, Place y);
    void linear(long rows, long k, long n, Place x, const float* weight, const float* bias, Activation,
                Place y);
    // y = f(x * scale + shift), each channel by itself.
    void scale_channels(long rows, long c, Place x, const float* scale, const float* shift, Activation,
                        Place y);
    void add(long size, Place a, Place b, Activation, Place y);
    void activation(Activation, float slope, long size, Place x, Place y);
    void max_pool2d(const PoolShape&, Place x, Place y);
    void avg_pool2d(const PoolShape&, bool count_padding, Place x, Place y);
    void interpolate(const ResizeShape&, Place x, Place y);
    // The mean over the pixels of an image: x (pixels, c), y (c).
    void mean_of_pixels(long pixels, long c, Place x, Place y);
    // x has `from` elements per image.
    void copy(const StridedCopy&, long from, Place x, Place y);
    // Blocks of `size` elements, `from_step` apart in x and `to_step` apart in y from `offset` on.
    void copy_blocks(long blocks, long size, long from_step, Place x, Place y, long offset,
                     long to_step);

    // Run all steps on n images. Several threads may call it at once.
    void run(long n, const float* input, const std::vector<float*>& outputs) const;

private:
    struct Memory {
        const float* input;
        float* arena;
        std::vector<float*> outputs;
        long n;
        const float* in(Place p) const;
        float* out(Place p) const;
    };
    long input_, arena_;
    std::vector<long> outputs_;
    std::vector<std::function<void(const Memory&)>> steps_;
};
