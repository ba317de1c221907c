#include "loss.h"

#include <cmath>

#include "parallel.h"
#include "scratch.h"

template <class T>
T cross_entropy(long n, long classes, const T* logits, const int64_t* target, const T* weight,
                T label_smoothing, T* gradient) {
    double normaliser = double(n);
    if (weight) {
        normaliser = 0;
        for (long i = 0; i < n; i++) normaliser += double(weight[target[i]]);
    }
    const T scale = T(1 / normaliser), spread = label_smoothing / T(classes);
    Scratch<double> losses(n);
    for_each_range(n, 1 + 4096 / classes, [&](long begin, long end) {
        for (long i = begin; i < end; i++) {
            const T* row = logits + i * classes;
            T* out = gradient + i * classes;
            T largest = row[0];
            for (long k = 1; k < classes; k++)
                if (!(row[k] <= largest)) largest = row[k];  // NaN too
            T total = 0;
            for (long k = 0; k < classes; k++) total += out[k] = std::exp(row[k] - largest);
            const T log_total = std::log(total);
            // The wanted distribution, times the weights of the classes: softmax less that.
            T wanted_total = 0;
            double loss = 0;
            const auto wanted = [&](long k) {
                T value = spread;
                if (k == target[i]) value += T(1) - label_smoothing;
                return weight ? value * weight[k] : value;
            };
            for (long k = 0; k < classes; k++) {
                // A class that is not wanted does not count, even if its probability is 0.
                const T share = wanted(k);
                wanted_total += share;
                if (share != 0) loss -= double(share * (row[k] - largest - log_total));
            }
            for (long k = 0; k < classes; k++)
                out[k] = (out[k] / total * wanted_total - wanted(k)) * scale;
            losses[i] = loss;
        }
    });
    double loss = 0;
    for (long i = 0; i < n; i++) loss += losses[i];
    return T(loss / normaliser);
}

template float cross_entropy<float>(long, long, const float*, const int64_t*, const float*, float,
                                    float*);
template double cross_entropy<double>(long, long, const double*, const int64_t*, const double*,
                                      double, double*);
