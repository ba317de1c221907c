"""Every primitive, forward and backward, against PyTorch in float64.

PyTorch is NCHW and OIHW; the oracles below take and return this project's NHWC and HWIO.
"""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.autograd import grad
from tinygrad_mask.testing.strategies import STRATEGIES

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
TF = torch.nn.functional


# --- reductions -------------------------------------------------------------------------------


def reduction(function):
    def oracle(x, axis, keepdims, **options):
        axes = range(x.ndim) if axis is None else np.atleast_1d(np.asarray(axis, int)) % x.ndim
        # PyTorch takes no axes for all axes; one more, of length 1, that is always reduced, makes
        # no axes mean no axes.
        dims = (0, *(int(a) + 1 for a in axes))
        y = function(x[None], dim=dims, keepdim=keepdims, **options)
        return y[0] if keepdims else y

    return oracle


# --- shapes -----------------------------------------------------------------------------------


def pad(x, widths, value):
    return TF.pad(x, [w for pair in reversed(widths) for w in pair], value=value)


def getitem(x, index):
    # PyTorch slices forwards only: each slice becomes a selection along its axis.
    parts, axis = list(index) if isinstance(index, tuple) else [index], 0
    for k, part in enumerate(parts):
        if isinstance(part, slice):
            chosen = torch.arange(x.shape[axis]).numpy()[part].copy()
            x, parts[k] = x.index_select(axis, torch.from_numpy(chosen)), slice(None)
        elif isinstance(part, np.ndarray):
            parts[k] = torch.from_numpy(part)
        axis += part is not None
    return x[tuple(parts)]


