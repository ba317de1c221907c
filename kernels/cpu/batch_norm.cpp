#include "batch_norm.h"

#include <algorithm>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"
#include "sums.h"

namespace {

// Sums over rows of what term(row, c, get) gives for each vector of channels, an array of N vectors.
// Blocks of rows are added up in their order and in double precision, whatever the number of threads.
template <class T, size_t N, class Term>
void sum_rows(long rows, long c, Term term, const std::array<T*, N>& totals) {
    const long blocks = std::max<long>((rows + sum_block - 1) / sum_block, 1);
    Scratch<T> sums(blocks * long(N) * c);
    for_each_task(blocks, [&](long k) {
        std::array<T*, N> found;
        for (size_t n = 0; n < N; n++) found[n] = sums + (k * long(N) + long(n)) * c;
        sum_columns<T>(c, k * sum_block, std::min(rows, (k + 1) * sum_block), 1, term, found);
    });
    for (size_t n = 0; n < N; n++)
        for (long i = 0; i < c; i++) {
            double sum = 0;
            for (long k = 0; k < blocks; k++) sum += double(sums[(k * long(N) + long(n)) * c + i]);
            totals[n][i] = T(sum);
        }
}

}  // namespace

template <class T>
void batch_norm(long rows, long c, const T* x, const T* weight, const T* bias, const T* mean,
                const T* inverse_std, T* y) {
    for_each_range(rows, 1 + (1 << 14) / (c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++)
            for_each_vector<T>(c, [=](long i, auto get, auto put) {
                put(y + row * c + i, (get(x + row * c + i) - get(mean + i)) *
                                             (get(inverse_std + i) * get(weight + i)) +
                                         get(bias + i));
            });
    });
}

template <class T>
void batch_norm_statistics(long rows, long c, const T* x, T* mean, T* variance) {
    const auto value = [=](long row, long i, auto get) {
        return std::array<Vector<T>, 1>{get(x + row * c + i)};
    };
    sum_rows<T, 1>(rows, c, value, {mean});
    for (long i = 0; i < c; i++) mean[i] /= T(rows);
    const auto square = [=](long row, long i, auto get) {
        const Vector<T> d = get(x + row * c + i) - get(mean + i);
        return std::array<Vector<T>, 1>{d * d};
    };
    sum_rows<T, 1>(rows, c, square, {variance});
    for (long i = 0; i < c; i++) variance[i] /= T(rows);
}

template <class T>
void batch_norm_grad(long rows, long c, const T* grad_output, const T* x, const T* weight,
                     const T* mean, const T* inverse_std, bool training, T* grad_input,
                     T* grad_weight, T* grad_bias) {
    const auto shares = [=](long row, long i, auto get) {
        const Vector<T> grad = get(grad_output + row * c + i);
        return std::array<Vector<T>, 2>{
            grad, grad * (get(x + row * c + i) - get(mean + i)) * get(inverse_std + i)};
    };
    sum_rows<T, 2>(rows, c, shares, {grad_bias, grad_weight});
    // The batch's own mean and variance depend on x: Ioffe and Szegedy 2015, section 3.
    const T share = training ? T(1) / T(rows) : T(0);
    for_each_range(rows, 1 + (1 << 14) / (c + 1), [&](long begin, long end) {
        for (long row = begin; row < end; row++)
            for_each_vector<T>(c, [=](long i, auto get, auto put) {
                const Vector<T> scale = get(inverse_std + i);
                Vector<T> grad = get(grad_output + row * c + i);
                if (training) {
                    const Vector<T> normalised = (get(x + row * c + i) - get(mean + i)) * scale;
                    grad -= (get(grad_bias + i) + normalised * get(grad_weight + i)) * share;
                }
                put(grad_input + row * c + i, grad * (scale * get(weight + i)));
            });
    });
}

#define INSTANTIATE(T)                                                                           \
    template void batch_norm<T>(long, long, const T*, const T*, const T*, const T*, const T*,    \
                                T*);                                                             \
    template void batch_norm_statistics<T>(long, long, const T*, T*, T*);                        \
    template void batch_norm_grad<T>(long, long, const T*, const T*, const T*, const T*,         \
                                     const T*, bool, T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
