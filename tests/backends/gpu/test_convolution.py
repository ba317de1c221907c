"""The kernels of convolution on the emulator: each of them, each tile, and what each is for.

(backends/test_convolutions.py compares with the reference whatever kernel a convolution gets.)
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from devices import needs_emulator
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import ORDERS, Recording, close, same_bits, wide

from tinygrad_mask.backends import Window
from tinygrad_mask.backends.gpu import convolution, tiles
from tinygrad_mask.backends.reference import ReferenceBackend
from tinygrad_mask.testing.strategies import generators

pytestmark = needs_emulator

REFERENCE = ReferenceBackend()
SAME = ((1, 1), (1, 1))
FUSED = ["none", "relu", "sigmoid", "tanh"]


@dataclass(frozen=True)
class Sizes:
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    window: Window
    groups: int = 1

    @property
    def output_shape(self):
        n, h, w, _ = self.input_shape
        return n, *self.window.output_size(h, w), self.weight_shape[3]

    def arrays(self, rng, dtype, activation):
        """x, weight, bias, grad_output, and the activation's output that goes with it."""
        output = rng.standard_normal(self.output_shape)
        y = None if activation == "none" else getattr(REFERENCE, activation)(output).astype(dtype)
        shapes = self.input_shape, self.weight_shape, self.weight_shape[3:], self.output_shape
        return *(rng.standard_normal(shape).astype(dtype) for shape in shapes), y


