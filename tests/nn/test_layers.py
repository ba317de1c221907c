"""The layers: that they hand their arguments on, what training changes, what they say."""

import math
import re

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, manual_seed, nn


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(*shape, seed=1):
    return Tensor(rng(seed).standard_normal(shape).astype(np.float32))


def assert_close(came, expected, rtol=1e-6):
    expected = np.asarray(expected)
    assert came.shape == expected.shape
    np.testing.assert_allclose(came.numpy(), expected, rtol=rtol, atol=1e-6)


# --- linear and convolution -------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (5,), (2, 5), (0,)], ids=str)
def test_linear_is_a_product_and_a_bias(lead):
    layer = nn.Linear(3, 4, rng=rng())
    layer.bias.detach()[...] = np.arange(4, dtype=np.float32)
    x = normal(*lead, 3)
    assert_close(layer(x), x.numpy() @ layer.weight.numpy() + np.arange(4))


def test_weights_are_drawn_and_biases_are_zero():
    for layer in (nn.Linear(30, 40, rng=rng()), nn.Conv2d(6, 8, 3, rng=rng())):
        assert layer.weight.numpy().std() > 0
        assert not layer.bias.numpy().any()
        assert layer.weight.dtype == layer.bias.dtype == np.float32


def test_the_generator_and_the_initialiser_decide_the_weights():
    for build in (nn.Linear, lambda *a, **k: nn.Conv2d(*a, (2, 3), **k)):
        one, same, other = (build(3, 4, rng=rng(seed)).weight.numpy() for seed in (1, 1, 2))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)
        layer = build(3, 4, rng=rng(1), init=nn.init.glorot_uniform)
        expected = nn.init.glorot_uniform(layer.weight.shape, rng(1))
        assert np.array_equal(layer.weight.numpy(), expected)


def test_without_bias_there_is_none():
    for layer in (
        nn.Linear(3, 4, rng=rng(), bias=False),
        nn.Conv2d(3, 4, 1, rng=rng(), bias=False),
    ):
        assert layer.bias is None
        assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert_close(layer(normal(1, 2, 2, 3)), F.conv2d(normal(1, 2, 2, 3), layer.weight).numpy())


def test_conv2d_hands_its_geometry_on():
    options = {"stride": (2, 1), "padding": ((0, 1), (2, 0)), "dilation": (1, 2), "groups": 2}
    layer = nn.Conv2d(4, 6, (3, 2), rng=rng(), **options)
    layer.bias.detach()[...] = 1
    assert layer.weight.shape == (3, 2, 2, 6)
    x = normal(2, 7, 6, 4)
    assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, **options).numpy())


# --- pooling and flattening -------------------------------------------------------------------


def test_pooling_hands_its_geometry_on():
    x = normal(2, 7, 6, 3)
    options = {"stride": (2, 1), "padding": (1, 0)}
    came = nn.MaxPool2d((3, 2), **options)(x)
    assert_close(came, F.max_pool2d(x, (3, 2), **options).numpy())
    for count_include_pad in (True, False):
        more = options | {"count_include_pad": count_include_pad}
        assert_close(nn.AvgPool2d((3, 2), **more)(x), F.avg_pool2d(x, (3, 2), **more).numpy())


def test_the_stride_of_a_pool_is_its_window():
    for layer in (nn.MaxPool2d((3, 2)), nn.AvgPool2d((3, 2))):
        assert layer(normal(1, 7, 7, 2)).shape == (1, 2, 3, 2)


def test_global_average_pooling_is_the_mean_over_pixels():
    x = normal(2, 3, 5, 4)
    assert_close(nn.GlobalAvgPool2d()(x), x.numpy().mean(axis=(1, 2)))


@pytest.mark.parametrize(
    ("shape", "flat"),
    [((2, 3, 5, 4), (2, 60)), ((3,), (3, 1)), ((0, 2, 3), (0, 6)), ((2, 0), (2, 0))],
)
def test_flatten_keeps_the_first_axis_and_the_reading_order(shape, flat):
    x = normal(*shape)
    assert_close(nn.Flatten()(x), x.numpy().reshape(flat))


# --- activations ------------------------------------------------------------------------------

