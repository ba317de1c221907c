// C = f(A B + bias) for matrices as they lie in memory (see tile.cuh), many at a time: A is M x K, or
// given as its transpose, K x M; B is K x N, or N x K.
//
// Where C is small and K is long, K is cut into `splits` parts, whose sums blocks of their own
// compute; sum_splits (splits.cu) adds them up, always in the same order.
#include "loaders.cuh"

// A batch of matrices, side by side in memory: C is `m` x `n`, the sums are over `k`, of which a part
// is `split` long. For each split there is a batch of results.
struct MatmulShape {
    int m, n, k, batch, split;
};

// Packs of NA elements of A are loaded at a time (also of B, if that is transposed), of B and C NC.
// If `Gated`, A where it is not transposed, else B, are gradients on their way back through the
// activation `gate`, of which `outputs` are the outputs. With A transposed the sums of B's columns
// are stored too, unless `column_sums` (splits, n) is null.
template <class Tile, bool ATransposed, bool BTransposed, int NA, int NC, bool Gated>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
matmul(MatmulShape s, const typename Tile::type* __restrict__ a,
       const typename Tile::type* __restrict__ b, const typename Tile::type* __restrict__ outputs,
       Activation gate, const typename Tile::type* __restrict__ bias, Activation activation,
       typename Tile::type* __restrict__ c, typename Tile::type* __restrict__ column_sums) {
    typedef typename Tile::type T;
    static_assert(!(ATransposed && BTransposed), "");
    __shared__ Slices<Tile> memory[2];
    __shared__ BlockTile block;
    block.find<Tile>(s.m, s.n);
    const int matrix = block.matrix % s.batch, part = block.matrix / s.batch;
    const int k = part * s.split, depth = min(s.split, s.k - k);
    const Index a_first = Index(matrix) * s.m * s.k +
                          (ATransposed ? Index(k) * s.m + block.row : Index(block.row) * s.k + k);
    const Index b_first = Index(matrix) * s.k * s.n + (BTransposed ? Index(block.column) * s.k + k
                                                                   : Index(k) * s.n + block.column);
    const int slices = ceil_div(depth, SLICE);
    const auto store = [&](Sums<Tile>& sum) {
        const int its_matrix = block.matrix % s.batch, its_part = block.matrix / s.batch;
        T* result = c + (Index(its_part) * s.batch + its_matrix) * s.m * s.n + block.column;
        store_tile<Tile, NC>(sum, s.n - block.column, bias ? bias + block.column : nullptr,
                            activation, [&](int row) {
            row += block.row;
            return row < s.m ? result + Index(row) * s.n : nullptr;
        });
    };
    Sums<Tile> sum;
    if constexpr (ATransposed) {
        LinesLoader<Tile, Tile::rows, NA> load_a(a + a_first, s.m, depth, s.m - block.row);
        GradientLinesLoader<Tile, Tile::columns, NC, Gated> load_b(
            Source<T>(b, outputs, gate) + b_first, s.n, depth, s.n - block.column);
        multiply<Tile>(load_a, load_b, slices, memory, sum);
        store(sum);
        if (column_sums && block.row == 0)
            load_b.sum_columns(memory[0].b, [&](int column, T total) {
                column += block.column;
                if (column < s.n)
                    column_sums[Index(block.matrix / s.batch) * s.n + column] = total;
            });
    } else {
        RowsLoader<Tile, Tile::rows, NA, Gated> load_a(Source<T>(a, outputs, gate) + a_first, s.k,
                                                      depth, s.m - block.row);
        if constexpr (BTransposed) {
            RowsLoader<Tile, Tile::columns, NA, false> load_b(b + b_first, s.k, depth,
                                                             s.n - block.column);
            multiply<Tile>(load_a, load_b, slices, memory, sum);
        } else {
            LinesLoader<Tile, Tile::columns, NC> load_b(b + b_first, s.n, depth, s.n - block.column);
            multiply<Tile>(load_a, load_b, slices, memory, sum);
        }
        store(sum);
    }
}
