"""Every kernel, of every instruction set that runs here and of the GPU, against the reference in
float64.

The error of a sum in floating point grows with its length: that of n products of numbers around 1
is some eps * n at most (the sum itself is around sqrt(n), and so is each of the n roundings), which
is far from what a single wrong product changes.
"""

from dataclasses import dataclass
from typing import Any

import devices
import numpy as np
import pytest
from devices import drawn
from hypothesis import strategies as st

from tinygrad_mask import Tensor
from tinygrad_mask.backends import Window
from tinygrad_mask.backends.cpu import get_num_threads as num_threads
from tinygrad_mask.backends.cpu import set_num_threads
from tinygrad_mask.backends.reference import ReferenceBackend
from tinygrad_mask.testing.strategies import STRATEGIES, Case, generators

REFERENCE = ReferenceBackend()
FUSED = ["none", "relu", "sigmoid", "tanh"]
LAYOUTS = ["dense", "fortran", "strided", "reversed", "offset", "unaligned", "frozen"]

each_backend = devices.each_backend()
each_fast_backend = devices.each_backend(emulator=False)
each_cpu_backend = devices.each_backend(emulator=False, gpu=False)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = num_threads()
    yield
    set_num_threads(before)


# --- arrays, and how they are compared -----------------------------------------------------------


def laid_out(array, layout):
    """Return an array that equals this one but lies otherwise in memory."""
    if layout == "fortran":
        return np.array(array, order="F")
    if layout == "strided":  # whatever is read between the elements would spoil every result
        shape, between = [2 * n + 1 for n in array.shape], np.nan if array.dtype.kind == "f" else 77
        around = np.full(shape, between, array.dtype)
        view = around[(*[slice(1, None, 2)] * array.ndim, ...)]
        view[...] = array
        return view
    if layout == "reversed":
        return np.asarray(np.flip(np.array(np.flip(array), order="C")))
    if layout == "offset":  # begins at an element, but not where a vector does
        memory = np.empty(array.size + 1, array.dtype)
        view = memory[1:].reshape(array.shape)
        view[...] = array
        return view
    if layout == "unaligned":
        memory = np.empty(array.nbytes + 1, np.uint8)[1:]
        view = memory.view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    array = np.array(array, order="C")
    array.setflags(write=layout != "frozen")
    return array


@dataclass
class Inputs:
    """Draws arrays of one dtype, each laid out in a way of its own."""

    draw: Any
    dtype: Any

    def __post_init__(self):
        self.rng = self.draw(generators())

    def normal(self, *shape):
        return self.put(self.rng.standard_normal(shape))

    def positive(self, *shape):
        return self.put(self.rng.uniform(0.3, 3, shape))

    def put(self, array):
        return laid_out(np.asarray(array, self.dtype), self.draw(st.sampled_from(LAYOUTS)))


