"""Every kernel, of every instruction set that runs here and of the GPU, against the reference in
float64; convolutions are in test_convolutions.py.
"""

import devices
import numpy as np
import pytest
from agreement import (
    FUSED,
    LAYOUTS,
    REFERENCE,
    Inputs,
    around,
    check,
    close,
    each_backend,
    each_cpu_backend,
    each_dtype,
    laid_out,
    run,
    wide,
)
from devices import drawn
from hypothesis import strategies as st

from tinygrad_mask import Tensor
from tinygrad_mask.backends import Resize, Window
from tinygrad_mask.backends.cpu_kernels import set_num_threads
from tinygrad_mask.testing.strategies import STRATEGIES, Case, generators

# --- the strategies of the gradients -------------------------------------------------------------

WITH_KERNELS = [
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "group_norm",
    "interpolate",
    "layer_norm",
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


# --- matrix products -----------------------------------------------------------------------------

sizes = st.one_of(st.integers(0, 20), around(32, 48, 64, 240, 256, 320, 512))
lengths = st.one_of(sizes, around(768))  # of sums: from 512 on they are cut for several threads


@each_backend
@each_dtype
@drawn(share=4)
def test_linear_maps_and_their_gradients_agree(backend, dtype, data):
    set_num_threads(data.draw(st.sampled_from([1, 2, 3])))
    m, k, n = (data.draw(numbers) for numbers in (st.just(1) | sizes, lengths, sizes))
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
    set_num_threads(data.draw(st.sampled_from([1, 2, 3])))
    m, k, n = (data.draw(numbers) for numbers in (sizes, lengths, sizes))
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
def test_group_normalisation_agrees(backend, dtype, data):
    set_num_threads(data.draw(st.sampled_from([1, 2, 3])))
    inputs = Inputs(data.draw, dtype)
    n = data.draw(st.sampled_from([1, 2, 7]))
    # Rows; lines of several pixels, whole and not; several strips of an image, and stretches.
    pixels = data.draw(st.sampled_from([1, 2, 3, 17, 64, 700]))
    groups = data.draw(st.sampled_from([1, 1, 2, 3, 8]))
    width = data.draw(st.sampled_from([1, 2, 3, 5, 16, 33]))
    if n * pixels * groups * width > 1 << 17:
        n = 1
    channels, count = groups * width, pixels * width
    offset = data.draw(st.sampled_from([0.0, 100.0]))  # a mean far from 0 must not spoil a variance
    x = inputs.put(offset + inputs.rng.standard_normal((n, pixels, channels)))
    weight = data.draw(st.sampled_from([None, inputs.normal(channels)]))
    bias = data.draw(st.sampled_from([None, inputs.normal(channels)]))
    eps = 0.1  # of one value the variance is 0, and its rounding all that is left
    results = run(backend, "group_norm", x, weight, bias, groups, eps)
    expected = run(REFERENCE, "group_norm", wide(x), wide(weight), wide(bias), groups, eps)
    tolerance = 8 * np.finfo(dtype).eps * (1 + offset) * np.sqrt(count + 16)
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == dtype
        close(result, reference, tolerance)

    mean, inverse_std = (inputs.put(array) for array in expected[1:])
    grad_output = inputs.normal(n, pixels, channels)
    arguments = grad_output, x, weight, mean, inverse_std
    terms = 4 * max(count, n * pixels) + 4 * (1 + offset)
    check(backend, dtype, terms, "group_norm_grad", *arguments)


@each_backend
@each_dtype
@drawn(share=4)
def test_images_of_another_size_agree(backend, dtype, data):
    set_num_threads(data.draw(st.sampled_from([1, 2, 3])))
    inputs = Inputs(data.draw, dtype)
    side = st.sampled_from([1, 2, 3, 7, 8, 21])
    n, h, w, p, q = data.draw(st.tuples(st.integers(0, 2), *[side] * 4))
    channels = data.draw(st.sampled_from([0, 1, 3, 4, 8, 17]))
    linear, align_corners = data.draw(st.tuples(st.booleans(), st.booleans()))
    steps = data.draw(st.sampled_from([(h / p, w / q), (0.0, 0.3), (1.0, 40.0), (2.5, 0.25)]))
    resize = Resize((p, q), steps, linear, align_corners)
    x, grad_output = inputs.normal(n, h, w, channels), inputs.normal(n, p, q, channels)
    check(backend, dtype, 4, "interpolate", x, resize)
    check(backend, dtype, p * q, "interpolate_grad", grad_output, x.shape, resize)


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
