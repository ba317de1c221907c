"""The kernels of matrix products on the emulator: each tile, each layout, any size."""

import numpy as np
import pytest
from devices import needs_emulator
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import ORDERS, Recording, close, same_bits, wide

from tinygrad_mask.backends.gpu import matmul, tiles
from tinygrad_mask.backends.reference import ReferenceBackend
from tinygrad_mask.testing.strategies import generators

pytestmark = needs_emulator

REFERENCE = ReferenceBackend()
FUSED = ["none", "relu", "sigmoid", "tanh"]


def arrays_of(rng, m, k, n, dtype, activation):
    """x, weight, bias, grad_output, and the activation's output that goes with it."""
    output = rng.standard_normal((m, n))
    y = None if activation == "none" else getattr(REFERENCE, activation)(output).astype(dtype)
    shapes = (m, k), (k, n), (n,), (m, n)
    return *(rng.standard_normal(shape).astype(dtype) for shape in shapes), y


def computed(module, first, arrays, activation, needed=(True, True, True)):
    """A linear map and its gradients; `module` is the launch code, or the reference."""
    x, weight, bias, grad_output, y = arrays
    gradients = module.linear_grad(*first, grad_output, x, weight, activation, y, needed)
    return module.linear(*first, x, weight, bias, activation), *gradients


def check(launcher, arrays, activation, needed=(True, True, True)):
    """Compare with the reference in float64; return the results."""
    (m, k), n = arrays[0].shape, arrays[1].shape[1]
    results = computed(matmul, (launcher,), arrays, activation, needed)
    expected = computed(REFERENCE, (), [wide(a) for a in arrays], activation, needed)
    for result, reference, terms in zip(results, expected, (k, n, m, m), strict=True):
        assert (result is None) == (reference is None)
        if result is not None:
            assert result.dtype == arrays[0].dtype
            close(result, reference, terms)
    return results


def check_in_any_order(sizes, dtype, activation, arch="sm_90"):
    """The same with every access checked, in several orders of blocks and threads; the kernels."""
    arrays = arrays_of(np.random.default_rng(0), *sizes, dtype, activation)
    first = None
    for order, seed in ORDERS:
        launcher = Recording("check", arch, order, seed)
        results = check(launcher, arrays, activation)
        first = first or results
        same_bits(first, results)
    return launcher.kernels


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("tile", tiles.TILES, ids=lambda t: f"{t.rows}x{t.columns}")
def test_each_tile_is_right_beside_its_edges(monkeypatch, tile, activation):
    # All three products have more rows and columns than a tile, and no whole number of slices.
    monkeypatch.setattr(tiles, "TILES", (tile,))
    monkeypatch.setattr(matmul, "choose_tile", tiles.choose_tile.__wrapped__)
    kernels = check_in_any_order((132, 136, 140), np.float32, activation)
    products = [k for k in kernels if not k.startswith("sum_splits")]
    assert len(products) == 3
    assert all(k.startswith(f"matmul<{tile.name('float')}, ") for k in products)


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
@pytest.mark.parametrize(
    ("sizes", "dtype", "kernel"),
    [
        ((300, 20, 3), np.float32, f"matmul<{tiles.STRIP.name('float')}, false, false, 4, 1"),
        ((300, 8, 20), np.float32, f"matmul<{tiles.STRIP.name('float')}, false, true, 4, 1"),
        ((9, 36, 7), np.float32, f"matmul<{tiles.TILES[-1].name('float')}, true, false, 4, 1"),
        ((133, 21, 71), np.float32, f"matmul<{tiles.ODD['float'].name('float')}, "),
        ((70, 13, 35), np.float64, f"matmul<{tiles.ODD['double'].name('double')}, "),
    ],
    ids=["few outputs", "few inputs", "few outputs, their weights", "odd", "float64"],
)
def test_each_other_kernel_is_right_in_any_order(arch, sizes, dtype, kernel):
    m, k, n = sizes
    sizes = (m - m % 4, k, n) if k % 4 == 0 else sizes  # the packs of x transposed
    kernels = check_in_any_order(sizes, dtype, "tanh", arch)
    assert any(k.startswith(kernel) for k in kernels), kernels


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_long_sums_are_cut_into_parts_that_are_added_up_in_order(dtype):
    kernels = check_in_any_order((12, 1300, 8), dtype, "sigmoid")
    assert any(k.startswith("sum_splits") for k in kernels)
    kernels = check_in_any_order((1300, 12, 8), dtype, "sigmoid")
    assert any(k.startswith("sum_splits") for k in kernels)


