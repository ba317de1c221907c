// The transforms of Winograd's algorithm, along one axis: 6 pixels d, the `taps` weights g and the
// 7 - taps results y, all vectors, are related by
//     y = A^T [(G g) * (B^T d)]        (* element by element),
// where A x are the values at 6 points of the polynomial with coefficients x, and so, but for a factor
// each, are G x; what B^T d is follows from the points, however many of the 6 coefficients are the
// weights (Winograd 1980; Lavin and Gray, 'Fast Algorithms for Convolutional Neural Networks', 2016).
//
// The points are 0, 1, -1, 2, -1/2 and infinity. The usual 0, 1, -1, 2, -2, infinity make the
// rounding error 4 to 5 times that of direct convolution in float32; these make it 3 times (Barabasz
// et al., 'Error Analysis and Improving the Accuracy of Winograd Convolution', 2020).
#pragma once

#include "simd.h"

constexpr int tile_side = 6;

// A tile's results along an axis are as many as places in it for the window.
constexpr int results_side(long taps) { return int(tile_side + 1 - taps); }

// In all that follows vectors are `step` apart, and change in place.

// B^T (6 x 6). With q(d) = d[2] - 3/2 d[1] - d[0], shifted, most rows share their parts.
inline void transform_image(Vector<float>* d, int step) {
    Vector<float>* e[6] = {d, d + step, d + 2 * step, d + 3 * step, d + 4 * step, d + 5 * step};
    const Vector<float> d0 = *e[0], d1 = *e[1], d2 = *e[2], d3 = *e[3], d4 = *e[4], d5 = *e[5];
    const Vector<float> q0 = d2 - 1.5f * d1 - d0, q1 = d3 - 1.5f * d2 - d1;
    const Vector<float> q2 = d4 - 1.5f * d3 - d2, q3 = d5 - 1.5f * d4 - d3;
    const Vector<float> even = d4 - d2, odd = d3 - d1;
    *e[0] = q2 - q0;
    *e[1] = q2 + q1;
    *e[2] = q2 - q1;
    *e[3] = even + 0.5f * odd;
    *e[4] = even - 2.0f * odd;
    *e[5] = q3 - q1;
}

// A (6 x N): the values at the points of the polynomial with these N coefficients.
template <int N>
inline void evaluate(Vector<float>* x, int step) {
    Vector<float> even = x[0], odd = x[step], two = x[(N - 1) * step], half = two;
    const Vector<float> last = two;
    for (int k = 2; k < N; k++) (k % 2 ? odd : even) += x[k * step];
    for (int k = N - 2; k >= 0; k--) {
        two = x[k * step] + 2.0f * two;
        half = x[k * step] - 0.5f * half;
    }
    x[step] = even + odd;
    x[2 * step] = even - odd;
    x[3 * step] = two;
    x[4 * step] = half;
    x[5 * step] = last;
}

// A^T (N x 6).
template <int N>
inline void evaluate_transposed(Vector<float>* m, int step) {
    const Vector<float> m0 = m[0], sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
    const Vector<float> m3 = m[3 * step], m4 = m[4 * step], m5 = m[5 * step];
    float two = 1, half = 1;
    for (int k = 0; k < N; k++, two *= 2.0f, half *= -0.5f)
        m[k * step] = (k % 2 ? difference : sum) + two * m3 + half * m4;
    m[0] += m0;
    m[(N - 1) * step] += m5;
}

// The factors of G: 1 over the product of each point's distances from the others.
constexpr float factor[tile_side] = {
    1.0f,           // 0: 1 * -1 * -2 * 1/2 = 1
    -1.0f / 3.0f,   // 1: 1 * 2 * -1 * 3/2 = -3
    1.0f / 3.0f,    // -1: -1 * -2 * -3 * -1/2 = 3
    1.0f / 15.0f,   // 2: 2 * 1 * 3 * 5/2 = 15
    -16.0f / 15.0f, // -1/2: -1/2 * -3/2 * 1/2 * -5/2 = -15/16
    1.0f,
};

inline void scale(Vector<float>* x, int step) {
    for (int k = 0; k < tile_side; k++) x[k * step] *= factor[k];
}

// G (6 x N) and G^T.
template <int N>
inline void transform_weight(Vector<float>* g, int step) {
    evaluate<N>(g, step);
    scale(g, step);
}

template <int N>
inline void transform_weight_gradient(Vector<float>* u, int step) {
    scale(u, step);
    evaluate_transposed<N>(u, step);
}