ACTIVATIONS = {
    "Sigmoid": (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": (nn.Tanh(), np.tanh),
    "ReLU": (nn.ReLU(), lambda x: np.maximum(x, 0)),
    "LeakyReLU": (nn.LeakyReLU(), lambda x: np.where(x > 0, x, 0.01 * x)),
    "LeakyReLU(0.3)": (nn.LeakyReLU(0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
    "SiLU": (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    "Softmax": (nn.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "LogSoftmax": (nn.LogSoftmax(), lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))),
}


@pytest.mark.parametrize(("layer", "formula"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations(layer, formula):
    x = normal(2, 3, 4)
    assert_close(layer(x), formula(x.numpy()), rtol=1e-5)


# --- dropout ----------------------------------------------------------------------------------


def test_dropout_zeroes_its_share_and_keeps_the_expectation():
    p, ones = 0.3, Tensor(np.ones((200, 300), np.float32))
    came = nn.Dropout(p, rng=rng())(ones).numpy()
    kept = came != 0
    np.testing.assert_allclose(came[kept], 1 / (1 - p), rtol=1e-6)
    # Five standard errors of a share of 60,000.
    assert abs(kept.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / ones.size)


def test_dropout_follows_its_generator():
    x = normal(20, 20)
    one, same, other = (nn.Dropout(0.5, rng=rng(seed)) for seed in (1, 1, 2))
    first = one(x).numpy()
    assert np.array_equal(first, same(x).numpy())
    assert not np.array_equal(first, other(x).numpy())
    assert not np.array_equal(first, one(x).numpy())


def test_dropout_drops_in_the_gradient_what_it_dropped():
    x = Tensor(np.ones((10, 10), np.float32), requires_grad=True)
    y = nn.Dropout(0.5, rng=rng())(x)
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), y.numpy())


def test_dropout_does_nothing_in_evaluation_and_draws_nothing():
    layer, x = nn.Dropout(0.5, rng=rng(7)).eval(), normal(5, 5)
    assert layer(x) is x
    layer.train()
    assert np.array_equal(layer(x).numpy(), nn.Dropout(0.5, rng=rng(7))(x).numpy())


def test_dropout_of_nothing_changes_nothing():
    x = normal(5, 5)
    assert np.array_equal(nn.Dropout(0.0, rng=rng())(x).numpy(), x.numpy())


def test_dropout_of_everything_is_zero_and_so_is_its_gradient():
    x = normal(5, 5).requires_grad_()
    for drop in (nn.Dropout(1.0), lambda x: F.dropout(x, 1)):
        y = drop(x)
        y.sum().backward()
        assert not y.numpy().any()
        assert not x.grad.numpy().any()


def test_dropout_outside_training_is_its_input():
    x = normal(5, 5)
    assert F.dropout(x, 0.5, training=False) is x


# --- batch norm -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 3), (4, 2, 5, 3)], ids=str)
def test_batch_norm_in_training_normalises_the_batch(shape):
    layer = nn.BatchNorm(3)
    y = layer(Tensor(normal(*shape).numpy() * np.float32(3) + np.float32(5))).numpy()
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=axes), 1, atol=1e-4)


def test_batch_norm_scales_and_shifts():
    layer, plain, x = nn.BatchNorm(3), nn.BatchNorm(3), normal(6, 3)
    layer.weight.detach()[...] = np.array([1, 2, 3], np.float32)
    layer.bias.detach()[...] = np.array([4, 5, 6], np.float32)
    assert_close(layer(x), plain(x).numpy() * [1, 2, 3] + [4, 5, 6], rtol=1e-5)


def test_the_running_statistics_follow_the_batches():
    layer = nn.BatchNorm(3, momentum=0.25)
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = normal(4, 5, 3, seed=seed)
        layer(x)
        values = x.numpy().reshape(-1, 3).astype(np.float64)
        mean = 0.75 * mean + 0.25 * values.mean(axis=0)
        variance = 0.75 * variance + 0.25 * values.var(axis=0, ddof=1)
    assert_close(layer.running_mean, mean, rtol=1e-5)
    assert_close(layer.running_var, variance, rtol=1e-5)
    assert not layer.running_mean.requires_grad


def test_batch_norm_in_evaluation_uses_the_running_statistics_and_leaves_them():
    layer = nn.BatchNorm(2, eps=0.5).eval()
    layer.running_mean.copy_(np.array([1, -1], np.float32))
    layer.running_var.copy_(np.array([3.5, 8.5], np.float32))
    x = normal(5, 2)
    assert_close(layer(x), (x.numpy() - [1, -1]) / [2, 3])
    assert layer.running_mean.numpy().tolist() == [1, -1]
    assert layer.running_var.numpy().tolist() == [3.5, 8.5]
    assert layer(x[:1]).shape == (1, 2)  # one value a channel will do


def test_a_constant_channel_gives_the_bias():
    y = nn.BatchNorm(2)(Tensor(np.full((4, 2), 7, np.float32)))
    assert not y.numpy().any()


def test_running_statistics_that_moved_after_an_evaluation_make_its_graph_raise():
    layer, x = nn.BatchNorm(2).eval(), normal(4, 2).requires_grad_()
    loss = layer(x).sum()
    layer.train()(normal(4, 2, seed=2))
    with pytest.raises(RuntimeError, match=r"batch_norm: .* written in place"):
        loss.backward()


def test_without_momentum_the_running_statistics_are_the_mean_of_the_batches():
    layer, batches = nn.BatchNorm(3, momentum=None), [normal(4, 3, seed=k) for k in range(3)]
    for x in batches:
        layer(x)
    values = [x.numpy().astype(np.float64) for x in batches]
    assert_close(layer.running_mean, np.mean([v.mean(axis=0) for v in values], axis=0), rtol=1e-5)
    variances = [v.var(axis=0, ddof=1) for v in values]
    assert_close(layer.running_var, np.mean(variances, axis=0), rtol=1e-5)
    state = layer.state_dict()
    assert state["num_batches_tracked"] == 3
    other = nn.BatchNorm(3, momentum=None)
    other.load_state_dict(state)
    layer(batches[0])
    other(batches[0])
    assert other.running_mean.numpy().tobytes() == layer.running_mean.numpy().tobytes()
    layer.eval()(batches[0])
    assert layer.num_batches_tracked.item() == 4


def test_batch_norm_without_affine_has_no_parameters():
    layer, x = nn.BatchNorm(3, affine=False), normal(6, 3).requires_grad_()
    assert layer.parameters() == []
    plain = nn.BatchNorm(3)
    y = layer(x)
    assert_close(y, plain(x).numpy())
    y[0].sum().backward()
    came, x.grad = x.grad.numpy(), None
    plain(x)[0].sum().backward()
    np.testing.assert_allclose(came, x.grad.numpy(), rtol=1e-6)


def test_batch_norm_that_tracks_nothing_uses_the_batch_in_evaluation_too():
    layer, x = nn.BatchNorm(3, track_running_stats=False), normal(6, 3)
    assert layer.buffers() == []
    assert_close(layer.eval()(x), nn.BatchNorm(3)(x).numpy())


# --- the order of arguments -------------------------------------------------------------------


def same_after_seed(*builds):
    """Whether layers with the default generator at the same state give the same results."""
    x, results = normal(2, 9, 9, 3), []
    for build in builds:
        manual_seed(0)
        results.append(build()(x).numpy())
    return all(np.array_equal(results[0], other) for other in results[1:])


def test_arguments_may_be_given_in_the_order_of_pytorch():
    assert same_after_seed(
        lambda: nn.Conv2d(3, 8, 3, 1, 1),
        lambda: nn.Conv2d(in_channels=3, out_channels=8, kernel_size=3, stride=1, padding=1),
    )
    assert same_after_seed(
        lambda: nn.Conv2d(3, 6, 3, 2, 1, 2, 3, False),
        lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1, dilation=2, groups=3, bias=False),
    )
    assert same_after_seed(
        lambda: nn.Linear(3, 2, False),
        lambda: nn.Linear(in_features=3, out_features=2, bias=False),
    )
    assert same_after_seed(lambda: nn.MaxPool2d(2, 2), lambda: nn.MaxPool2d(2, stride=2))
    assert same_after_seed(
        lambda: nn.AvgPool2d(3, 2, 1), lambda: nn.AvgPool2d(3, stride=2, padding=1)
    )
    layer = nn.BatchNorm(3, 1e-3, 0.2, False, False)
    assert (layer.eps, layer.momentum, layer.weight, layer.running_mean) == (1e-3, 0.2, None, None)
    assert nn.Dropout().p == 0.5


