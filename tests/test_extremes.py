"""Losses, activations and options at the edges: infinities, huge numbers, NumPy's own numbers.

Right values are closed forms, or PyTorch's (tests/oracle/test_extremes.py) where it has one.
"""

import numpy as np
import pytest
from devices import each_backend

import tinygrad_mask as tg
from tinygrad_mask import Tensor, nn, no_grad
from tinygrad_mask import functions as F

INF = float("inf")
HUGE = np.float32(1e38)


def loss_and_gradient(function, logits, backend, **options):
    x = Tensor(np.array(logits, np.float32), device=backend, requires_grad=True)
    loss = function(x, **options)
    loss.backward()
    return loss.item(), x.grad.numpy()


@each_backend()
@pytest.mark.parametrize(
    ("logits", "target", "loss", "gradient"),
    [
        # A class masked with -inf has probability 0.
        ([[0.0, -INF, 1.0]], 0, 1.3132616, [[-0.73105858, 0, 0.73105858]]),
        ([[0.0, -INF, 1.0]], 1, INF, [[0.26894142, -1, 0.73105858]]),
        ([[-INF, 3.0]], 1, 0.0, [[0, 0]]),
        ([[1e38, -3e38]], 0, 0.0, [[0, 0]]),
        ([[1e38, -3e38]], 1, INF, [[1, -1]]),
        ([[1e38, 1e38]], 0, 0.6931472, [[-0.5, 0.5]]),
    ],
)
def test_cross_entropy_of_infinite_and_huge_logits(backend, logits, target, loss, gradient):
    got, grad = loss_and_gradient(F.cross_entropy, logits, backend, target=np.array([target]))
    assert got == pytest.approx(loss, rel=1e-6)
    assert grad == pytest.approx(np.array(gradient), abs=1e-6)


@each_backend()
def test_label_smoothing_and_weights_with_a_masked_class(backend):
    logits = [[0.0, -INF, 1.0], [2.0, 0.0, 1.0]]
    target = np.array([0, 2])
    # The masked class has a share of the wanted distribution: that costs infinitely much.
    got, _ = loss_and_gradient(F.cross_entropy, logits, backend, target=target, label_smoothing=0.1)
    assert got == INF
    # With a weight of 0 it has none, also with smoothing.
    weight = np.array([1, 0, 1], np.float32)
    got, grad = loss_and_gradient(
        F.cross_entropy, logits, backend, target=target, weight=weight, label_smoothing=0.1
    )
    logs = np.log(np.exp([0, 1]) / np.exp([0, 1]).sum())
    others = np.log(np.exp([2, 0, 1]) / np.exp([2, 0, 1]).sum())
    share = 0.1 / 3
    expected = -((0.9 + share) * logs[0] + share * logs[1])
    expected -= (0.9 + share) * others[2] + share * others[0]
    assert got == pytest.approx(expected / 2, rel=1e-5)
    assert np.isfinite(grad).all()


@each_backend()
@pytest.mark.parametrize(
    ("logit", "target", "loss", "gradient"),
    [
        (INF, 0.0, INF, 1.0),
        (INF, 1.0, 0.0, 0.0),
        (-INF, 0.0, 0.0, 0.0),
        (-INF, 1.0, INF, -1.0),
        (INF, 0.5, INF, 0.5),
        (1e38, 0.0, 1e38, 1.0),
        (-1e38, 1.0, 1e38, -1.0),
        (-1e38, 0.0, 0.0, 0.0),
        (0.0, 0.25, np.log(2), 0.25),
        (3.0, 1.0, np.log1p(np.exp(-3)), -1 / (1 + np.exp(3))),
    ],
)
def test_binary_cross_entropy_at_the_ends(backend, logit, target, loss, gradient):
    got, grad = loss_and_gradient(
        F.binary_cross_entropy_with_logits,
        [logit],
        backend,
        target=np.array([target], np.float32),
    )
    assert got == pytest.approx(loss, rel=1e-6)
    assert grad == pytest.approx(np.array([gradient]), abs=1e-6)


