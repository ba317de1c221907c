"""Convolutions of every kind, and their gradients, against the reference in float64."""

from dataclasses import dataclass

import numpy as np
import pytest
from agreement import (
    FUSED,
    REFERENCE,
    Inputs,
    around,
    check,
    each_backend,
    each_cpu_backend,
    each_dtype,
    each_fast_backend,
    run,
)
from devices import drawn
from hypothesis import strategies as st

from tinygrad_mask.backends import Window
from tinygrad_mask.backends.cpu_kernels import is_winograd_enabled, set_num_threads, set_winograd


@dataclass
class Convolution:
    """Shapes of a convolution."""

    input_shape: tuple[int, int, int, int]
    weight_shape: tuple[int, int, int, int]
    window: Window
    groups: int

    @property
    def output_shape(self):
        n, h, w, _ = self.input_shape
        return n, *self.window.output_size(h, w), self.weight_shape[3]

    @property
    def terms(self):
        """How many products make an output, and how many an element of the weight's gradient."""
        kh, kw, channels, _ = self.weight_shape
        n, p, q, _ = self.output_shape
        return kh * kw * channels, n * p * q


KINDS = ["tiles", "winograd", "rows", "1x1", "few", "grouped", "depthwise", "strided", "long"]


@st.composite
def convolutions(draw, kind):
    """Shapes for one of the ways in which a convolution is computed, and for the edges of it."""
    small = st.integers(1, 5)
    n, groups = draw(st.integers(1, 3)), 1
    kh, kw = (3, 3) if kind == "long" else (draw(small), draw(small))
    sh = sw = dh = dw = 1
    h, w = draw(st.integers(1, 14)), draw(around(1, 4, 6, 8, 12, 16, 18))
    channels, outputs = draw(st.integers(1, 20)), draw(around(1, 4, 8, 16, 32))
    sides = st.integers(0, 2)
    if kind == "winograd":  # that algorithm begins at some number of channels, and ends with some
        kh = kw = draw(st.sampled_from([2, 3, 3, 5]))
        groups = draw(st.sampled_from([1, 1, 2]))
        channels, outputs = draw(around(16, 32, 48)), draw(around(8, 16, 24, 32, 40, 64))
        dh, dw = (draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(2))
        if draw(st.booleans()):  # of two taps each way, as a quarter of the input gradient is
            kh = kw = 3
            sh = sw = 2
            dh = dw = 1
            h, w = h + 16, w + 16
    elif kind == "rows":  # Winograd's algorithm along them: if neighbours make 3 or 4 taps
        kh, sw = draw(st.integers(5, 8)), draw(st.integers(1, 4))
        kw = draw(st.sampled_from([3, 4, 3, 4, 7])) * sw - draw(st.integers(0, sw - 1))
        sh, dh = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2]))
        groups = draw(st.sampled_from([1, 1, 2]))
        channels = draw(st.integers(-(-40 // (kh * sw)), max(16 // sw, 1)))
        outputs, w = draw(around(16, 24, 32)), sw * (24 + draw(st.integers(0, 9))) + kw
    elif kind == "1x1":
        kh = kw = 1
        sides = st.sampled_from([0, 0, 1])
        channels = draw(around(1, 8, 64))
    elif kind == "few":  # outputs, or inputs, which are those of the gradient
        groups = draw(st.sampled_from([1, 1, 2]))
        channels, outputs = draw(around(8, 16, 32)), draw(st.integers(1, 5))
        if draw(st.booleans()):
            channels, outputs = outputs, channels
        sh, sw, dh, dw = (draw(st.integers(1, 2)) for _ in range(4))
    elif kind == "grouped":
        groups = draw(st.integers(2, 4))
        channels, outputs = draw(st.integers(1, 9)), draw(around(1, 4, 8, 16))
    elif kind == "depthwise":  # of one output a channel, and of several
        groups, channels = draw(around(2, 4, 8, 16, 32)), 1
        outputs = draw(st.sampled_from([1, 1, 1, 2]))
        sh, sw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        kh, kw = draw(st.sampled_from([3, 3, 2, 5])), draw(st.sampled_from([3, 3, 3, 1, 2, 5]))
        dh, dw = (draw(st.sampled_from([1, 1, 1, 2])) for _ in range(2))
    elif kind == "strided":
        sh, sw, dh, dw = draw(small), draw(small), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        sides = st.integers(0, 7)
    elif kind == "long":  # the weights of a panel are more than are multiplied at once
        channels, outputs = draw(around(230, 300)), draw(around(8, 16))
        n, h, w, sw = 1, draw(small), draw(small), 2
    padding = tuple((draw(sides), draw(sides)) for _ in range(2))
    h = max(h, dh * (kh - 1) + 1 - sum(padding[0]))
    w = max(w, dw * (kw - 1) + 1 - sum(padding[1]))
    n = draw(st.sampled_from([n, n, n, n, 0]))
    return Convolution(
        (n, h, w, groups * channels),
        (kh, kw, channels, groups * outputs),
        Window((kh, kw), (sh, sw), padding, (dh, dw)),
        groups,
    )


def check_convolution(backend, dtype, s, x, weight, bias, activation, grad_output, y, *, errs=1):
    """Check a convolution and, from the output `y` of its activation, its gradients, where the
    algorithm may err so many times as much as direct convolution.
    """
    taps, pixels = (errs * terms for terms in s.terms)
    check(backend, dtype, taps, "conv2d", x, weight, bias, s.window, s.groups, activation)
    rest = s.window, s.groups, activation, y
    gathered = taps // s.weight_shape[2] * (s.weight_shape[3] // s.groups)
    check(backend, dtype, gathered, "conv2d_grad_input", grad_output, weight, s.input_shape, *rest)
    check(backend, dtype, pixels, "conv2d_grad_weight", grad_output, x, s.weight_shape, *rest)


@each_backend
@each_dtype
@pytest.mark.parametrize("kind", KINDS)
@drawn(share=4)
def test_convolution_and_its_gradients_agree(backend, dtype, kind, data):
    set_num_threads(data.draw(st.sampled_from([1, 2, 3])))
    s = data.draw(convolutions(kind))
    inputs = Inputs(data.draw, dtype)
    x, weight = inputs.normal(*s.input_shape), inputs.normal(*s.weight_shape)
    bias = data.draw(st.sampled_from([None, inputs.normal(s.weight_shape[3])]))
    activation = data.draw(st.sampled_from(FUSED))
    grad_output, y = inputs.normal(*s.output_shape), None
    if activation != "none":
        y = inputs.put(getattr(REFERENCE, activation)(inputs.normal(*s.output_shape)))
    errs = 4 if kind in ("winograd", "rows") and dtype == np.float32 else 1
    check_convolution(backend, dtype, s, x, weight, bias, activation, grad_output, y, errs=errs)


@each_fast_backend
@each_dtype
@pytest.mark.parametrize("groups", [1, 2])
def test_large_images_that_are_cut_into_many_parts_agree(backend, dtype, groups):
    rng = np.random.default_rng(1)
    channels, outputs = 40, 34
    s = Convolution(
        (3, 62, 59, groups * channels),
        (3, 3, channels, groups * outputs),
        Window((3, 3), padding=((1, 1), (1, 0))),
        groups,
    )
    x = rng.standard_normal(s.input_shape).astype(dtype)
    weight = rng.standard_normal(s.weight_shape).astype(dtype)
    bias = rng.standard_normal(groups * outputs).astype(dtype)
    grad_output = rng.standard_normal(s.output_shape).astype(dtype)
    y = np.tanh(rng.standard_normal(s.output_shape)).astype(dtype)
    check_convolution(backend, dtype, s, x, weight, bias, "tanh", grad_output, y)


@each_cpu_backend
@each_dtype
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_results_beyond_the_caches_agree(backend, dtype, stride):
    set_num_threads(3)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 261, 259, 32)).astype(dtype)
    weight = rng.standard_normal((3, 3, 1, 32)).astype(dtype)
    window = Window((3, 3), (stride, stride), padding=((1, 1), (0, 1)))
    [y] = check(backend, dtype, 9, "conv2d", x, weight, None, window, 32)
    check(backend, dtype, 9, "conv2d_grad_input", y, weight, x.shape, window, 32)


@each_backend
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_reaches_the_results_it_is_part_of_and_no_others(backend, value):
    x, weight = np.ones((2, 9, 9, 3), np.float32), np.ones((2, 3, 3, 5), np.float32)
    x[1, 4, 5, 1] = value
    window = Window((2, 3), padding=((1, 0), (1, 1)))
    check(backend, np.float32, 18, "conv2d", x, weight, None, window, 1)


# --- Winograd's algorithm ------------------------------------------------------------------------


def root_mean_square(array):
    return np.sqrt(np.mean(np.square(array, dtype=np.float64)))


@each_cpu_backend
@pytest.mark.parametrize("kernel", [(7, 7, 3), (11, 11, 3), (6, 5, 4), (7, 8, 3)])
def test_winograd_along_rows_errs_at_most_four_times_as_much_as_direct_convolution(backend, kernel):
    # With two more columns of zero taps, or more, it takes too many neighbours to be one of those.
    kh, kw, channels = kernel
    stride = -(-kw // 4)
    rng = np.random.default_rng(kw)
    x = rng.standard_normal((2, 20, 40 * stride, channels)).astype(np.float32)
    weight = rng.standard_normal((kh, kw, channels, 32)).astype(np.float32)
    more = 5 * stride - kw

    def computed(device, kind, weight, padding):
        window = Window((kh, weight.shape[1]), (stride, stride), ((2, 2), padding))
        return device.conv2d(x.astype(kind), weight.astype(kind), None, window, 1)

    exact = computed(REFERENCE, np.float64, weight, (2, 1))
    fast = computed(backend, np.float32, weight, (2, 1))
    longer = np.pad(weight, ((0, 0), (0, more), (0, 0), (0, 0)))
    direct = computed(backend, np.float32, longer, (2, 1 + more))
    assert not np.array_equal(fast, direct)
    assert root_mean_square(fast - exact) <= 4 * root_mean_square(direct - exact)


@each_cpu_backend
@pytest.mark.parametrize(("channels", "outputs"), [(32, 32), (64, 128), (128, 48)])
def test_winograd_of_two_taps_errs_at_most_four_times_as_much_as_direct_convolution(
    backend, channels, outputs
):
    # Four more rows of zero taps leave no phase of the input gradient with two taps each way.
    rng = np.random.default_rng(channels)
    weight = rng.standard_normal((3, 3, channels, outputs)).astype(np.float32)
    grad_output = rng.standard_normal((2, 20, 24, outputs)).astype(np.float32)

    def computed(device, kind, weight, below):
        window = Window((len(weight), 3), (2, 2), ((1, below), (1, 1)))
        grad, weight = grad_output.astype(kind), weight.astype(kind)
        return device.conv2d_grad_input(grad, weight, (2, 40, 48, channels), window, 1)

    exact = computed(REFERENCE, np.float64, weight, 1)
    fast = computed(backend, np.float32, weight, 1)
    longer = np.pad(weight, ((0, 4), (0, 0), (0, 0), (0, 0)))
    direct = computed(backend, np.float32, longer, 5)
    assert not np.array_equal(fast, direct)
    assert root_mean_square(fast - exact) <= 4 * root_mean_square(direct - exact)


@each_cpu_backend
@pytest.mark.parametrize(
    ("side", "channels", "outputs"),
    [
        *((3, *sizes) for sizes in [(16, 16), (16, 32), (32, 16), (32, 32), (32, 128), (64, 64)]),
        *((3, *sizes) for sizes in [(128, 32), (256, 48)]),
        *((5, *sizes) for sizes in [(16, 16), (16, 32), (32, 16), (32, 64), (128, 32)]),
    ],
)
def test_winograd_errs_at_most_four_times_as_much_as_sums_taken_one_by_one(
    backend, side, channels, outputs
):
    rng = np.random.default_rng(channels + outputs)
    x = rng.standard_normal((2, 20, 24, channels)).astype(np.float32)
    weight = rng.standard_normal((side, side, channels, outputs)).astype(np.float32)
    grad_output = rng.standard_normal((2, 20, 24, outputs)).astype(np.float32)
    around = (side // 2, side // 2)
    window = Window((side, side), padding=(around, around))

    def computed(device, kind):
        x_, weight_, grad = x.astype(kind), weight.astype(kind), grad_output.astype(kind)
        y = device.conv2d(x_, weight_, None, window, 1)
        grad_input = device.conv2d_grad_input(grad, weight_, x.shape, window, 1)
        grad_weight, _ = device.conv2d_grad_weight(grad, x_, weight.shape, window, 1)
        return y, grad_input, grad_weight

    exact = computed(REFERENCE, np.float64)
    fast = computed(backend, np.float32)
    set_winograd(False)
    try:
        direct = computed(backend, np.float32)
    finally:
        set_winograd(True)
    one_by_one = added_one_by_one(x, weight, grad_output)
    for name, wanted, a, b, c in zip(
        ("output", "grad_input", "grad_weight"), exact, fast, direct, one_by_one, strict=True
    ):
        two_ways = name != "grad_weight" or side == 3
        assert np.array_equal(a, b) != two_ways, f"{name}: computed in two ways: not {two_ways}"
        # Our direct convolution adds long sums in parts, which rounds less than this.
        assert root_mean_square(b - wanted) <= 1.05 * root_mean_square(c - wanted), name
        assert root_mean_square(a - wanted) <= 4 * root_mean_square(c - wanted), name


def added_one_by_one(x, weight, grad_output):
    """Output, input gradient and weight gradient of a convolution of stride 1 with 'same' padding,
    directly, in float32: each product is added to its sum with one rounding (an FMA).
    """
    side, (n, height, width, channels) = len(weight), x.shape
    edge = side // 2
    padding = ((0, 0), (edge, edge), (edge, edge), (0, 0))
    padded = np.pad(x, padding).astype(np.float64)
    grad_padded = np.pad(grad_output, padding).astype(np.float64)
    exact_weight, exact_grad = weight.astype(np.float64), grad_output.astype(np.float64)
    output = np.zeros(grad_output.shape, np.float32)
    grad_input = np.zeros(x.shape, np.float32)
    for i in range(side):
        for j in range(side):
            rows, columns = slice(i, i + height), slice(j, j + width)
            for c in range(channels):
                met = padded[:, rows, columns, c, None] * exact_weight[i, j, c]
                output = (output + met).astype(np.float32)
            turned = exact_weight[side - 1 - i, side - 1 - j]
            for o in range(weight.shape[3]):
                met = grad_padded[:, rows, columns, o, None] * turned[:, o]
                grad_input = (grad_input + met).astype(np.float32)
    grad_weight = np.zeros(weight.shape, np.float32)
    for image in range(n):
        for row in range(height):
            for column in range(width):
                seen = padded[image, row : row + side, column : column + side, :, None]
                grad_weight = (grad_weight + seen * exact_grad[image, row, column]).astype(
                    np.float32
                )
    return output, grad_input, grad_weight


# --- without Winograd's algorithm -----------------------------------------------------------------


@pytest.fixture
def no_winograd():
    set_winograd(False)
    yield
    set_winograd(True)


@each_cpu_backend
@pytest.mark.usefixtures("no_winograd")
@pytest.mark.parametrize(
    ("side", "channels", "outputs", "stride"),
    [(3, 32, 32, 1), (3, 128, 32, 1), (5, 32, 64, 1), (3, 64, 64, 2), (7, 3, 32, 2)],
)
def test_without_winograd_the_error_is_that_of_direct_convolution(
    backend, side, channels, outputs, stride
):
    rng = np.random.default_rng(side)
    x = rng.standard_normal((2, 40, 48, channels)).astype(np.float32)
    weight = rng.standard_normal((side, side, channels, outputs)).astype(np.float32)
    edge = (side // 2, side // 2)
    window = Window((side, side), (stride, stride), (edge, edge))
    grad = rng.standard_normal((2, 40 // stride, 48 // stride, outputs)).astype(np.float32)
    results, exact = (
        (
            device.conv2d(x.astype(kind), weight.astype(kind), None, window, 1),
            device.conv2d_grad_input(grad.astype(kind), weight.astype(kind), x.shape, window, 1),
            device.conv2d_grad_weight(grad.astype(kind), x.astype(kind), weight.shape, window, 1)[
                0
            ],
        )
        for device, kind in ((backend, np.float32), (REFERENCE, np.float64))
    )
    terms = (side * side * channels, side * side * outputs, grad[..., 0].size)
    for name, got, wanted, count in zip(
        ("output", "grad_input", "grad_weight"), results, exact, terms, strict=True
    ):
        # A sum of n products of variance 1 has size sqrt(n); taken one by one its rounding errors,
        # each at most half an epsilon of a partial sum, have a variance of n^2 / 2 / 3 / 4 eps^2.
        bound = np.finfo(np.float32).eps * count / np.sqrt(24)
        assert root_mean_square(got - wanted) <= bound, name


@each_cpu_backend
def test_a_nan_spreads_further_with_winograd_and_not_without(backend, no_winograd):
    x = np.zeros((1, 20, 20, 16), np.float32)
    x[0, 9, 9, 3] = np.nan
    weight = np.ones((3, 3, 16, 16), np.float32)
    window = Window((3, 3), padding=((1, 1), (1, 1)))

    def spread():
        return int(np.isnan(backend.conv2d(x, weight, None, window, 1)[0, ..., 0]).sum())

    assert spread() == 9
    set_winograd(True)
    assert spread() > 9


def test_winograd_is_on_unless_it_is_switched_off(no_winograd):
    assert not is_winograd_enabled()
    set_winograd(True)
    assert is_winograd_enabled()


# --- repetition ----------------------------------------------------------------------------------


@each_backend
@each_dtype
@drawn(share=4)
def test_results_are_the_same_to_the_bit_when_computed_again(backend, dtype, data):
    set_num_threads(data.draw(st.sampled_from([1, 2])))
    s = data.draw(convolutions(data.draw(st.sampled_from(KINDS))))
    inputs = Inputs(data.draw, dtype)
    x, weight = inputs.normal(*s.input_shape), inputs.normal(*s.weight_shape)
    grad_output = inputs.normal(*s.output_shape)

    def everything():
        return [
            *run(backend, "conv2d", x, weight, None, s.window, s.groups),
            *run(backend, "conv2d_grad_input", grad_output, weight, x.shape, s.window, s.groups),
            *run(backend, "conv2d_grad_weight", grad_output, x, weight.shape, s.window, s.groups),
        ]

    for first, again in zip(everything(), everything(), strict=True):
        assert first.tobytes() == again.tobytes()