def wide(value):
    """The same in float64, for the reference."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float64)
    return value


def run(backend, method, *arguments, **options):
    """Call a kernel, see that it leaves its inputs as they were, and return its results."""
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    arguments = [devices.put(a, backend) if isinstance(a, np.ndarray) else a for a in arguments]
    with backend.computing():
        results = getattr(backend, method)(*arguments, **options)
    for argument, copy in zip(arguments, before, strict=True):
        if isinstance(copy, np.ndarray):
            after = backend.to_host(argument)
            np.testing.assert_array_equal(after, copy, err_msg=f"{method} wrote into its input")
    results = results if isinstance(results, tuple) else (results,)
    return tuple(None if r is None else backend.to_host(r) for r in results)


def check(backend, dtype, terms, method, *arguments):
    """Compare a kernel's results with the reference's; each is a sum of so many terms."""
    results = run(backend, method, *arguments)
    expected = run(REFERENCE, method, *map(wide, arguments))
    terms = terms if isinstance(terms, tuple) else (terms,) * len(results)
    for result, reference, count in zip(results, expected, terms, strict=True):
        if reference is None:
            assert result is None
            continue
        assert result.dtype == dtype
        close(result, reference, 8 * np.finfo(dtype).eps * (count + 2))
    return results


def close(result, expected, tolerance):
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


# --- the strategies of the gradients -------------------------------------------------------------

WITH_KERNELS = [
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "leaky_relu",
    "linear",
    "matmul",
    "max_pool2d",
    "relu",
    "sigmoid",
    "silu",
    "tanh",
]


@each_backend
@each_dtype
@pytest.mark.parametrize("name", WITH_KERNELS)
@drawn(share=4)
def test_primitives_and_their_gradients_agree(backend, dtype, name, data):
    case = data.draw(STRATEGIES[name])
    layouts = [data.draw(st.sampled_from(LAYOUTS)) for _ in case.inputs]
    arrays = [
        laid_out(np.asarray(x, dtype), layout)
        for x, layout in zip(case.inputs, layouts, strict=True)
    ]
    rng = data.draw(generators())
    grad_output = None

    def outcome(device, kind):
        nonlocal grad_output
        options = {}
        for key, value in case.options.items():
            array = value.data if isinstance(value, Tensor) else value
            if getattr(array, "dtype", None) == np.float64:
                array = np.asarray(array, dtype).astype(kind)
            tensor = isinstance(value, Tensor)
            options[key] = Tensor.from_array(array, device) if tensor else array
        tensors = [Tensor.from_array(np.asarray(x, kind), device) for x in arrays]
        for tensor in tensors:
            tensor.requires_grad = True
        result = Case(name, case.inputs, options)(*tensors)
        if grad_output is None:
            grad_output = rng.standard_normal(result.shape).astype(dtype)
        result.backward(grad_output.astype(kind))
        return [device.to_host(a) for a in (result.data, *(t.grad.data for t in tensors))]

    for got, expected in zip(outcome(backend, dtype), outcome(REFERENCE, np.float64), strict=True):
        assert got.dtype == dtype
        close(got, expected, 100 * np.finfo(dtype).eps)


# --- convolution ---------------------------------------------------------------------------------


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


def around(*multiples):
    """Numbers beside which a tile or a vector ends."""
    return st.sampled_from(sorted({m + d for m in multiples for d in (-1, 0, 1)} - {0}))


KINDS = ["tiles", "3x3", "1x1", "few", "grouped", "depthwise", "strided", "long"]


@st.composite
def convolutions(draw, kind):
    """Shapes for one of the ways in which a convolution is computed, and for the edges of it."""
    small = st.integers(1, 5)
    n, groups = draw(st.integers(1, 3)), 1
    kh, kw = (3, 3) if kind in ("3x3", "depthwise", "long") else (draw(small), draw(small))
    sh = sw = dh = dw = 1
    h, w = draw(st.integers(1, 14)), draw(around(1, 4, 6, 8, 12, 16, 18))
    channels, outputs = draw(st.integers(1, 20)), draw(around(1, 4, 8, 16, 32))
    sides = st.integers(0, 2)
    if kind == "3x3":  # Winograd's algorithm begins at some number of channels, and ends with some
        groups = draw(st.sampled_from([1, 1, 2]))
        channels, outputs = draw(around(16, 32, 48)), draw(around(8, 16, 24, 32, 40, 64))
        dh, dw = (draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(2))
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
        sh, sw = draw(st.integers(1, 2)), draw(st.integers(1, 2))
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
    taps, pixels = s.terms
    check(backend, dtype, taps, "conv2d", x, weight, bias, s.window, s.groups, activation)

    grad_output, y = inputs.normal(*s.output_shape), None
    if activation != "none":
        y = inputs.put(getattr(REFERENCE, activation)(inputs.normal(*s.output_shape)))
    rest = s.window, s.groups, activation, y
    gathered = taps // s.weight_shape[2] * (s.weight_shape[3] // s.groups)
    check(backend, dtype, gathered, "conv2d_grad_input", grad_output, weight, s.input_shape, *rest)
    check(backend, dtype, pixels, "conv2d_grad_weight", grad_output, x, s.weight_shape, *rest)


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
    taps, pixels = s.terms
    rest = s.window, s.groups
    check(backend, dtype, taps, "conv2d", x, weight, bias, *rest, "tanh")
    rest = *rest, "tanh", y
    check(backend, dtype, taps, "conv2d_grad_input", grad_output, weight, s.input_shape, *rest)
    check(backend, dtype, pixels, "conv2d_grad_weight", grad_output, x, s.weight_shape, *rest)


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
@pytest.mark.parametrize(
    ("channels", "outputs"), [(32, 32), (32, 128), (64, 64), (128, 32), (256, 48)]
)
def test_winograd_errs_at_most_four_times_as_much_as_direct_convolution(backend, channels, outputs):
    # A row of zero taps below a window of 3 x 3 changes no result, and is none of Winograd's.
    rng = np.random.default_rng(channels + outputs)
    x = rng.standard_normal((2, 20, 24, channels)).astype(np.float32)
    weight = rng.standard_normal((3, 3, channels, outputs)).astype(np.float32)
    longer = np.pad(weight, ((0, 1), (0, 0), (0, 0), (0, 0)))
    grad_output = rng.standard_normal((2, 20, 24, outputs)).astype(np.float32)
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    longer_window = Window((4, 3), padding=((1, 2), (1, 1)))

    def computed(device, kind, weight, window):
        x_, weight, grad = x.astype(kind), weight.astype(kind), grad_output.astype(kind)
        y = device.conv2d(x_, weight, None, window, 1)
        grad_input = device.conv2d_grad_input(grad, weight, x.shape, window, 1)
        grad_weight, _ = device.conv2d_grad_weight(grad, x_, weight.shape, window, 1)
        return y, grad_input, grad_weight[:3]

    exact = computed(REFERENCE, np.float64, weight, window)
    fast = computed(backend, np.float32, weight, window)
    direct = computed(backend, np.float32, longer, longer_window)
    for name, wanted, a, b in zip(
        ("output", "grad_input", "grad_weight"), exact, fast, direct, strict=True
    ):
        assert not np.array_equal(a, b), f"{name}: this was not computed in two ways"
        assert root_mean_square(a - wanted) <= 4 * root_mean_square(b - wanted), name


# --- matrix products -----------------------------------------------------------------------------

sizes = st.one_of(st.integers(0, 20), around(32, 48, 64, 240, 256, 320, 512))


@each_backend
@each_dtype
@drawn(share=4)
def test_linear_maps_and_their_gradients_agree(backend, dtype, data):
    set_num_threads(data.draw(st.sampled_from([1, 2, 3])))
    m, k, n = (data.draw(sizes) for _ in range(3))
    inputs = Inputs(data.draw, dtype)
    x, weight = inputs.normal(m, k), inputs.normal(k, n)
    bias = data.draw(st.sampled_from([None, inputs.normal(n)]))
    activation = data.draw(st.sampled_from(FUSED))
    check(backend, dtype, k, "linear", x, weight, bias, activation)
    y = None
    if activation != "none":
        y = inputs.put(getattr(REFERENCE, activation)(inputs.normal(m, n)))
    needed = tuple(data.draw(st.tuples(*[st.booleans()] * 3)))
    arguments = inputs.normal(m, n), x, weight, activation, y, needed
    check(backend, dtype, (n, m, m), "linear_grad", *arguments)


@each_backend
@each_dtype
@drawn(share=4)
def test_products_of_transposed_matrices_and_of_stacks_agree(backend, dtype, data):
    m, k, n = (data.draw(sizes) for _ in range(3))
    inputs = Inputs(data.draw, dtype)
    x = data.draw(st.sampled_from([inputs.normal(m, k), inputs.normal(k, m).T]))
    y = data.draw(st.sampled_from([inputs.normal(k, n), inputs.normal(n, k).T]))
    check(backend, dtype, k, "matmul", x, y)
    stack = data.draw(st.integers(0, 2))
    check(backend, dtype, 3, "matmul", inputs.normal(stack, 2, 3), inputs.normal(stack, 3, 4))


# --- pooling -------------------------------------------------------------------------------------


@st.composite
def pools(draw):
    """An image's shape and a window over it, which may have more taps than a byte can number."""
    kh, kw = draw(st.one_of(st.tuples(*[st.integers(1, 4)] * 2), st.sampled_from([(16, 17)])))
    pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
    stride, dilation = draw(pairs), draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    rows, columns = st.integers(0, kh), st.integers(0, kw)  # windows of nothing but padding, too
    padding = (draw(rows), draw(rows)), (draw(columns), draw(columns))
    h = max(draw(st.integers(1, 9)), dilation[0] * (kh - 1) + 1 - sum(padding[0]))
    w = max(draw(st.integers(1, 9)), dilation[1] * (kw - 1) + 1 - sum(padding[1]))
    shape = draw(st.integers(0, 2)), h, w, draw(st.one_of(st.just(0), around(1, 4, 8, 16)))
    return shape, Window((kh, kw), stride, padding, dilation)


