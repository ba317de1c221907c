// Images of another size, by the nearest pixel or linearly between two on each axis. NHWC.
#pragma once

// Along each axis: input and output pixels, and input pixels per output pixel.
struct ResizeAxis {
    long in, out;
    double step;
};

struct ResizeShape {
    long n, c;
    ResizeAxis down, across;
    bool linear, align_corners;
};

// From x (N, down.in, across.in, C); y (N, down.out, across.out, C).
template <class T>
void interpolate(const ResizeShape& s, const T* x, T* y);

// From grad_output (N, down.out, across.out, C) the gradient of x.
template <class T>
void interpolate_grad(const ResizeShape& s, const T* grad_output, T* grad_input);