# --- images -----------------------------------------------------------------------------------


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def pad_image(x, padding, size, stride, dilation, value):
    """Pad x (N, C, H, W) by any of the forms that this project's `padding` may take."""
    if padding == "same":
        sides = []
        for n, k, s, d in zip(x.shape[2:], size, stride, dilation, strict=True):
            total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
            sides.append((total // 2, total - total // 2))
    else:
        sides = [pair(p) for p in pair(padding)]
    (top, bottom), (left, right) = sides
    return TF.pad(x, (left, right, top, bottom), value=value)


def activate(x, activation):
    return x if activation == "none" else getattr(torch, activation)(x)


def conv2d(x, weight, bias=None, *, stride, padding, dilation, groups, activation):
    stride, dilation = pair(stride), pair(dilation)
    x = pad_image(x.permute(0, 3, 1, 2), padding, weight.shape[:2], stride, dilation, 0)
    y = TF.conv2d(x, weight.permute(3, 2, 0, 1).contiguous(), bias, stride, 0, dilation, groups)
    return activate(y.permute(0, 2, 3, 1), activation)


def linear(x, weight, bias=None, *, activation):
    y = x @ weight
    return activate(y if bias is None else y + bias, activation)


def padded_for_pooling(x, kernel_size, stride, padding, value):
    size = pair(kernel_size)
    stride = size if stride is None else pair(stride)
    x = pad_image(x.permute(0, 3, 1, 2), padding, size, stride, (1, 1), value)
    return x, size, stride


def max_pool2d(x, kernel_size, stride, padding):
    image, size, stride = padded_for_pooling(x, kernel_size, stride, padding, -math.inf)
    return TF.max_pool2d(image, size, stride).permute(0, 2, 3, 1)


def avg_pool2d(x, kernel_size, stride, padding, count_include_pad):
    image, size, step = padded_for_pooling(x, kernel_size, stride, padding, 0)
    y = TF.avg_pool2d(image, size, step)
    if not count_include_pad:
        # The mean of zeros for padding and ones for pixels is the part that are pixels.
        ones, _, _ = padded_for_pooling(torch.ones_like(x), kernel_size, stride, padding, 0)
        y = y / TF.avg_pool2d(ones, size, step)
    return y.permute(0, 2, 3, 1)


def batch_norm(x, weight, bias, *, running_mean=None, running_var=None, training, eps):
    y = TF.batch_norm(
        x.movedim(-1, 1), running_mean, running_var, weight, bias, training, momentum=0.0, eps=eps
    )
    return y.movedim(1, -1)


def group_norm(x, *affine, num_groups, eps):
    if x.shape[0] == 0:  # which PyTorch refuses
        return x + sum((a.sum() * 0 for a in affine), torch.zeros(()))
    return TF.group_norm(x.movedim(-1, 1), num_groups, *affine, eps=eps).movedim(1, -1)


def layer_norm(x, *affine, normalized_shape, eps):
    return TF.layer_norm(x, normalized_shape, *affine, eps=eps)


def interpolate(x, **options):
    return TF.interpolate(x.permute(0, 3, 1, 2), **options).permute(0, 2, 3, 1)


# --- the table --------------------------------------------------------------------------------

ORACLES = {
    "abs": torch.abs,
    "add": torch.add,
    "avg_pool2d": avg_pool2d,
    "batch_norm": batch_norm,
    "binary_cross_entropy_with_logits": TF.binary_cross_entropy_with_logits,
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "clip": lambda x, low, high: torch.clamp(
        x, -math.inf if low is None else low, math.inf if high is None else high
    ),
    "concatenate": lambda *tensors, axis: torch.cat(tensors, dim=axis),
    "conv2d": conv2d,
    "cross_entropy": TF.cross_entropy,
    "cumsum": lambda x, axis: torch.cumsum(x, dim=axis),
    "divide": torch.divide,
    "exp": torch.exp,
    "floor_divide": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "getitem": getitem,
    "group_norm": group_norm,
    "interpolate": interpolate,
    "layer_norm": layer_norm,
    "elu": TF.elu,
    "erf": torch.erf,
    "leaky_relu": TF.leaky_relu,
    "softplus": TF.softplus,
    "linear": linear,
    "log": torch.log,
    "log_softmax": lambda x, axis: torch.log_softmax(x, dim=axis),
    "logsumexp": reduction(torch.logsumexp),
    "matmul": torch.matmul,
    "max": reduction(torch.amax),
    "max_pool2d": max_pool2d,
    "maximum": torch.maximum,
    "mean": reduction(torch.mean),
    "min": reduction(torch.amin),
    "minimum": torch.minimum,
    "multiply": torch.multiply,
    "negative": torch.negative,
    "pad": pad,
    "permute": lambda x, axes: torch.permute(x, axes),
    "power": torch.pow,
    "relu": torch.relu,
    "remainder": torch.remainder,
    "reshape": lambda x, shape: torch.reshape(x, shape),
    "round": lambda x, decimals: torch.round(x, decimals=decimals),
    "sigmoid": torch.sigmoid,
    "silu": TF.silu,
    "softmax": lambda x, axis: torch.softmax(x, dim=axis),
    "sqrt": torch.sqrt,
    "squared_error": lambda x, y: TF.mse_loss(x, y, reduction="sum") / (2 * len(x)),
    "stack": lambda *tensors, axis: torch.stack(tensors, dim=axis),
    "subtract": torch.subtract,
    "sum": reduction(torch.sum),
    "tanh": torch.tanh,
    "var": reduction(torch.var),
    "where": lambda x, y, condition: torch.where(condition, x, y),
}

# PyTorch drops elements of its own choice, and a mask cannot be handed to it.
WITHOUT_ORACLE = {"dropout"}

# PyTorch convolves and pools no images in a batch, but refuses images of no channels.
NEEDS_CHANNELS = {"avg_pool2d", "conv2d", "interpolate", "max_pool2d"}


def test_every_primitive_has_an_oracle():
    assert set(ORACLES) == set(F.PRIMITIVES) - WITHOUT_ORACLE


def as_torch(value):
    """A tensor or an array of the options as PyTorch's; an index stays NumPy's (see `getitem`)."""
    if isinstance(value, Tensor):
        value = value.numpy().copy()
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def run_torch(oracle, inputs, options, cotangent_for):
    """Return the result and the gradients of `inputs` as NumPy arrays."""
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    result = oracle(*tensors, **options)
    result.backward(torch.tensor(cotangent_for(tuple(result.shape))))
    return result.detach().numpy(), [t.grad.numpy() for t in tensors]


def run_ours(function, inputs, cotangent_for):
    """Return the result and the gradients of `inputs` as NumPy arrays."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    result = function(*tensors)
    result.backward(cotangent_for(result.shape))
    return result.numpy(), [t.grad.numpy() for t in tensors]


def assert_same(came, expected, what, tolerance=1e-10):
    # Shapes too: assert_allclose would broadcast a scalar.
    assert came.shape == expected.shape, what
    np.testing.assert_allclose(came, expected, rtol=tolerance, atol=tolerance, err_msg=what)


@pytest.mark.parametrize("name", sorted(ORACLES))
@settings(max_examples=30)
@given(data=st.data())
def test_result_and_gradients_agree(name, data):
    case = data.draw(STRATEGIES[name])
    assume(name not in NEEDS_CHANNELS or all(0 not in x.shape[1:] for x in case.inputs))
    seed = data.draw(st.integers(0, 99))

    def cotangent_for(shape):
        return np.asarray(np.random.default_rng(seed).standard_normal(shape))

    options = {k: v if k == "index" else as_torch(v) for k, v in case.options.items()}
    expected, expected_gradients = run_torch(ORACLES[name], case.inputs, options, cotangent_for)
    result, gradients = run_ours(case, case.inputs, cotangent_for)
    assert_same(result, expected, "result")
    for k, (came, wanted) in enumerate(zip(gradients, expected_gradients, strict=True)):
        assert_same(came, wanted, f"gradient of input {k}")


# --- second derivatives -----------------------------------------------------------------------


def second_derivatives_of_torch(oracle, inputs, options, cotangent_for):
    """Return the gradients of what `slopes_of` sums up, of the inputs and the first cotangent."""
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    result = oracle(*tensors, **options)
    given = torch.tensor(cotangent_for(tuple(result.shape)), requires_grad=True)
    slopes = torch.autograd.grad(result, tensors, given, create_graph=True)
    total = sum((slope * torch.tensor(cotangent_for(slope.shape))).sum() for slope in slopes)
    assume(total.requires_grad)  # not so for the concatenation of a single empty tensor
    gradients = torch.autograd.grad(
        total, [*tensors, given], allow_unused=True, materialize_grads=True
    )
    return [gradient.numpy(force=True) for gradient in gradients]  # some are symbolic zeros


def second_derivatives_of_ours(function, inputs, cotangent_for):
    """Return the same as `second_derivatives_of_torch`."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    result = function(*tensors)
    given = Tensor(cotangent_for(result.shape), requires_grad=True)
    slopes = grad(result, tensors, given, create_graph=True)
    total = sum((slope * cotangent_for(slope.shape)).sum() for slope in slopes)
    leaves = [*tensors, given]
    gradients = grad(total, leaves, allow_unused=True)
    return [
        np.zeros(leaf.shape) if gradient is None else gradient.numpy()
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


# PyTorch's derivatives of these are zeros that are not recorded.
WITHOUT_SECOND_DERIVATIVE = {"floor_divide", "round"}


@pytest.mark.parametrize("name", sorted(set(ORACLES) - WITHOUT_SECOND_DERIVATIVE))
@settings(max_examples=20)
@given(data=st.data())
def test_second_derivatives_agree(name, data):
    case = data.draw(STRATEGIES[name])
    assume(name not in NEEDS_CHANNELS or all(0 not in x.shape for x in case.inputs))
    seed = data.draw(st.integers(0, 99))

    def cotangent_for(shape):
        return np.asarray(np.random.default_rng(seed).standard_normal(tuple(shape)))

    options = {k: v if k == "index" else as_torch(v) for k, v in case.options.items()}
    expected = second_derivatives_of_torch(ORACLES[name], case.inputs, options, cotangent_for)
    found = second_derivatives_of_ours(case, case.inputs, cotangent_for)
    for k, (came, wanted) in enumerate(zip(found, expected, strict=True)):
        assert_same(came, wanted, f"second derivative to input {k}", tolerance=1e-9)


# --- where floating point ends ----------------------------------------------------------------

EXTREMES = np.array([0.0, -0.0, 1e-300, -1e-300, 1.0, -40.0, 40.0, 800.0, -800.0, 1e300, -1e300])
NOT_FINITE = np.array([math.inf, -math.inf, math.nan])
UNARY = ["abs", "exp", "leaky_relu", "log", "negative", "relu", "sigmoid", "silu", "sqrt", "tanh"]


@pytest.mark.parametrize("name", UNARY)
def test_extreme_values_give_the_same_result_and_gradient(name):
    expected, (expected_gradient,) = run_torch(ORACLES[name], [EXTREMES], {}, np.ones)
    result, (gradient,) = run_ours(getattr(F, name), [EXTREMES], np.ones)
    assert_same(result, expected, "result")
    assert_same(gradient, expected_gradient, "gradient")


@pytest.mark.parametrize("name", UNARY)
def test_infinities_and_nan_give_the_same_result(name):
    expected, _ = run_torch(ORACLES[name], [NOT_FINITE], {}, np.ones)
    result, _ = run_ours(getattr(F, name), [NOT_FINITE], np.ones)
    assert_same(result, expected, "result")


@pytest.mark.parametrize("base", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 3.0, -1.0])
def test_powers_at_the_edge_of_their_domain(base, exponent):
    inputs = [np.array(base), np.array(exponent)]
    expected, expected_gradients = run_torch(torch.pow, inputs, {}, np.ones)
    result, gradients = run_ours(F.power, inputs, np.ones)
    assert_same(result, expected, "result")
    for came, wanted in zip(gradients, expected_gradients, strict=True):
        assert_same(came, wanted, "gradient")


ROWS = np.array(
    [
        [1e4, 0.0, -1e4],
        [-1e4, -1e4, -1e4],
        [-math.inf, 0.0, 1.0],
        [-math.inf, -math.inf, 2.0],
        [0.0, math.nan, 1.0],
    ]
)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_rows_that_overflow_or_are_masked(name, row):
    options = {"axis": -1} | ({"keepdims": False} if name == "logsumexp" else {})
    expected, (expected_gradient,) = run_torch(ORACLES[name], [row], options, np.ones)
    result, (gradient,) = run_ours(lambda x: getattr(F, name)(x, **options), [row], np.ones)
    assert_same(result, expected, "result")
    assert_same(gradient, expected_gradient, "gradient")


@pytest.mark.parametrize("row", [[-math.inf] * 3, [math.inf, 0.0, 1.0]], ids=str)
def test_logsumexp_of_infinities(row):
    options = {"axis": -1, "keepdims": False}
    expected, _ = run_torch(ORACLES["logsumexp"], [np.array(row)], options, np.ones)
    result, _ = run_ours(lambda x: F.logsumexp(x, **options), [np.array(row)], np.ones)
    assert_same(result, expected, "result")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_huge_logits(smoothing):
    logits, target = ROWS[:2], np.array([2, 1])
    options = {"target": torch.tensor(target), "label_smoothing": smoothing}
    expected, (expected_gradient,) = run_torch(TF.cross_entropy, [logits], options, np.ones)
    result, (gradient,) = run_ours(
        lambda x: F.cross_entropy(x, target, label_smoothing=smoothing), [logits], np.ones
    )
    assert_same(result, expected, "result")
    assert_same(gradient, expected_gradient, "gradient")


def test_binary_cross_entropy_of_huge_logits():
    logits, target = np.array([800.0, -800.0, 0.0, 1e4]), np.array([0.0, 1.0, 0.5, 1.0])
    options = {"target": torch.tensor(target)}
    oracle = TF.binary_cross_entropy_with_logits
    expected, (expected_gradient,) = run_torch(oracle, [logits], options, np.ones)
    result, (gradient,) = run_ours(
        lambda x: F.binary_cross_entropy_with_logits(x, target), [logits], np.ones
    )
    assert_same(result, expected, "result")
    assert_same(gradient, expected_gradient, "gradient")


def test_max_pool2d_takes_nan_and_the_first_of_equal_maxima_as_pytorch_does():
    image = np.array([[1.0, 1.0, 2.0], [1.0, math.nan, 2.0], [0.0, 2.0, -math.inf]])
    image = np.pad(image, ((0, 3), (0, 1)), constant_values=3.0).reshape(1, 6, 4, 1)
    options = {"kernel_size": (2, 2), "stride": 1, "padding": 1}
    weights = np.random.default_rng(0).standard_normal((1, 7, 5, 1))
    expected, (expected_gradient,) = run_torch(max_pool2d, [image], options, lambda _: weights)
    result, (gradient,) = run_ours(lambda x: F.max_pool2d(x, **options), [image], lambda _: weights)
    assert_same(result, expected, "result")
    assert_same(gradient, expected_gradient, "gradient")
