// Direct convolution to a few outputs, such as the input gradient of a first layer: a vector of
// outputs would be mostly empty, so that vectors hold what is summed instead, the channels.

#include "band.h"
#include "channels.h"
#include "conv2d_grad.h"
#include "correlate.h"
#include "tile.h"

namespace {

constexpr long most_outputs = 4;

// How many results are computed at a time: 12 sums or less leave registers for the weights.
constexpr int results_at_once(int outputs) { return 12 / outputs < 6 ? 12 / outputs : 6; }

// Weights in the order in which they are met: run by run a vector of each output, zeros at its end.
template <class T, int O>
void pack_weight(const Correlation<T>& p, const Runs& runs, T* to) {
    constexpr long L = lanes<T>;
    const long run = runs.length / p.channels;  // taps
    for (long tap = 0; tap < p.rows.taps * p.columns.taps; tap += run)
        for (long k = 0; k < runs.length; k += L)
            for (int o = 0; o < O; o++)
                for (long lane = k; lane < k + L; lane++) {
                    const long at = tap + lane / p.channels;
                    *to++ = lane < runs.length ? p.weight_at(at / p.columns.taps,
                                                             at % p.columns.taps,
                                                             lane % p.channels, o)
                                               : T(0);
                }
}

template <class T>
inline T total(Vector<T> v) {
    T sum = 0;
    for (int lane = 0; lane < lanes<T>; lane++) sum += v[lane];
    return sum;
}

// M results, whose pixels are `a_step` apart.
template <class T, int M, int O>
inline void sum_runs(const T* a, long a_step, const Runs& runs, const T* b, const T* bias, T* c,
                     long c_step) {
    constexpr long L = lanes<T>;
    Vector<T> sum[M][O] = {};
    const auto add = [&](const T* pixels, auto count) {
        Vector<T> weights[O];
        for (int o = 0; o < O; o++, b += L) weights[o] = load(b);
        for (int m = 0; m < M; m++) {
            const Vector<T> x = count == L ? load(pixels + m * a_step)
                                           : load_some(pixels + m * a_step, count);
            for (int o = 0; o < O; o++) sum[m][o] += x * weights[o];
        }
    };
    for (long row = 0; row < runs.rows; row++)
        for (long tap = 0; tap < runs.taps; tap++) {
            const T* run = a + row * runs.row_step + tap * runs.tap_step;
            long k = 0;
            for (; k + L <= runs.length; k += L) add(run + k, std::integral_constant<long, L>{});
            if (k < runs.length) add(run + k, runs.length - k);
        }
    for (int m = 0; m < M; m++)
        for (int o = 0; o < O; o++) c[m * c_step + o] = total<T>(sum[m][o]) + (bias ? bias[o] : 0);
}

template <class T, int O>
void correlate_outputs(const Correlation<T>& p) {
    constexpr int M = results_at_once(O);
    const bool copied = needs_copy(p);
    const long pixel_step = copied ? p.channels : p.pitch;
    const long row_step = (copied ? reach(p.columns, p.columns.results) : p.w) * pixel_step;
    const Runs runs = Runs{p.rows.taps, p.rows.step * row_step, p.columns.taps,
                           p.columns.step * pixel_step, p.channels}.merged();
    const long vectors = (runs.length + lanes<T> - 1) / lanes<T>;
    Scratch<T> packed(runs.rows * runs.taps * vectors * lanes<T> * O);
    pack_weight<T, O>(p, runs, packed);
    const long a_step = p.columns.stride * pixel_step, c_step = p.columns.out_step * p.out_pitch;
    for_each_band(p, [&](long image, long first, long results) {
        Scratch<T> buffer(copied ? band_size(p, results) : 0);
        const Band<T> band = take_band<T>(p, image, first, results, buffer);
        for (long r = 0; r < results; r++) {
            const T* a = band.data + r * p.rows.stride * band.row_step;
            T* c = p.out_at(image, first + r, 0);
            long s = 0;
            for (; s + M <= p.columns.results; s += M)
                sum_runs<T, M, O>(a + s * a_step, a_step, runs, packed, p.bias, c + s * c_step,
                                  c_step);
            for (; s < p.columns.results; s++)
                sum_runs<T, 1, O>(a + s * a_step, a_step, runs, packed, p.bias, c + s * c_step,
                                  c_step);
            activate_row(p, image, first + r);
        }
    });
}

// Add to sums (O, channels) of V vectors of channels what they met in a row of pixels, `x_step` apart,
// times the gradients of a row of results.
template <class T, int O, int V, class Count>
inline void add_met(const T* x, long x_step, const T* g, long count_results, T* sums, long channels,
                    Count count) {
    constexpr long L = lanes<T>;
    Vector<T> sum[O][V];
    for (int o = 0; o < O; o++)
        for (int v = 0; v < V; v++) sum[o][v] = get(sums + o * channels + v * L, count);
    for (long s = 0; s < count_results; s++, x += x_step, g += O) {
        Vector<T> pixel[V];
        for (int v = 0; v < V; v++) pixel[v] = get(x + v * L, count);
        for (int o = 0; o < O; o++)
            for (int v = 0; v < V; v++) sum[o][v] += pixel[v] * g[o];
    }
    for (int o = 0; o < O; o++)
        for (int v = 0; v < V; v++) put(sums + o * channels + v * L, sum[o][v], count);
}

template <class T, int O>
void grad_weight_outputs(const Correlation<T>& p, const OutputGradient<T>& grad, T* grad_weight,
                         T* grad_bias) {
    constexpr int V = 4;  // sums, pixels and a gradient fit AVX2's 16 registers
    constexpr long L = lanes<T>;
    const long taps = p.rows.taps * p.columns.taps, size = taps * O * p.channels;
    std::vector<Meeting> across;
    for (long j = 0; j < p.columns.taps; j++) across.emplace_back(p.columns, j, p.w);
    sum_over_bands<T>(p, size + O, [&](long image, long first, long results, T* sums) {
        Scratch<T> row(p.columns.results * O);
        for (long r = first; r < first + results; r++) {
            T bias[O] = {};  // of the row: short sums round less than a long one
            const long at = (image * p.rows.results + r) * p.columns.results * grad.pitch;
            for (long s = 0; s < p.columns.results; s++) {
                activation_grad_here<T>(grad.activation, grad.data + at + s * grad.pitch,
                                        grad.y ? grad.y + at + s * grad.pitch : nullptr,
                                        row + s * O, O);
                for (int o = 0; o < O; o++) bias[o] += row[s * O + o];
            }
            for (int o = 0; o < O; o++) sums[size + o] += bias[o];
            const Inside down = inside(p.rows, r, p.h);
            for (long i = down.first; i < down.last; i++) {
                const long line = r * p.rows.stride + i * p.rows.step + p.rows.origin;
                for (long j = 0; j < p.columns.taps; j++) {
                    const Meeting& met = across[size_t(j)];
                    const long pixel = met.first * p.columns.stride + met.offset;
                    const T* x = p.in + ((image * p.h + line) * p.w + pixel) * p.pitch;
                    const T* g = row + met.first * O;
                    T* to = sums + (i * p.columns.taps + j) * O * p.channels;
                    const long many = met.last - met.first, step = p.columns.stride * p.pitch;
                    constexpr std::integral_constant<long, L> whole;
                    long done = 0;
                    for (; done + V * L <= p.channels; done += V * L)
                        add_met<T, O, V>(x + done, step, g, many, to + done, p.channels, whole);
                    for_each_channels<T>(p.channels - done, [&](long c, auto count) {
                        add_met<T, O, 1>(x + done + c, step, g, many, to + done + c, p.channels,
                                         count);
                    });
                }
            }
        }
    }, [&](const T* sums) {
        for (long i = 0; i < p.rows.taps; i++)
            for (long j = 0; j < p.columns.taps; j++, sums += O * p.channels)
                for (long c = 0; c < p.channels; c++)
                    for (int o = 0; o < O; o++)
                        grad_weight[i * p.weight_row + j * p.weight_column + c * p.weight_channel +
                                    o * p.weight_output] = sums[o * p.channels + c];
        if (grad_bias) std::copy_n(sums, O, grad_bias);
    });
}

}  // namespace

