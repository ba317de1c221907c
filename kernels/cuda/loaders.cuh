// What loaders are made of, and those of operands that are matrices in memory.
#pragma once

#include "tile.cuh"

// --- gradients on their way back through an activation -------------------------------------------

// The gradient of an activation's input from that of its output, as one formula for all of them: for
// an output z it is grad (constant + slope z + square z^2), where for ReLU z is 1 or 0. A choice
// among several in the innermost loop would cost more than these few operations.
template <class T>
struct Gate {
    bool step;
    T constant, slope, square;

    __device__ __forceinline__ explicit Gate(Activation activation)
        : step(activation == RELU), constant(activation == TANH || activation == NONE),
          slope(activation == SIGMOID || activation == RELU),
          square(activation == SIGMOID || activation == TANH ? -1 : 0) {}

    __device__ __forceinline__ T operator()(T grad, T y) const {
        const T z = step ? T(y > T(0)) : y;
        return grad * (constant + z * (slope + square * z));
    }
};

// Where values are loaded from. They may be gradients, then with the outputs of the activation, in
// the same places of another array.
template <class T>
struct Source {
    const T *values, *outputs;
    Activation activation;

    __device__ __forceinline__ Source(const T* values, const T* outputs = nullptr,
                                      Activation activation = NONE)
        : values(values), outputs(outputs), activation(activation) {}
    __device__ __forceinline__ Source operator+(Index offset) const {
        return {values + offset, outputs + offset, activation};
    }
};

// `Count` packs that were loaded into registers; if `Gated`, gradients and outputs.
template <class T, int N, int Count, bool Gated>
struct Held {
    Pack<T, N> values[Count], outputs[Count];
    const Gate<T> gate;
    const Index distance;  // from a gradient to its output

    __device__ __forceinline__ explicit Held(const Source<T>& source)
        : gate(source.activation), distance(source.outputs - source.values) {}

    __device__ __forceinline__ void load(int copy, const T* from, bool valid) {
        values[copy] = valid ? load_pack<N>(from) : Pack<T, N>{};
        if constexpr (Gated) outputs[copy] = valid ? load_pack<N>(from + distance) : Pack<T, N>{};
    }
    __device__ __forceinline__ Pack<T, N> get(int copy) const {
        Pack<T, N> pack = values[copy];
        if constexpr (Gated)
#pragma unroll
            for (int e = 0; e < N; e++) pack[e] = gate(pack[e], outputs[copy][e]);
        return pack;
    }
};

// The copies of an operand along k. Packs have to be taken apart and gradients to be computed, in
// registers; other single elements go straight to their places.
template <class Tile, int Side, int N, bool Gated>
class Transposer {
    typedef typename Tile::type T;
    typedef Along<Tile, Side, N> Part;
    enum { direct = N == 1 && !Gated };

    Held<T, N, Part::copies, Gated> held;
    Copies<T, N, Part::copies> copies;

  public:
    __device__ __forceinline__ explicit Transposer(const Source<T>& source) : held(source) {}

    template <int Width>
    __device__ __forceinline__ void begin(int copy, T (*slice)[Width], const T* from, bool valid) {
        if (!direct)
            held.load(copy, from, valid);
        else if (Part::exists(copy))
            copies.begin(copy, &slice[Part::line()][Part::row(copy)], from, valid);
    }
    template <int Width>
    __device__ __forceinline__ void finish(T (*slice)[Width]) {
#pragma unroll
        for (int copy = 0; copy < Part::copies; copy++) {
            if (!Part::exists(copy)) continue;
            if (direct) {
                copies.finish(copy, &slice[Part::line()][Part::row(copy)]);
            } else {
                const Pack<T, N> pack = held.get(copy);
#pragma unroll
                for (int e = 0; e < N; e++) slice[Part::line() + e][Part::row(copy)] = pack[e];
            }
        }
    }
    // For tiles that multiply from registers.
    __device__ __forceinline__ Pack<T, N> get(int copy) const { return held.get(copy); }
};

// --- matrices ------------------------------------------------------------------------------------

// An operand of which a row (all k) lies side by side in memory, `pitch` elements from the next one.
template <class Tile, int Side, int N, bool Gated>
class RowsLoader : public Transposer<Tile, Side, N, Gated> {
    typedef typename Tile::type T;
    typedef Along<Tile, Side, N> Part;

    const T* from;
    const int pitch;
    int left;  // how many k are left, counted from this thread's
    const int rows;

  public:
    // `first` is the tile's first element, `depth` how many k there are, `rows` how many are left.
    __device__ __forceinline__ RowsLoader(const Source<T>& first, int pitch, int depth, int rows)
        : Transposer<Tile, Side, N, Gated>(first),
          from(first.values + Index(Part::row(0)) * pitch + Part::line()), pitch(pitch),
          left(depth - Part::line()), rows(rows - Part::row(0)) {}

