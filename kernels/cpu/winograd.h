// The transforms of Winograd's algorithm, along one axis: S = 6 pixels d, the `taps` weights g and the
// S + 1 - taps results y, all vectors, are related by
//     y = A^T [(G g) * (B^T d)]        (* element by element),
// where A x are the values at S points of the polynomial with coefficients x, and so, but for a factor
// each, are G x; what B^T d is follows from the points, however many of the S coefficients are the
// weights (Winograd 1980; Lavin and Gray, 'Fast Algorithms for Convolutional Neural Networks', 2016).
//
// The points are 0, 1, -1, 2, -1/2 and infinity. The usual 0, 1, -1, 2, -2, infinity make the
// rounding error 4 to 5 times that of direct convolution in float32; these make it 3 times (Barabasz
// et al., 'Error Analysis and Improving the Accuracy of Winograd Convolution', 2020). For 2 taps S is
// 5 and the points are 0, -1, 1/2, 2 and infinity (2 to 3 times; with 0, 1, -1, 2 it were 3 to 4).
#pragma once

#include "simd.h"

constexpr int side_of_tile(long taps) { return taps == 2 ? 5 : 6; }

// A tile's results along an axis are as many as places in it for the window.
constexpr int results_side(long taps) { return int(side_of_tile(taps) + 1 - taps); }

// In all that follows vectors are `step` apart, and change in place.

// B^T (S x S): row by row the coefficients of the polynomial whose zeros are all points but one. With
// q(d) = d[2] - 3/2 d[1] - d[0], or d[2] - 5/2 d[1] + d[0], which is 0 at two of them, shifted, most rows
// share their parts.
template <int S>
inline void transform_image(Vector<float>* d, int step) {
    const Vector<float> d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    if constexpr (S == 6) {
        const Vector<float> q0 = d2 - 1.5f * d1 - d0, q1 = d3 - 1.5f * d2 - d1;
        const Vector<float> q2 = d4 - 1.5f * d3 - d2, q3 = d[5 * step] - 1.5f * d4 - d3;
        const Vector<float> even = d4 - d2, odd = d3 - d1;
        d[0] = q2 - q0;
        d[step] = q2 + q1;
        d[2 * step] = q2 - q1;
        d[3 * step] = even + 0.5f * odd;
        d[4 * step] = even - 2.0f * odd;
        d[5 * step] = q3 - q1;
    } else {
        const Vector<float> q0 = d2 - 2.5f * d1 + d0, q1 = d3 - 2.5f * d2 + d1;
        const Vector<float> q2 = d4 - 2.5f * d3 + d2, lower = d2 + d1, upper = d3 + d2;
        d[0] = q1 + q0;
        d[step] = q1;
        d[2 * step] = upper - 2.0f * lower;
        d[3 * step] = upper - 0.5f * lower;
        d[4 * step] = q2 + q1;
    }
}

// A (S x N): the values at the points of the polynomial with these N coefficients.
template <int S, int N>
inline void evaluate(Vector<float>* x, int step) {
    const Vector<float> last = x[(N - 1) * step];
    Vector<float> even = x[0], odd = x[step], two = last, half = last;
    for (int k = 2; k < N; k++) (k % 2 ? odd : even) += x[k * step];
    for (int k = N - 2; k >= 0; k--) {
        two = x[k * step] + 2.0f * two;
        half = x[k * step] + (S == 6 ? -0.5f : 0.5f) * half;
    }
    if constexpr (S == 6) {
        x[step] = even + odd;
        x[2 * step] = even - odd;
        x[3 * step] = two;
        x[4 * step] = half;
    } else {
        x[step] = even - odd;
        x[2 * step] = half;
        x[3 * step] = two;
    }
    x[(S - 1) * step] = last;
}

// A^T (N x S).
template <int S, int N>
inline void evaluate_transposed(Vector<float>* m, int step) {
    const Vector<float> first = m[0], m1 = m[step], m2 = m[2 * step], m3 = m[3 * step];
    const Vector<float> m4 = m[4 * step], last = m[(S - 1) * step];
    float two = 1, half = 1;
    for (int k = 0; k < N; k++, two *= 2.0f, half *= S == 6 ? -0.5f : 0.5f)
        if constexpr (S == 6)
            m[k * step] = (k % 2 ? m1 - m2 : m1 + m2) + two * m3 + half * m4;
        else
            m[k * step] = (k % 2 ? -m1 : m1) + two * m3 + half * m2;
    m[0] += first;
    m[(N - 1) * step] += last;
}

// The factors of G: 1 over the product of each point's distances from the others.
template <int S>
constexpr float factor[6] = {
    1.0f,           // 0: 1 * -1 * -2 * 1/2 = 1
    -1.0f / 3.0f,   // 1: 1 * 2 * -1 * 3/2 = -3
    1.0f / 3.0f,    // -1: -1 * -2 * -3 * -1/2 = 3
    1.0f / 15.0f,   // 2: 2 * 1 * 3 * 5/2 = 15
    -16.0f / 15.0f, // -1/2: -1/2 * -3/2 * 1/2 * -5/2 = -15/16
    1.0f,
};
template <>
constexpr float factor<5>[6] = {
    1.0f,           // 0: 1 * -1/2 * -2 = 1
    -2.0f / 9.0f,   // -1: -1 * -3/2 * -3 = -9/2
    -8.0f / 9.0f,   // 1/2: 1/2 * 3/2 * -3/2 = -9/8
    1.0f / 9.0f,    // 2: 2 * 3 * 3/2 = 9
    1.0f,
};

template <int S>
inline void scale(Vector<float>* x, int step) {
    for (int k = 0; k < S; k++) x[k * step] *= factor<S>[k];
}

// G (S x taps) and G^T.
template <int taps>
inline void transform_weight(Vector<float>* g, int step) {
    constexpr int S = side_of_tile(taps);
    evaluate<S, taps>(g, step);
    scale<S>(g, step);
}

template <int taps>
inline void transform_weight_gradient(Vector<float>* u, int step) {
    constexpr int S = side_of_tile(taps);
    scale<S>(u, step);
    evaluate_transposed<S, taps>(u, step);
}