@pytest.mark.parametrize("pos_weight", [1.0, 2.5])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("logit", "target", "positive", "negative"),
    [(INF, 0, 0, INF), (INF, 1, 0, 0), (-INF, 0, 0, 0), (-INF, 1, INF, 0), (-1e38, 1, 1e38, 0)],
)
def test_the_general_binary_cross_entropy_at_the_ends(
    logit, target, positive, negative, reduction, pos_weight
):
    got = F.binary_cross_entropy_with_logits(
        Tensor(np.array([logit], np.float32)),
        np.array([target], np.float32),
        pos_weight=np.array([pos_weight], np.float32),
        reduction=reduction,
    )
    assert got.numpy().item() == pytest.approx(pos_weight * positive + negative, rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_the_general_cross_entropy_with_a_masked_class(reduction):
    x = Tensor(np.array([[0.0, -INF, 1.0]], np.float32), requires_grad=True)
    weight = np.array([1, 0, 1], np.float32)
    loss = F.cross_entropy(x, np.array([0]), weight=weight, reduction=reduction)
    assert loss.numpy() == pytest.approx(1.3132616)
    loss = F.cross_entropy(
        x, np.array([0]), weight=weight, label_smoothing=0.3, reduction=reduction
    )
    # 0.7 and 0.1 for the target, 0.1 for the third class.
    assert loss.numpy() == pytest.approx(0.8 * 1.3132616 + 0.1 * 0.3132616)
    loss.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


@each_backend()
def test_nan_is_not_hidden(backend):
    nan = float("nan")
    got, _ = loss_and_gradient(F.cross_entropy, [[nan, 0.0]], backend, target=np.array([1]))
    assert np.isnan(got)
    for target in (0.0, 1.0):
        got, _ = loss_and_gradient(
            F.binary_cross_entropy_with_logits,
            [nan],
            backend,
            target=np.array([target], np.float32),
        )
        assert np.isnan(got)


@each_backend()
def test_log_softmax_and_softmax_of_masked_classes(backend):
    x = Tensor(np.array([[0.0, -INF, 1.0]], np.float32), device=backend)
    expected = np.array([[1, 0, np.e]]) / (1 + np.e)
    assert F.softmax(x).numpy() == pytest.approx(expected, abs=1e-6)
    logs = F.log_softmax(x).numpy()
    assert logs[0, 1] == -INF
    assert np.exp(logs) == pytest.approx(expected, abs=1e-6)
    assert F.logsumexp(x, axis=1).numpy() == pytest.approx(np.log([1 + np.e]), abs=1e-6)


@each_backend()
def test_pooling_passes_gradients_of_minus_infinity_to_pixels(backend):
    x = Tensor(np.full((1, 3, 3, 2), -INF, np.float32), device=backend, requires_grad=True)
    y = F.max_pool2d(x, 3, stride=2, padding=1)
    assert (y.numpy() == -INF).all()
    y.backward(np.arange(1, 9, dtype=np.float32).reshape(1, 2, 2, 2))
    # Each window's first pixel: the window begins one pixel up and to the left.
    expected = np.zeros((1, 3, 3, 2), np.float32)
    for row, column, grad in ((0, 0, (1, 2)), (0, 1, (3, 4)), (1, 0, (5, 6)), (1, 1, (7, 8))):
        expected[0, row, column] = grad
    assert (x.grad.numpy() == expected).all()


# --- numbers of NumPy's as options --------------------------------------------------------------


def float32_tensor(*shape):
    rng = np.random.default_rng(0)
    return Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.clip(np.float64(0.5)),
        lambda x: x.clip(None, np.float64(0.5)),
        lambda x: F.clip(x, np.float64(-1), np.int64(1)),
        lambda x: F.dropout(x, np.float64(0.5), np.random.default_rng(0)),
        lambda x: F.var(x, correction=np.int64(1)),
        lambda x: F.leaky_relu(x, np.float64(0.1)),
        lambda x: x ** np.float64(2),
        lambda x: x + np.float64(1),
        lambda x: F.maximum(x, np.float64(0)),
        lambda x: F.pad(x, [(1, 1), (0, 0)], np.float64(2)),
        lambda x: F.where(x.numpy() > 0, x, np.float64(0)),
        lambda x: F.cross_entropy(x, np.zeros(6, int), label_smoothing=np.float64(0.1)),
        lambda x: F.layer_norm(x, (4,), eps=np.float64(1e-5)),
        lambda x: F.batch_norm(
            x,
            Tensor(np.ones(4, np.float32)),
            Tensor(np.zeros(4, np.float32)),
            Tensor(np.zeros(4, np.float32)),
            Tensor(np.ones(4, np.float32)),
            training=True,
            eps=np.float64(1e-5),
            momentum=np.float64(0.1),
        ),
    ],
)
def test_numbers_of_numpy_adopt_the_dtype(call):
    x = float32_tensor(6, 4)
    y = call(x)
    assert y.dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32


# --- gradients that would be lost ---------------------------------------------------------------