dimensions = st.one_of(st.integers(0, 20), st.sampled_from([31, 32, 33, 64, 65, 128, 132, 300]))


@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(
    st.tuples(*[dimensions] * 3),
    generators(),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(FUSED),
    st.tuples(*[st.booleans()] * 3),
)
def test_linear_maps_of_any_size_agree_with_the_reference(sizes, rng, dtype, activation, needed):
    arrays = arrays_of(rng, *sizes, dtype, activation)
    check(Recording("check", order="random", seed=3), arrays, activation, needed)


@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(
    st.tuples(*[dimensions] * 3),
    st.lists(st.integers(0, 3), max_size=2),
    generators(),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([(False, False), (True, False), (False, True)]),
)
def test_batches_of_products_agree_with_the_reference(sizes, lead, rng, dtype, transposed):
    m, k, n = sizes
    x = rng.standard_normal((*lead, m, k)).astype(dtype)
    y = rng.standard_normal((*lead, k, n)).astype(dtype)
    left, right = (
        np.ascontiguousarray(a.swapaxes(-1, -2)) if t else a
        for a, t in zip((x, y), transposed, strict=True)
    )
    launcher = Recording("check", order="random", seed=4)
    result, sums = matmul.multiply(
        launcher, left, right, left_transposed=transposed[0], right_transposed=transposed[1]
    )
    assert sums is None
    close(result, wide(x) @ wide(y), k)


def test_matrices_that_do_not_begin_at_whole_packs_are_right_too():
    arrays = []
    for array in arrays_of(np.random.default_rng(0), 12, 16, 20, np.float32, "relu"):
        memory = np.empty(array.size + 1, np.float32)
        moved = memory[1:].reshape(array.shape)
        moved[...] = array
        arrays.append(moved)
    check(Recording("check"), arrays, "relu")


def test_the_bias_gets_its_gradient_where_the_input_was_not_kept():
    rng = np.random.default_rng(0)
    grad_output, y = rng.standard_normal((2, 600, 12)).astype(np.float32)
    launcher = Recording("check")
    needed = False, False, True
    results = matmul.linear_grad(launcher, grad_output, None, None, "tanh", y, needed)
    assert results[:2] == (None, None)
    close(results[2], REFERENCE.tanh_grad(wide(grad_output), wide(y)).sum(axis=0), 600)


# --- the choice -----------------------------------------------------------------------------------


def test_large_matrices_get_large_tiles_and_small_ones_small():
    def chosen(rows, columns, matrices=1):
        return tiles.choose_tile("float", rows, columns, matrices, 64, packs=True, along=True).tile

    assert chosen(8192, 8192)[1:3] == (128, 128)
    assert chosen(512, 512)[1:3] == (64, 64)
    assert chosen(65536, 32)[1:3] == (128, 32)
    assert chosen(2**20, 64)[1:3] == (128, 64)
    assert chosen(65536, 8) == tiles.STRIP
    assert chosen(128, 128, matrices=4096)[1:3] == (128, 128)


def test_long_sums_of_few_elements_are_cut():
    def chosen(rows, columns, depth):
        return tiles.choose_tile("float", rows, columns, 1, depth, packs=True, along=True)

    assert chosen(1568, 256, 2304).splits > 1
    assert chosen(8192, 8192, 8192).splits == 1
    assert chosen(64, 64, 10**6).splits >= tiles.MULTIPROCESSORS


@given(
    st.integers(0, 10**5),
    st.integers(0, 10**4),
    st.integers(1, 100),
    st.integers(0, 10**5),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_chosen_covers_the_sum_and_no_part_is_empty(
    rows, columns, matrices, depth, packs, along
):
    way = tiles.choose_tile("float", rows, columns, matrices, depth, packs=packs, along=along)
    assert way.split % tiles.SLICE == 0
    assert way.splits == max(-(-depth // way.split), 1)
    blocks = way.splits * matrices * way.tile.blocks(rows, columns)
    assert way.splits == 1 or blocks <= tiles.MULTIPROCESSORS * way.tile.blocks_at_once


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**4),
    st.integers(1, 8),
    st.integers(1, 512),
)
def test_splits_cover_the_sum_and_none_is_empty(length, blocks, at_once, least):
    split = tiles.choose_split(length, blocks, at_once, least=least)
    assert split > 0
    parts = max(-(-length // split), 1)
    assert parts == 1 or (parts - 1) * split < length
    assert parts == 1 or parts * blocks <= tiles.MULTIPROCESSORS * at_once