    template <int Width>
    __device__ __forceinline__ void begin(T (*slice)[Width]) {
#pragma unroll
        for (int copy = 0; copy < Part::copies; copy++)
            Transposer<Tile, Side, N, Gated>::begin(
                copy, slice, from + Index(copy * Part::together) * pitch,
                left > 0 && Part::exists(copy) && copy * Part::together < rows);
        from += SLICE;
        left -= SLICE;
    }
};

// An operand of which a line of the slice (all elements with the same k) lies side by side in
// memory, `pitch` elements from the next one.
template <class Tile, int Side, int N>
class LinesLoader {
    typedef typename Tile::type T;
    typedef Across<Tile, Side, N> Part;

    const T* from;
    const int pitch;
    int left;  // lines that are left, counted from this thread's first
    const int sides;
    Copies<T, N, Part::line_copies * Part::column_copies> copies;

  public:
    // `first` is the tile's first element, `depth` how many k there are, `sides` how many elements
    // are left in a line.
    __device__ __forceinline__ LinesLoader(const T* first, int pitch, int depth, int sides)
        : from(first + Index(Part::line(0)) * pitch + Part::column(0)), pitch(pitch),
          left(depth - Part::line(0)), sides(sides) {}

    template <int Width>
    __device__ __forceinline__ void begin(T (*slice)[Width]) {
#pragma unroll
        for (int i = 0; i < Part::line_copies; i++)
#pragma unroll
            for (int j = 0; j < Part::column_copies; j++)
                copies.begin(i * Part::column_copies + j, &slice[Part::line(i)][Part::column(j)],
                             from + Index(i * Part::lines) * pitch + Part::column(j) - Part::column(0),
                             Part::column(j) < sides && i * Part::lines < left);
        from += Index(SLICE) * pitch;
        left -= SLICE;
    }

    template <int Width>
    __device__ __forceinline__ void finish(T (*slice)[Width]) {
#pragma unroll
        for (int i = 0; i < Part::line_copies; i++)
#pragma unroll
            for (int j = 0; j < Part::column_copies; j++)
                copies.finish(i * Part::column_copies + j, &slice[Part::line(i)][Part::column(j)]);
    }
};

// The same of gradients. What a thread has loaded of each of its columns is summed up on the way:
// the gradient of a bias.
template <class Tile, int Side, int N, bool Gated>
class GradientLinesLoader {
    typedef typename Tile::type T;
    typedef Across<Tile, Side, N> Part;

    const T* from;
    const int pitch;
    int left;
    const int sides;
    Held<T, N, Part::line_copies * Part::column_copies, Gated> held;
    Pack<T, N> total[Part::column_copies];

  public:
    __device__ __forceinline__ GradientLinesLoader(const Source<T>& first, int pitch, int depth,
                                                   int sides)
        : from(first.values + Index(Part::line(0)) * pitch + Part::column(0)), pitch(pitch),
          left(depth - Part::line(0)), sides(sides), held(first), total{} {}

    template <int Width>
    __device__ __forceinline__ void begin(T (*)[Width]) {
#pragma unroll
        for (int i = 0; i < Part::line_copies; i++)
#pragma unroll
            for (int j = 0; j < Part::column_copies; j++)
                held.load(i * Part::column_copies + j,
                          from + Index(i * Part::lines) * pitch + Part::column(j) - Part::column(0),
                          Part::column(j) < sides && i * Part::lines < left);
        from += Index(SLICE) * pitch;
        left -= SLICE;
    }

    template <int Width>
    __device__ __forceinline__ void finish(T (*slice)[Width]) {
#pragma unroll
        for (int i = 0; i < Part::line_copies; i++)
#pragma unroll
            for (int j = 0; j < Part::column_copies; j++) {
                const Pack<T, N> pack = held.get(i * Part::column_copies + j);
#pragma unroll
                for (int e = 0; e < N; e++) total[j][e] += pack[e];
                store_pack(&slice[Part::line(i)][Part::column(j)], pack);
            }
    }

    // The sums of the tile's columns, each put together by one thread in a fixed order. `memory` is
    // that of a slice and free; `take(column, sum)` is called for each.
    template <int Width, class Take>
    __device__ __forceinline__ void sum_columns(T (*memory)[Width], Take take) {
#pragma unroll
        for (int j = 0; j < Part::column_copies; j++)
            store_pack(&memory[Part::line(0)][Part::column(j)], total[j]);
        __syncthreads();
        for (int column = threadIdx.x; column < Side; column += Tile::threads) {
            T sum = 0;
#pragma unroll
            for (int line = 0; line < Part::lines; line++) sum += memory[line][column];
            take(column, sum);
        }
    }
};