def sizes(image, kernel, *, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    return Sizes(image, kernel, Window(kernel[:2], stride, padding, dilation), groups)


def computed(module, first, p, arrays, activation):
    """What the three kernels make of it; `module` is the launch code, or the reference."""
    x, weight, bias, grad_output, y = arrays
    rest = p.window, p.groups, activation
    grad_weight, grad_bias = module.conv2d_grad_weight(
        *first, grad_output, x, p.weight_shape, *rest, y
    )
    return (
        module.conv2d(*first, x, weight, bias, *rest),
        module.conv2d_grad_input(*first, grad_output, weight, p.input_shape, *rest, y),
        grad_weight,
        grad_bias,
    )


def check(launcher, p, arrays, activation):
    """Compare with the reference in float64; return the results."""
    kh, kw, channels, outputs = p.weight_shape
    pixels = int(np.prod(p.output_shape[:3]))
    terms = kh * kw * channels, kh * kw * outputs // p.groups, pixels, pixels
    results = computed(convolution, (launcher,), p, arrays, activation)
    with REFERENCE.computing():
        expected = computed(REFERENCE, (), p, [wide(a) for a in arrays], activation)
    for result, reference, count in zip(results, expected, terms, strict=True):
        assert result.dtype == arrays[0].dtype
        close(result, reference, count)
    return results


def check_in_any_order(p, dtype, activation, arch="sm_90"):
    """The same with every access checked, in several orders of blocks and threads; the kernels."""
    arrays = p.arrays(np.random.default_rng(0), dtype, activation)
    first = None
    for order, seed in ORDERS:
        launcher = Recording("check", arch, order, seed)
        results = check(launcher, p, arrays, activation)
        first = first or results
        same_bits(first, results)
    return launcher.kernels


# --- every kernel, every tile ---------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["none", "tanh"])
@pytest.mark.parametrize("tile", tiles.TILES, ids=lambda t: f"{t.rows}x{t.columns}")
def test_each_tile_is_right_beside_its_edges(monkeypatch, tile, activation):
    # More rows, columns and slices than one tile has, and no whole number of them.
    monkeypatch.setattr(tiles, "TILES", (tile,))
    monkeypatch.setattr(
        convolution, "choose_tile", tiles.choose_tile.__wrapped__
    )  # remembers nothing
    channels = tile.columns + 4
    p = sizes((1, 13, 11, channels), (3, 2, channels, channels), padding=((1, 1), (1, 0)))
    kernels = check_in_any_order(p, np.float32, activation)
    assert all(tile.name("float") in k for k in kernels if k.startswith("conv2d"))
    assert {k.split("<")[0] for k in kernels} >= {
        "conv2d",
        "conv2d_grad_input",
        "conv2d_grad_weight",
    }


STRIP = tiles.STRIP.name("float")
NARROW = tiles.TILES[-1].name("float")
ODD = {kind: tile.name(kind) for kind, tile in tiles.ODD.items()}

# What each kernel is for, with an activation: the convolution, its dtype, and what it gets.
KERNELS = {
    "stride and dilation": (
        sizes(
            (2, 11, 9, 32),
            (3, 2, 16, 72),
            stride=(2, 3),
            padding=((2, 1), (0, 1)),
            dilation=(1, 2),
            groups=2,
        ),
        np.float32,
        ["conv2d<Tile", "conv2d_grad_input<Tile", "conv2d_grad_weight<Tile"],
    ),
    "many phases, some of no taps": (
        sizes((1, 13, 12, 8), (2, 2, 8, 4), stride=(5, 3), dilation=(5, 2)),
        np.float32,
        [f"conv2d<{STRIP}", f"conv2d_grad_input<{STRIP}"],
    ),
    "a large window": (
        sizes((1, 12, 14, 4), (11, 11, 4, 12), padding=((5, 5), (4, 0))),
        np.float32,
        ["conv2d<Tile", f"conv2d_grad_input<{STRIP}"],
    ),
    "few outputs": (
        sizes((2, 9, 16, 12), (3, 3, 12, 3), padding=SAME),
        np.float32,
        [f"conv2d<{STRIP}, 4, 1>", f"conv2d_grad_weight<{NARROW}, 4, 1, true>"],
    ),
    "small groups": (
        sizes((2, 7, 9, 20), (3, 3, 4, 40), padding=SAME, groups=5),
        np.float32,
        [f"conv2d<{STRIP}", f"conv2d_grad_input<{STRIP}"],
    ),
    "odd channels": (
        sizes((2, 11, 9, 15), (3, 2, 5, 33), stride=(3, 1), padding=((2, 1), (0, 1)), groups=3),
        np.float32,
        [
            f"{k}<{ODD['float']}, 1, 1"
            for k in ("conv2d", "conv2d_grad_input", "conv2d_grad_weight")
        ],
    ),
    "float64": (
        sizes((2, 11, 9, 8), (3, 2, 4, 40), stride=(2, 1), dilation=(2, 2), groups=2),
        np.float64,
        [
            f"{k}<{ODD['double']}, 1, 1"
            for k in ("conv2d", "conv2d_grad_input", "conv2d_grad_weight")
        ],
    ),
    "three channels": (
        sizes((2, 13, 37, 3), (3, 3, 3, 40), padding=SAME),
        np.float32,
        ["conv2d_few_channels<float, 3, 1>", "conv2d_few_channels_grad_weight<float, 3, 1, true>"],
    ),
    "three channels, strided": (
        sizes((1, 13, 37, 3), (3, 5, 3, 36), stride=(2, 2), padding=SAME, dilation=(2, 1)),
        np.float32,
        ["conv2d_few_channels<float, 3, 2>", "conv2d_few_channels_grad_weight<float, 3, 2, true>"],
    ),
    "one channel": (
        sizes((3, 9, 9, 1), (5, 5, 1, 8), padding=SAME),
        np.float32,
        ["conv2d_few_channels<float, 1, 1>", "conv2d_few_channels_grad_weight<float, 1, 1, true>"],
    ),
    "depthwise": (
        sizes((2, 9, 11, 36), (3, 3, 1, 36), padding=SAME, groups=36),
        np.float32,
        ["depthwise<float, 4>", "depthwise_grad_input<float, 4, true>"],
    ),
    "depthwise, strided and dilated": (
        sizes((2, 9, 17, 6), (5, 6, 1, 6), stride=(2, 3), padding=SAME, dilation=(1, 2), groups=6),
        np.float64,
        ["depthwise<double, 2>", "depthwise_grad_weight<double, 2, true>"],
    ),
    "depthwise with a multiplier": (
        sizes((2, 9, 11, 5), (5, 3, 1, 15), stride=(1, 2), padding=SAME, groups=5),
        np.float32,
        ["depthwise<float, 1>", "depthwise_grad_weight<float, 1, true>"],
    ),
    "a single pixel": (
        sizes((2, 9, 7, 12), (1, 1, 12, 20)),
        np.float32,
        ["matmul<Tile"],
    ),
    "the whole image": (
        sizes((5, 4, 3, 8), (4, 3, 8, 12)),
        np.float32,
        ["matmul<Tile"],
    ),
}


# Among them are all ways to copy to shared memory, which is what differs between architectures.
ON_OLDER_GPUS = ["stride and dilation", "odd channels", "float64", "three channels"]


@pytest.mark.parametrize(
    ("name", "arch"),
    [*((name, "sm_90") for name in KERNELS), *((name, "sm_75") for name in ON_OLDER_GPUS)],
)
def test_each_kernel_is_right_in_any_order(name, arch):
    p, dtype, wanted = KERNELS[name]
    kernels = check_in_any_order(p, dtype, "sigmoid", arch)
    for kernel in wanted:
        assert any(k.startswith(kernel) for k in kernels), kernels


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_long_sums_are_cut_into_parts_that_are_added_up_in_order(dtype, groups):
    # Along x every other pixel meets one tap of the three, the others two: some parts are empty.
    p = sizes(
        (2, 8, 9, 32 * groups),
        (5, 3, 32, 32 * groups),
        stride=(1, 2),
        padding=((2, 2), (1, 1)),
        groups=groups,
    )
    kernels = check_in_any_order(p, dtype, "sigmoid")
    cut = [before for before, kernel in pairwise(kernels) if kernel.startswith("sum_splits")]
    assert {k.split("<")[0] for k in cut} >= {"conv2d", "conv2d_grad_input"}


@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_is_right_without_an_activation(name):
    p, dtype, _ = KERNELS[name]
    arrays = p.arrays(np.random.default_rng(1), dtype, "none")
    check(Recording("fast"), p, arrays, "none")


def test_the_weights_gradient_is_summed_up_in_parts_too():
    p = sizes((4, 20, 21, 8), (3, 3, 8, 16), padding=SAME)
    assert "sum_splits<float>" in check_in_any_order(p, np.float32, "relu")


# --- any sizes ------------------------------------------------------------------------------------


@st.composite
def any_sizes(draw):
    small = st.integers(1, 5)
    kh, kw = draw(small), draw(small)
    kind = draw(st.sampled_from(["packs", "odd", "few", "depthwise"]))
    groups = draw(st.integers(1, 3))
    if kind == "packs":
        channels, outputs = 4 * draw(st.integers(1, 6)), 4 * draw(st.integers(1, 6))
    elif kind == "odd":
        channels, outputs = draw(st.integers(1, 10)), draw(st.integers(1, 20))
    elif kind == "few":
        groups, channels, outputs = 1, draw(st.sampled_from([1, 3])), 4 * draw(st.integers(1, 10))
    else:
        groups, channels = draw(st.integers(2, 9)), 1
        outputs = draw(st.sampled_from([1, 1, 3]))
    strides = st.integers(1, 2 if kind == "few" else 4)
    stride, dilation = (draw(strides), draw(strides)), (draw(st.integers(1, 3)), draw(small))
    sides = st.integers(0, 4)
    padding = tuple((draw(sides), draw(sides)) for _ in range(2))
    least = [d * (k - 1) + 1 - sum(p) for d, k, p in zip(dilation, (kh, kw), padding, strict=True)]
    h, w = (draw(st.integers(max(n, 1), max(n, 1) + 12)) for n in least)
    n = draw(st.sampled_from([1, 2, 3, 0]))
    return sizes(
        (n, h, w, groups * channels),
        (kh, kw, channels, groups * outputs),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(any_sizes(), generators(), st.sampled_from([np.float32, np.float64]), st.sampled_from(FUSED))
def test_any_sizes_agree_with_the_reference(p, rng, dtype, activation):
    arrays = p.arrays(rng, dtype, activation)
    check(Recording("check", order="random", seed=2), p, arrays, activation)


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
@pytest.mark.parametrize(
    ("side", "channels", "outputs"), [(64, 3, 32), (32, 32, 64), (16, 64, 128)]
)
def test_layers_of_a_network_agree_with_the_reference(arch, side, channels, outputs):
    p = sizes((2, side, side, channels), (3, 3, channels, outputs), padding=SAME)
    arrays = p.arrays(np.random.default_rng(0), np.float32, "relu")
    results = check(Recording("fast", arch), p, arrays, "relu")
    again = computed(convolution, (Recording("fast", arch),), p, arrays, "relu")
    same_bits(results, again)


# --- edges ----------------------------------------------------------------------------------------

WAYS = ["stride and dilation", "few outputs", "odd channels", "three channels", "depthwise"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", WAYS)
def test_what_is_no_number_reaches_the_results_it_is_part_of_and_no_others(name, value):
    p, dtype, _ = KERNELS[name]
    x, weight, bias, grad_output, _ = p.arrays(np.random.default_rng(0), dtype, "none")
    for h, w in [(0, 0), (p.input_shape[1] - 1, p.input_shape[2] - 1)]:
        x[:] = 1
        x[-1, h, w, 0] = value
        check(Recording("fast"), p, (x, weight, bias, grad_output, None), "none")


@pytest.mark.parametrize("name", ["few outputs", "three channels", "depthwise"])
def test_arrays_that_do_not_begin_at_whole_packs_are_right_too(name):
    p, dtype, _ = KERNELS[name]
    arrays = []
    for array in p.arrays(np.random.default_rng(0), dtype, "relu"):
        memory = np.empty(array.size + 1, dtype)
        moved = memory[1:].reshape(array.shape)
        moved[...] = array
        arrays.append(moved)
    check(Recording("check"), p, arrays, "relu")


@pytest.mark.parametrize(
    "p",
    [
        sizes((0, 5, 6, 4), (3, 3, 4, 8)),
        sizes((2, 5, 6, 0), (3, 3, 0, 8)),
        sizes((2, 5, 6, 4), (3, 3, 4, 0)),
        sizes((2, 5, 6, 0), (1, 1, 0, 8)),
    ],
    ids=["no images", "no channels", "no outputs", "no channels, one pixel"],
)
def test_empty_axes_are_no_special_case(p):
    arrays = p.arrays(np.random.default_rng(0), np.float32, "relu")
    check(Recording("check"), p, arrays, "relu")


@pytest.mark.parametrize(
    "p",
    [
        sizes((1, 5, 6, 4), (3, 3, 4, 8), stride=(2**31, 7), padding=SAME),
        sizes((1, 5, 6, 4), (1, 1, 4, 8), dilation=(2**31, 9), padding=SAME),
        sizes((2, 3, 4, 2), (2, 1, 1, 2), stride=(99, 99), dilation=(1, 2**20), groups=2),
    ],
    ids=["stride", "dilation", "depthwise"],
)
def test_steps_far_beyond_the_image_are_right(p):
    arrays = p.arrays(np.random.default_rng(0), np.float32, "none")
    check(Recording("check"), p, arrays, "none")


@pytest.mark.parametrize(
    ("image", "kernel", "stride", "what"),
    [
        ((1, 2**14, 2**14, 8), (3, 3, 8, 4), 1, "an image with its padding"),
        ((2, 1, 2**29, 1), (1, 1, 1, 4), 2**29, "a slice of windows"),
        ((1, 2**12, 2**12, 4), (3, 3, 4, 2**8), 1, "a result's image"),
        ((1, 2**15, 2**13, 1), (2**15 - 1, 1, 1, 16), 1, "what a pixel takes part in"),
        ((1, 4, 4, 2**14), (3, 3, 2**14, 2**14), 1, "the weight"),
        ((2**20, 2**6, 2**6, 1), (3, 3, 1, 4), 1, "the pixels of all images"),
    ],
)
def test_sizes_that_kernels_cannot_count_are_refused(image, kernel, stride, what):
    x, weight = (np.broadcast_to(np.float32(0), shape) for shape in (image, kernel))
    window = Window(kernel[:2], (stride, stride))
    grad = np.broadcast_to(np.float32(0), Sizes(image, kernel, window).output_shape)
    launcher = Recording("fast")
    for call in (
        lambda: convolution.conv2d(launcher, x, weight, None, window, 1),
        lambda: convolution.conv2d_grad_input(launcher, grad, weight, image, window, 1),
        lambda: convolution.conv2d_grad_weight(launcher, grad, x, kernel, window, 1),
    ):
        with pytest.raises(ValueError, match=f"conv2d: {what} has too many elements"):
            call()
    assert not launcher.kernels