@each_backend
@each_dtype
@drawn()
def test_maxima_are_those_of_the_reference_to_the_bit(backend, dtype, data):
    shape, window = data.draw(pools())
    inputs = Inputs(data.draw, dtype)
    # Few values, so that most maxima are ties; sometimes with NaN and infinities among them.
    values = [0.0, 1.0, 2.0, -1.0]
    values += data.draw(st.sampled_from([[], [-np.inf], [np.nan, -np.inf], [np.inf, np.nan]]))
    x = inputs.put(inputs.rng.choice(np.array(values), shape))
    y, taps = run(backend, "max_pool2d", x, window)
    expected, expected_taps = run(REFERENCE, "max_pool2d", x, window)
    assert (y.dtype, taps.dtype) == (dtype, expected_taps.dtype)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(taps, expected_taps)
    taps = laid_out(taps, data.draw(st.sampled_from(LAYOUTS)))
    grad_output = inputs.normal(*y.shape)
    terms = window.size[0] * window.size[1]
    check(backend, dtype, terms, "max_pool2d_grad", grad_output, taps, shape, window)


@each_backend
@each_dtype
@drawn()
def test_means_and_their_gradients_agree(backend, dtype, data):
    shape, window = data.draw(pools())
    inputs = Inputs(data.draw, dtype)
    count_padding = data.draw(st.booleans())
    terms = window.size[0] * window.size[1]
    x, n = inputs.normal(*shape), shape[0]
    check(backend, dtype, terms, "avg_pool2d", x, window, count_padding)
    grad_output = inputs.normal(n, *window.output_size(*shape[1:3]), shape[3])
    check(backend, dtype, terms, "avg_pool2d_grad", grad_output, shape, window, count_padding)