def test_bounds_of_clip_have_gradients():
    x = Tensor(np.array([-2.0, 0.0, 2.0, 1.0]), requires_grad=True)
    low = Tensor(np.array(-1.0), requires_grad=True)
    high = Tensor(np.array([1.0, 1.0, 1.5, 1.0]), requires_grad=True)
    y = F.clip(x, low, high)
    assert y.numpy().tolist() == [-1, 0, 1.5, 1]
    y.backward(np.array([1.0, 2.0, 4.0, 8.0]))
    assert x.grad.numpy().tolist() == [0, 2, 0, 8]
    assert low.grad.numpy() == 1
    assert high.grad.numpy().tolist() == [0, 0, 4, 0]
    one_sided = F.clip(x, low, None)
    assert one_sided.requires_grad
    assert one_sided.numpy().tolist() == [-1, 0, 2, 1]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda x, t: F.binary_cross_entropy_with_logits(x, t), "target"),
        (lambda x, t: F.cross_entropy(x, np.zeros(3, int), weight=t[0]), "weight"),
        (
            lambda x, t: F.batch_norm(x, None, None, t[0], t[0], training=False),
            "mean",
        ),
    ],
)
def test_arguments_without_a_gradient_refuse_tensors_that_want_one(call, argument):
    x, wanting = float32_tensor(3, 3), float32_tensor(3, 3)
    with pytest.raises(TypeError, match=rf"{argument} is not differentiable.*detach\(\)"):
        call(x, wanting)
    with no_grad():
        call(x, wanting)  # nothing is lost where nothing is recorded
    call(x, wanting.detach())


def test_a_value_that_wants_a_gradient_is_not_copied_in_silence():
    x = Tensor(np.zeros(3, np.float32))
    with pytest.raises((TypeError, RuntimeError), match=r"detach|record"):
        x.copy_(float32_tensor(3))
    with pytest.raises((TypeError, RuntimeError), match=r"detach|record"):
        x[0] = float32_tensor(3)[0]


# --- sizes that no memory holds -----------------------------------------------------------------

PICTURE = Tensor(np.zeros((2, 4, 4, 3), np.float32))
KERNEL = Tensor(np.zeros((3, 3, 2, 3), np.float32))

TOO_LARGE = """
nn.Linear(2**63, 2)
nn.Linear(2, 2**100)
nn.Linear(10**10, 10**10)
nn.Conv2d(2**63, 2, 3)
nn.Conv2d(3, 2**62, 3)
nn.Conv2d(3, 2, 2**40)
nn.ConvTranspose2d(2**31, 2**31, 3)
nn.Embedding(2**62, 8)
nn.BatchNorm(2**63)
nn.LayerNorm(2**63)
nn.LayerNorm((2**31, 2**31))
nn.GroupNorm(1, 2**63)
F.conv_transpose2d(x, kernel, stride=2**62)
F.conv_transpose2d(x, kernel, stride=2**30)
F.conv_transpose2d(x, kernel, dilation=2**62)
F.conv_transpose2d(x, kernel, stride=2**62, output_padding=2**61)
F.interpolate(x, scale_factor=1e300)
F.interpolate(x, scale_factor=1.7e308)
F.interpolate(x, scale_factor=1e10, mode="bilinear")
F.interpolate(x, size=2**62)
nn.Upsample(scale_factor=1e300)(x)
F.one_hot(Tensor([1, 2]), 2**62)
F.one_hot(Tensor([1, 2]), 2**63)
tg.zeros(2**63)
tg.ones(2**62, 8)
tg.full((2**63,), 1.0)
tg.eye(2**40)
tg.randn(2**62)
tg.rand(2**31, 2**31)
tg.arange(2**62)
tg.arange(0, 1, 1e-300)
tg.arange(10**400)
"""


@pytest.mark.parametrize("line", TOO_LARGE.strip().splitlines())
def test_a_size_that_no_memory_holds_is_refused_in_one_line(line):
    """Not by an error of NumPy's or C's, which names neither the function nor the size."""
    with pytest.raises(ValueError, match=r"(?i)^\w+: expected .*2\*\*60 elements, got ") as caught:
        eval(line, {"F": F, "Tensor": Tensor, "kernel": KERNEL, "nn": nn, "tg": tg, "x": PICTURE})
    assert "\n" not in str(caught.value)


def test_a_large_size_that_memory_holds_is_accepted():
    assert F.interpolate(PICTURE[:1, :1, :1, :1], scale_factor=1e3).shape == (1, 1000, 1000, 1)
    assert F.conv_transpose2d(PICTURE[:1, :1, :1], KERNEL[:1, :1], stride=1000).shape[1:3] == (
        1,
        1,
    )
    assert tg.arange(0, 1, 1e-3).shape == (1000,)