template <class T>
bool few_outputs_pay(const Correlation<T>& p) {
    return p.outputs <= most_outputs && p.channels >= 2 * lanes<T>;
}

template <class T>
void correlate_few_outputs(const Correlation<T>& p) {
    switch (p.outputs) {
        case 1: return correlate_outputs<T, 1>(p);
        case 2: return correlate_outputs<T, 2>(p);
        case 3: return correlate_outputs<T, 3>(p);
        case 4: return correlate_outputs<T, 4>(p);
    }
}

template <class T>
void grad_weight_few_outputs(const Correlation<T>& p, const OutputGradient<T>& grad, T* grad_weight,
                             T* grad_bias) {
    switch (p.outputs) {
        case 1: return grad_weight_outputs<T, 1>(p, grad, grad_weight, grad_bias);
        case 2: return grad_weight_outputs<T, 2>(p, grad, grad_weight, grad_bias);
        case 3: return grad_weight_outputs<T, 3>(p, grad, grad_weight, grad_bias);
        case 4: return grad_weight_outputs<T, 4>(p, grad, grad_weight, grad_bias);
    }
}

#define INSTANTIATE(T)                                                                              \
    template bool few_outputs_pay<T>(const Correlation<T>&);                                        \
    template void correlate_few_outputs<T>(const Correlation<T>&);                                  \
    template void grad_weight_few_outputs<T>(const Correlation<T>&, const OutputGradient<T>&, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