@each_backend
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_are_pooled_and_rectified_as_in_the_reference(backend, dtype):
    x = np.random.default_rng(0).integers(0, 2, (1, 6, 6, 3)).astype(dtype)
    window = Window((2, 2), (2, 2))
    for result, expected in zip(
        run(backend, "max_pool2d", x, window), run(REFERENCE, "max_pool2d", x, window), strict=True
    ):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    if dtype != np.bool_:
        [result] = run(backend, "relu", x)
        np.testing.assert_array_equal(result, x)


# --- activations ---------------------------------------------------------------------------------

FUNCTIONS = ["sigmoid", "tanh", "relu", "silu"]


def all_kinds_of_numbers(dtype):
    """Numbers of either sign and every exponent, denormal ones and those that are none included."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    exponents = np.arange(info.minexp - info.nmant - 1, info.maxexp)
    mantissas = rng.uniform(1, 2, (len(exponents), 40))
    numbers = np.ldexp(mantissas, exponents[:, None]).astype(dtype).ravel()
    usual = np.linspace(0, 120, 40_001).astype(dtype)  # where none of the functions is constant
    special = np.array([0, info.tiny, info.max, 1, np.inf, np.nan], dtype)
    return np.concatenate([numbers, -numbers, usual, -usual, special, -special])


def units_in_the_last_place(result, expected):
    """How far results are from those computed in a wider type, by the spacing of their own type."""
    narrow = expected.astype(result.dtype)
    same = (result == narrow) | (np.isnan(result) & np.isnan(narrow))
    with np.errstate(all="ignore"):
        distance = np.abs(result - expected) / np.spacing(np.abs(narrow))
    return np.where(same, 0, distance)


@each_backend
@each_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_are_exact_to_a_few_units_in_the_last_place(backend, dtype, name):
    x = all_kinds_of_numbers(dtype)
    [result] = run(backend, name, x)
    with REFERENCE.computing():
        expected = getattr(REFERENCE, name)(x.astype(np.longdouble))
    ulps = units_in_the_last_place(result, expected)
    # An exponential that would be less than the smallest normal number may become that, or 0.
    least = np.finfo(dtype).smallest_normal
    if backend.name != "cpu" and dtype == np.float32:  # compiled to compute without denormal ones
        ulps = np.where((np.abs(expected) < least) & (result == 0), 0, ulps)
    if name in ("sigmoid", "silu"):
        with REFERENCE.computing():
            lost = least * (np.abs(x) if name == "silu" else 1)
            ulps = np.where(np.abs(result - expected) <= lost, 0, ulps)
    worst = np.argmax(ulps)
    assert ulps[worst] <= (0 if name == "relu" else 4), (x[worst], result[worst], expected[worst])


@each_backend
@each_dtype
@pytest.mark.parametrize("name", [*FUNCTIONS, "leaky_relu"])
@drawn(share=4)
def test_activations_and_their_gradients_agree(backend, dtype, name, data):
    inputs = Inputs(data.draw, dtype)
    shape = data.draw(st.sampled_from([(), (0,), (1,), (3, 5), (2, 0, 3), (1, 7, 1), (131,)]))
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0])
    kept = inputs.rng.standard_normal(shape)
    kept = inputs.put(np.where(inputs.rng.random(shape) < 0.3, inputs.rng.choice(special), kept))
    slope = (data.draw(st.sampled_from([0.0, 0.25, -0.5])),) if name == "leaky_relu" else ()
    check(backend, dtype, 4, name, kept, *slope)
    grad_output = inputs.put(
        np.where(inputs.rng.random(shape) < 0.2, inputs.rng.choice(special), inputs.normal(*shape))
    )
    check(backend, dtype, 4, f"{name}_grad", grad_output, kept, *slope)


@each_backend
@each_dtype
@pytest.mark.parametrize("size", [1 << 16, (1 << 17) + 5])
def test_long_arrays_that_threads_share_agree(backend, dtype, size):
    set_num_threads(3)
    x = np.linspace(-9, 9, size, dtype=dtype)
    check(backend, dtype, 4, "sigmoid", x)
    check(backend, dtype, 4, "silu_grad", x[::-1], x)


@each_cpu_backend
@each_dtype
def test_arrays_beyond_the_caches_agree(backend, dtype):
    set_num_threads(3)
    x = np.linspace(-9, 9, (16 << 20) // np.dtype(dtype).itemsize + 5, dtype=dtype)
    check(backend, dtype, 4, "sigmoid", x)
    check(backend, dtype, 4, "silu_grad", x[::-1], x)


# --- normalisation and loss ----------------------------------------------------------------------


@each_backend
@each_dtype
@drawn(share=4)
def test_batch_normalisation_agrees(backend, dtype, data):
    set_num_threads(data.draw(st.sampled_from([1, 2])))
    inputs = Inputs(data.draw, dtype)
    leading = data.draw(st.sampled_from([(1,), (2,), (3, 1, 4), (2, 5, 5), (255,), (257,), (600,)]))
    c, rows = data.draw(around(1, 4, 8, 16, 32)), int(np.prod(leading))
    offset = data.draw(st.sampled_from([0.0, 100.0]))  # a mean far from 0 must not spoil a variance
    x = inputs.put(offset + inputs.rng.standard_normal((*leading, c)))
    mean, variance = run(backend, "batch_norm_statistics", x)
    expected_mean, expected_variance = run(REFERENCE, "batch_norm_statistics", wide(x))
    tolerance = 4 * np.finfo(dtype).eps * np.sqrt(rows + 16)
    close(mean, expected_mean, tolerance)
    close(variance, expected_variance, tolerance)

    weight, bias = inputs.normal(c), inputs.normal(c)
    mean, scale = inputs.put(expected_mean), inputs.positive(c)
    scaled = 4 * (1 + offset)  # x - mean cancels what the two have in common, but not its rounding
    check(backend, dtype, scaled, "batch_norm", x, weight, bias, mean, scale)
    arguments = inputs.normal(*leading, c), x, weight, mean, scale, data.draw(st.booleans())
    terms = 4 * rows + scaled
    check(backend, dtype, terms, "batch_norm_grad", *arguments)


@each_backend
@each_dtype
@drawn(share=4)
def test_cross_entropy_agrees(backend, dtype, data):
    inputs = Inputs(data.draw, dtype)
    n = data.draw(st.sampled_from([1, 2, 7, 3000]))
    classes = data.draw(st.sampled_from([1, 2, 3, 8, 17] if n > 7 else [1, 3, 16, 1000]))
    spread = data.draw(st.sampled_from([1.0, 30.0, 1e4]))
    logits = inputs.put(spread * inputs.rng.standard_normal((n, classes)))
    target = inputs.rng.integers(min(classes, 256), size=n)
    target = target.astype(data.draw(st.sampled_from([np.int64, np.int32, np.uint8])))
    weight = data.draw(st.sampled_from([None, inputs.positive(classes)]))
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    terms = np.sqrt(n) + classes + 4, classes + 4  # of the loss, of the gradient
    check(backend, dtype, terms, "cross_entropy", logits, target, weight, smoothing)


@each_backend
@each_dtype
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("places", [[0], [1], [2], [0, 1, 2]])
def test_cross_entropy_of_what_is_no_number_is_that_of_the_reference(backend, dtype, value, places):
    logits = np.array([[1.0, 2.0, 3.0], [0.5, -0.5, 0.0]], dtype)
    logits[0, places] = value
    check(backend, dtype, 8, "cross_entropy", logits, np.array([1, 2]), None, 0.1)


# --- updates -------------------------------------------------------------------------------------


@st.composite
def parameters(draw, dtype, count):
    """Lists of arrays, `count` for each parameter: parameters, gradients, and what is kept."""
    inputs = Inputs(draw, dtype)
    sides = st.sampled_from([(), (0,), (1,), (3, 5), (2, 1, 9), (1 << 16,)])
    shapes = draw(st.lists(sides, min_size=1, max_size=3))
    writeable = st.sampled_from([name for name in LAYOUTS if name != "frozen"])

    def arrays(values):
        return [laid_out(np.asarray(values(s), dtype), draw(writeable)) for s in shapes]

    lists = [arrays(inputs.rng.standard_normal) for _ in range(count - 1)]
    return [*lists, arrays(lambda shape: inputs.rng.uniform(0.1, 2, shape))]


def check_update(backend, dtype, method, lists, **options):
    """Update in place with the kernels and with the reference, and compare all that changed."""
    expected = [None if arrays is None else [wide(a).copy() for a in arrays] for arrays in lists]
    lists = [
        None if arrays is None else [devices.put(a, backend) for a in arrays] for arrays in lists
    ]
    with backend.computing():
        getattr(backend, method)(*lists, **options)
        getattr(REFERENCE, method)(*expected, **options)
    for arrays, references in zip(lists, expected, strict=True):
        for array, reference in zip(arrays or (), references or (), strict=True):
            assert array.dtype == dtype
            close(backend.to_host(array), reference, 16 * np.finfo(dtype).eps)


@each_backend
@each_dtype
@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(None, False), (0.0, False), (0.9, False), (0.9, True)]
)
@drawn(share=4)
def test_sgd_updates_agree(backend, dtype, momentum, nesterov, data):
    values, gradients, velocities = data.draw(parameters(dtype, 3))
    options = {"lr": 0.3, "momentum": momentum or 0.0, "nesterov": nesterov}
    options["weight_decay"] = data.draw(st.sampled_from([0.0, 0.2]))
    kept = None if momentum is None else velocities
    check_update(backend, dtype, "sgd_update", [values, gradients, kept], **options)


@each_backend
@each_dtype
@pytest.mark.parametrize(
    ("weight_decay", "decoupled"), [(0.0, False), (0.0, True), (0.2, False), (0.2, True)]
)
@drawn(share=4)
def test_adam_updates_agree(backend, dtype, weight_decay, decoupled, data):
    lists = data.draw(parameters(dtype, 4))
    options = {
        "steps": [data.draw(st.sampled_from([1, 2, 1000, 10**6])) for _ in lists[0]],
        "lr": 0.01,
        "betas": data.draw(st.sampled_from([(0.9, 0.999), (0.0, 0.5)])),
        "eps": 1e-8,
        "weight_decay": weight_decay,
        "decoupled": decoupled,
    }
    check_update(backend, dtype, "adam_update", lists, **options)


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