def test_sizes_may_be_lists():
    assert same_after_seed(
        lambda: nn.Conv2d(3, 4, [3, 2], [2, 1], [[0, 1], [2, 0]], [1, 2]),
        lambda: nn.Conv2d(3, 4, (3, 2), (2, 1), ((0, 1), (2, 0)), (1, 2)),
    )
    for pool in (nn.MaxPool2d, nn.AvgPool2d):
        assert same_after_seed(
            lambda p=pool: p([3, 2], [2, 1], [1, 0]), lambda p=pool: p((3, 2), (2, 1), (1, 0))
        )
        assert pool([3, 2]).kernel_size == (3, 2)
    x = normal(1, 5, 5, 2)
    assert_close(F.max_pool2d(x, [3, 2]), F.max_pool2d(x, (3, 2)).numpy())
    assert nn.LayerNorm([3, 2]).normalized_shape == (3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Linear(2.5, 3), "Linear: expected in_features to be an integer, got 2.5"),
        (lambda: nn.Linear(2, -3), "Linear: expected out_features >= 0, got -3"),
        (lambda: nn.Linear(2, 3, 0.1), "Linear: expected bias to be True or False, got 0.1"),
        (lambda: nn.Conv2d("3", 3, 3), "Conv2d: expected in_channels to be an integer, got '3'"),
        (
            lambda: nn.Conv2d(3, 3, 3, 1, 1, 1, 1, 2),
            "Conv2d: expected bias to be True or False, got 2",
        ),
        (
            lambda: nn.BatchNorm(3, affine=1),
            "BatchNorm: expected affine to be True or False, got 1",
        ),
        (lambda: nn.BatchNorm(0), "BatchNorm: expected num_features >= 1, got 0"),
        (lambda: nn.BatchNorm(3, -1), "BatchNorm: expected eps >= 0, got -1"),
        (
            lambda: nn.BatchNorm(3, momentum=2),
            "BatchNorm: expected 0 <= momentum <= 1 or None, got 2",
        ),
        (lambda: nn.GroupNorm(2, 3), "GroupNorm: expected num_groups to divide 3 channels, got 2"),
        (
            lambda: nn.Upsample(),
            "Upsample: expected either size or scale_factor, got size=None and scale_factor=None",
        ),
        (
            lambda: nn.Upsample(2, mode="cubic"),
            "Upsample: expected mode 'nearest' or 'bilinear', got 'cubic'",
        ),
        (
            lambda: nn.Flatten(2, 1)(normal(1, 2, 3)),
            "Flatten: expected axes 2 to 1 in the order of the input's, got shape (1, 2, 3)",
        ),
    ],
)
def test_arguments_in_the_wrong_place_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(2, 2),
        nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
        nn.Conv2d(2, 2, 1),
        nn.BatchNorm(2),
        nn.LayerNorm(2),
        nn.GroupNorm(1, 2),
        nn.Flatten(),
        nn.Upsample(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_list_in_place_of_a_tensor_is_answered_with_the_right_form(layer):
    with pytest.raises(
        TypeError, match=r"^\w+: expected a Tensor, got list; wrap it: Tensor\(\.\.\.\)$"
    ):
        layer([[1.0, 2.0]])
    with pytest.raises(TypeError, match=r"^\w+: expected a Tensor, got NoneType$"):
        layer(None)


@pytest.mark.parametrize(
    "build",
    [
        lambda n: nn.BatchNorm(3, n(0.5), n(0.25)),
        lambda n: nn.LayerNorm(3, n(0.5)),
        lambda n: nn.GroupNorm(1, 3, n(0.5)),
        lambda n: nn.Dropout(n(0.5)),
        lambda n: nn.LeakyReLU(n(0.5)),
        lambda n: nn.ELU(n(0.5)),
        lambda n: nn.Softplus(n(0.5), n(2.5)),
        lambda n: nn.Hardtanh(n(-0.5), n(0.5)),
    ],
)
def test_numbers_of_numpy_as_options_keep_the_dtype(build):
    x = normal(4, 3).requires_grad_()
    manual_seed(0)
    expected = build(float)(x).numpy()
    for number in (np.float64, np.float32):
        manual_seed(0)
        layer = build(number)
        y = layer(x)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == np.float32
        assert np.array_equal(y.numpy(), expected)
        assert {array.dtype for array in layer.state_dict().values()} <= {np.dtype(np.float32)}


# --- other layers -----------------------------------------------------------------------------


def test_identity_returns_its_input_whatever_it_was_made_with():
    x = normal(2, 3)
    assert nn.Identity(54, unused=1)(x) is x


def test_flatten_of_some_axes():
    x = normal(2, 3, 4, 5)
    for dims, shape in (((0, 1), (6, 4, 5)), ((2, -1), (2, 3, 20)), ((-2, -1), (2, 3, 20))):
        assert_close(nn.Flatten(*dims)(x), x.numpy().reshape(shape))


def test_softmax_over_another_axis():
    x = normal(2, 3, 4)
    for layer in (nn.Softmax(1), nn.Softmax(dim=1), nn.Softmax(axis=1)):
        assert_close(layer(x).sum(axis=1), np.ones((2, 4)))
    assert_close(nn.LogSoftmax(dim=0)(x), F.log_softmax(x, 0).numpy())


# --- every layer learns -----------------------------------------------------------------------


def test_a_gradient_reaches_every_parameter():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same", rng=rng()),
        nn.BatchNorm(4),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 2, rng=rng()),
    )
    F.cross_entropy(module(normal(5, 4, 4, 3)), np.array([0, 1, 0, 1, 1])).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape


