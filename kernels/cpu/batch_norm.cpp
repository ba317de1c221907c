#include "batch_norm.h"

#include <algorithm>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace {

// Sums over rows of what term(row, c, get) gives for each vector of channels. Rows are added up in
// groups, these in blocks, and the blocks in their order and in double precision, whatever the number
// of threads: a sum of n terms one after the other would err by up to n / 2 roundings.
template <class T, class Term>
void sum_rows(long rows, long c, Term term, T* total) {
    constexpr long group = 16, block = 16 * group;
    const long blocks = std::max<long>((rows + block - 1) / block, 1);
    Scratch<T> sums(blocks * c);
    for_each_task(blocks, [&](long k) {
        for_each_vector<T>(c, [&](long i, auto get, auto put) {
            Vector<T> sum{};
            const long end = std::min(rows, (k + 1) * block);
            for (long first = k * block; first < end; first += group) {
                Vector<T> part{};
                for (long row = first; row < std::min(end, first + group); row++)
                    part += term(row, i, get);
                sum += part;
            }
            put(sums + k * c + i, sum);
        });
    });
    for (long i = 0; i < c; i++) {
        double sum = 0;
        for (long k = 0; k < blocks; k++) sum += double(sums[k * c + i]);
        total[i] = T(sum);
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
    sum_rows<T>(rows, c, [&](long row, long i, auto get) { return get(x + row * c + i); }, mean);
    for (long i = 0; i < c; i++) mean[i] /= T(rows);
    sum_rows<T>(rows, c, [&](long row, long i, auto get) {
        const Vector<T> d = get(x + row * c + i) - get(mean + i);
        return d * d;
    }, variance);
    for (long i = 0; i < c; i++) variance[i] /= T(rows);
}

template <class T>
void batch_norm_grad(long rows, long c, const T* grad_output, const T* x, const T* weight,
                     const T* mean, const T* inverse_std, bool training, T* grad_input,
                     T* grad_weight, T* grad_bias) {
    sum_rows<T>(rows, c, [&](long row, long i, auto get) { return get(grad_output + row * c + i); },
                grad_bias);
    sum_rows<T>(rows, c, [&](long row, long i, auto get) {
        return get(grad_output + row * c + i) * (get(x + row * c + i) - get(mean + i)) *
               get(inverse_std + i);
    }, grad_weight);
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