# --- what they say ----------------------------------------------------------------------------

DESCRIPTIONS = {
    "Linear(3 -> 4)": nn.Linear(3, 4, rng=rng()),
    "Linear(3 -> 4, no bias)": nn.Linear(3, 4, bias=False, rng=rng()),
    "Conv2d(3 -> 4, 3x3)": nn.Conv2d(3, 4, 3, rng=rng()),
    "Conv2d(4 -> 8, 1x5, stride=2, padding=same, dilation=(1, 2), groups=4, no bias)": nn.Conv2d(
        4,
        8,
        (1, 5),
        stride=2,
        padding="same",
        dilation=(1, 2),
        groups=4,
        bias=False,
        rng=rng(),
    ),
    "MaxPool2d(2)": nn.MaxPool2d(2),
    "MaxPool2d((3, 2), stride=2, padding=1)": nn.MaxPool2d((3, 2), stride=2, padding=1),
    "AvgPool2d(2)": nn.AvgPool2d(2),
    "AvgPool2d(3, padding=same, count_include_pad=False)": nn.AvgPool2d(
        3, padding="same", count_include_pad=False
    ),
    "GlobalAvgPool2d()": nn.GlobalAvgPool2d(),
    "LeakyReLU(0.2)": nn.LeakyReLU(0.2),
    "Dropout(0.25)": nn.Dropout(0.25, rng=rng()),
    "BatchNorm(8)": nn.BatchNorm(8),
    "Softmax()": nn.Softmax(),
    "Softmax(axis=1)": nn.Softmax(dim=1),
    "BatchNorm(8, momentum=None, affine=False)": nn.BatchNorm(8, momentum=None, affine=False),
    "LayerNorm(8)": nn.LayerNorm(8),
    "LayerNorm((4, 8), eps=0.1)": nn.LayerNorm((4, 8), eps=0.1),
    "GroupNorm(2, 8, affine=False)": nn.GroupNorm(2, 8, affine=False),
    "Upsample(scale_factor=2, mode=bilinear)": nn.Upsample(scale_factor=2, mode="bilinear"),
    "Upsample(size=(4, 5))": nn.Upsample([4, 5]),
    "Flatten()": nn.Flatten(),
    "Flatten(start_dim=2)": nn.Flatten(2),
    "Identity()": nn.Identity(3),
    "ConvTranspose2d(4 -> 8, 3x3, stride=2, output_padding=1)": nn.ConvTranspose2d(
        4, 8, 3, 2, output_padding=1
    ),
    "Embedding(5, 3)": nn.Embedding(5, 3),
    "AdaptiveAvgPool2d((2, 3))": nn.AdaptiveAvgPool2d([2, 3]),
    "ELU(alpha=0.5)": nn.ELU(0.5),
    "GELU(approximate=tanh)": nn.GELU("tanh"),
    "Softplus()": nn.Softplus(),
    "Hardtanh(0.0, 6.0)": nn.Hardtanh(0, 6),
    "MSELoss()": nn.MSELoss(),
    "SmoothL1Loss(reduction=sum, beta=0.5)": nn.SmoothL1Loss("sum", 0.5),
}


@pytest.mark.parametrize(("text", "layer"), DESCRIPTIONS.items(), ids=DESCRIPTIONS)
def test_descriptions_name_what_is_not_the_default(text, layer):
    assert layer.describe() == text
    assert repr(layer).startswith(text)


REFUSED = {
    "Linear": (
        lambda: nn.Linear(3, 4, rng=rng())(normal(2, 5)),
        "Linear: expected an input (..., 3), got shape (2, 5)",
    ),
    "Linear: a number": (
        lambda: nn.Linear(3, 4, rng=rng())(normal()),
        "Linear: expected an input (..., 3), got shape ()",
    ),
    "Conv2d": (
        lambda: nn.Conv2d(3, 4, (3, 5), rng=rng())(normal(2, 8, 9, 1)),
        "conv2d: weight expects 3 input channels (HWIO 3x5x3x4), input has 1 (NHWC 2x8x9x1)",
    ),
    "Conv2d: groups": (
        lambda: nn.Conv2d(3, 4, 3, groups=2, rng=rng()),
        "Conv2d: expected groups to divide 3 inputs and 4 outputs, got 2",
    ),
    "Conv2d: kernel_size": (
        lambda: nn.Conv2d(3, 4, (3, 3, 3), rng=rng()),
        "Conv2d: expected kernel_size to be an integer >= 1 or a pair of them, got (3, 3, 3)",
    ),
    "Conv2d: kernel_size 0": (
        lambda: nn.Conv2d(3, 4, 0, rng=rng()),
        "Conv2d: expected kernel_size to be an integer >= 1 or a pair of them, got 0",
    ),
    "MaxPool2d": (
        lambda: nn.MaxPool2d(2)(normal(2, 3)),
        "max_pool2d: expected an input of shape NHWC, got (2, 3)",
    ),
    "AvgPool2d": (
        lambda: nn.AvgPool2d(4)(normal(1, 3, 9, 2)),
        "avg_pool2d: a window of 4x4 (dilation (1, 1)) does not fit an image of 3x9 "
        "with padding ((0, 0), (0, 0))",
    ),
    "GlobalAvgPool2d": (
        lambda: nn.GlobalAvgPool2d()(normal(2, 3)),
        "global_avg_pool2d: expected an input of shape NHWC, got (2, 3)",
    ),
    "Flatten": (
        lambda: nn.Flatten()(normal()),
        "Flatten: expected an input (N, ...), got shape ()",
    ),
    "Dropout": (
        lambda: nn.Dropout(1.5, rng=rng()),
        "Dropout: expected 0 <= p <= 1, got 1.5",
    ),
    "BatchNorm: one value a channel": (
        lambda: nn.BatchNorm(3)(normal(1, 3)),
        "batch_norm: expected at least 2 values a channel, got (1, 3)",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_batch_norm_of_other_channels_says_which_shapes_came():
    with pytest.raises(ValueError, match=r"^batch_norm: expected [^\n]*\(2, 4\): \(3,\)[^\n]*$"):
        nn.BatchNorm(3)(normal(2, 4))


def test_a_layer_takes_the_dtype_of_its_weights_only():
    wide = Tensor(np.ones((2, 3)))
    for layer in (nn.Linear(3, 4, rng=rng()), nn.BatchNorm(3), nn.BatchNorm(3).eval()):
        with pytest.raises(
            TypeError, match="expected tensors of one dtype, got float64 and float32"
        ):
            layer(wide)
