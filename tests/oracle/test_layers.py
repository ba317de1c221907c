"""Layers against PyTorch's: results, gradients and buffers, in float64."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, convert, nn

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")


def swap(array):
    """An image NHWC as PyTorch has it, NCHW; other arrays as they are."""
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


IMAGE, ROWS = (4, 6, 5, 6), (7, 6)

# Each: the two layers, the input's shape, and whether images are NCHW there.
LAYERS = {
    "BatchNorm, momentum=None": (
        lambda: nn.BatchNorm(6, momentum=None),
        lambda: torch.nn.BatchNorm2d(6, momentum=None),
        IMAGE,
    ),
    "BatchNorm, affine=False": (
        lambda: nn.BatchNorm(6, affine=False),
        lambda: torch.nn.BatchNorm1d(6, affine=False),
        ROWS,
    ),
    "BatchNorm, track_running_stats=False": (
        lambda: nn.BatchNorm(6, 1e-3, track_running_stats=False),
        lambda: torch.nn.BatchNorm2d(6, 1e-3, track_running_stats=False),
        IMAGE,
    ),
    "LayerNorm": (lambda: nn.LayerNorm(6), lambda: torch.nn.LayerNorm(6), ROWS),
    "LayerNorm, no bias": (
        lambda: nn.LayerNorm([2, 6], 0.1, bias=False),
        lambda: torch.nn.LayerNorm([2, 6], 0.1, bias=False),
        (3, 2, 6),
    ),
    "LayerNorm, not affine": (
        lambda: nn.LayerNorm(6, elementwise_affine=False),
        lambda: torch.nn.LayerNorm(6, elementwise_affine=False),
        ROWS,
    ),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), lambda: torch.nn.GroupNorm(3, 6), IMAGE),
    "GroupNorm, not affine": (
        lambda: nn.GroupNorm(2, 6, 0.1, affine=False),
        lambda: torch.nn.GroupNorm(2, 6, 0.1, affine=False),
        IMAGE,
    ),
    "Upsample, size": (lambda: nn.Upsample([9, 7]), lambda: torch.nn.Upsample((9, 7)), IMAGE),
    "Upsample, bilinear": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda: torch.nn.Upsample(scale_factor=2, mode="bilinear"),
        IMAGE,
    ),
    "Upsample, corners": (
        lambda: nn.Upsample(None, (2, 3), "bilinear", True),
        lambda: torch.nn.Upsample(None, (2, 3), "bilinear", True),
        IMAGE,
    ),
    "ELU": (lambda: nn.ELU(0.7), lambda: torch.nn.ELU(0.7), ROWS),
    "GELU": (lambda: nn.GELU(), lambda: torch.nn.GELU(), ROWS),
    "GELU, tanh": (lambda: nn.GELU("tanh"), lambda: torch.nn.GELU("tanh"), ROWS),
    "Softplus": (lambda: nn.Softplus(2, 3), lambda: torch.nn.Softplus(2, 3), ROWS),
    "Hardtanh": (lambda: nn.Hardtanh(), lambda: torch.nn.Hardtanh(), ROWS),
    "Hardtanh(0, 6)": (lambda: nn.Hardtanh(0, 0.5), lambda: torch.nn.Hardtanh(0, 0.5), ROWS),
    "AdaptiveAvgPool2d(1)": (
        lambda: nn.AdaptiveAvgPool2d(1),
        lambda: torch.nn.AdaptiveAvgPool2d(1),
        IMAGE,
    ),
    "AdaptiveAvgPool2d, a divisor": (
        lambda: nn.AdaptiveAvgPool2d([3, None]),
        lambda: torch.nn.AdaptiveAvgPool2d((3, None)),
        IMAGE,
    ),
    "AdaptiveAvgPool2d, no divisor": (
        lambda: nn.AdaptiveAvgPool2d((4, 3)),
        lambda: torch.nn.AdaptiveAvgPool2d((4, 3)),
        IMAGE,
    ),
    "AdaptiveAvgPool2d, enlarging": (
        lambda: nn.AdaptiveAvgPool2d((7, 9)),
        lambda: torch.nn.AdaptiveAvgPool2d((7, 9)),
        IMAGE,
    ),
    "Dropout(1)": (lambda: nn.Dropout(1), lambda: torch.nn.Dropout(1), ROWS),
    "Softmax": (lambda: nn.Softmax(dim=0), lambda: torch.nn.Softmax(dim=0), ROWS),
    "LogSoftmax": (lambda: nn.LogSoftmax(0), lambda: torch.nn.LogSoftmax(0), ROWS),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("ours", "theirs", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers(ours, theirs, shape, training):
    rng = np.random.default_rng(0)
    layer, other = ours().double(), theirs().double()
    with torch.no_grad():  # weights that are not ones and zeros
        for name, parameter in layer.named_parameters():
            values = rng.standard_normal(parameter.shape)
            parameter.detach()[...] = values
            dict(other.named_parameters())[name].copy_(torch.from_numpy(values))
    assert len(layer.parameters()) == len(list(other.parameters()))
    for k in range(3):  # running statistics move; the last batch is compared
        layer.train(training or k < 2)
        other.train(training or k < 2)
        x = rng.standard_normal(shape)
        mine = Tensor(x, requires_grad=True)
        hers = torch.tensor(swap(x), requires_grad=True)
        y, expected = layer(mine), other(hers)
    np.testing.assert_allclose(swap(y.numpy()), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    direction = rng.standard_normal(y.shape)
    y.backward(direction)
    expected.backward(torch.from_numpy(swap(direction).copy()))
    np.testing.assert_allclose(swap(mine.grad.numpy()), hers.grad.numpy(), rtol=1e-8, atol=1e-11)
    for name, parameter in layer.named_parameters():
        gradient = dict(other.named_parameters())[name].grad.numpy()
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-8, atol=1e-11)
    buffers = dict(other.named_buffers())
    for name, buffer in layer.named_buffers():
        np.testing.assert_allclose(buffer.numpy(), buffers[name].numpy(), rtol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": (2, 3), "stride": 2, "padding": (0, 1), "output_padding": 1},
        {"kernel_size": 3, "stride": (3, 2), "padding": 2, "output_padding": (2, 0)},
        {"kernel_size": 2, "stride": 1, "dilation": (2, 3), "groups": 2},
        {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 3},
        {"kernel_size": 1, "stride": 3},
    ],
    ids=str,
)
def test_conv_transpose2d(options, bias):
    rng = np.random.default_rng(0)
    layer = nn.ConvTranspose2d(6, 12, bias=bias, rng=rng, **options).double()
    other = torch.nn.ConvTranspose2d(6, 12, bias=bias, **options).double()
    with torch.no_grad():
        other.weight.copy_(torch.from_numpy(layer.weight.numpy().transpose(3, 2, 0, 1).copy()))
        if bias:
            layer.bias.detach()[...] = rng.standard_normal(12)
            other.bias.copy_(torch.from_numpy(layer.bias.numpy().copy()))
    x = rng.standard_normal((2, 5, 4, 6))
    mine, hers = Tensor(x, requires_grad=True), torch.tensor(swap(x), requires_grad=True)
    y, expected = layer(mine), other(hers)
    np.testing.assert_allclose(swap(y.numpy()), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    direction = rng.standard_normal(y.shape)
    y.backward(direction)
    expected.backward(torch.from_numpy(swap(direction).copy()))
    np.testing.assert_allclose(swap(mine.grad.numpy()), hers.grad.numpy(), rtol=1e-9, atol=1e-11)
    gradient = layer.weight.grad.numpy().transpose(3, 2, 0, 1)
    np.testing.assert_allclose(gradient, other.weight.grad.numpy(), rtol=1e-9, atol=1e-11)
    if bias:
        np.testing.assert_allclose(layer.bias.grad.numpy(), other.bias.grad.numpy(), rtol=1e-9)


def test_embedding():
    layer, other = nn.Embedding(5, 3).double(), torch.nn.Embedding(5, 3).double()
    with torch.no_grad():
        other.weight.copy_(torch.from_numpy(layer.weight.numpy().copy()))
    indices = np.array([[0, 4, 4], [2, 0, 4]])
    y, expected = layer(Tensor(indices)), other(torch.from_numpy(indices))
    assert np.array_equal(y.numpy(), expected.detach().numpy())
    assert np.array_equal(layer(indices.tolist()).numpy(), y.numpy())
    direction = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(direction)
    expected.backward(torch.from_numpy(direction))
    np.testing.assert_allclose(layer.weight.grad.numpy(), other.weight.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MSELoss", {}),
        ("L1Loss", {}),
        ("SmoothL1Loss", {}),
        ("SmoothL1Loss", {"beta": 0.3}),
        ("SmoothL1Loss", {"beta": 0}),
    ],
    ids=str,
)
def test_losses_of_regression(name, options, reduction):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 4, 3))
    x[0, 0] = target[0, 0]
    inputs = [Tensor(a, requires_grad=True) for a in (x, target)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, target)]
    y = getattr(nn, name)(reduction=reduction, **options)(*inputs)
    expected = getattr(torch.nn, name)(reduction=reduction, **options)(*theirs)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-12)
    y.sum().backward()
    expected.sum().backward()
    for mine, hers in zip(inputs, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), hers.grad.numpy(), rtol=1e-12, atol=1e-15)
    plain = getattr(nn, name)(reduction=reduction, **options)(Tensor(x), target)
    np.testing.assert_allclose(plain.numpy(), y.numpy())


def test_hardtanh_and_elu_at_their_ends():
    ends = np.array([-1.0, 1.0, 0.0, np.inf, -np.inf, 1e300, -800.0])
    for ours, theirs in (
        (nn.Hardtanh(), torch.nn.Hardtanh()),
        (nn.ELU(), torch.nn.ELU()),
        (nn.Softplus(), torch.nn.Softplus()),
    ):
        x, other = Tensor(ends, requires_grad=True), torch.tensor(ends, requires_grad=True)
        y, expected = ours(x), theirs(other)
        np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-12)
        y.sum().backward()
        expected.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=1e-12)
        assert np.isnan(ours(Tensor([np.nan])).numpy()).all()


@given(
    seed=st.integers(0, 9999),
    rows=st.integers(1, 6),
    classes=st.integers(1, 5),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    kind=st.sampled_from(["hard", "ignored", "another ignored", "soft"]),
    weighted=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_cross_entropy_loss(seed, rows, classes, reduction, kind, weighted, smoothing):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((rows, classes))
    target = rng.integers(classes, size=rows)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    if kind == "another ignored":
        options["ignore_index"] = classes - 1
        target[0] = 0
        assume(classes > 1)
    elif kind == "ignored":
        target[1:][rng.random(rows - 1) < 0.5] = -100
    elif kind == "soft":
        target = rng.dirichlet(np.ones(classes), rows)
    weight = rng.uniform(0.1, 3, classes) if weighted else None
    ours = nn.CrossEntropyLoss(weight, **options)
    theirs = torch.nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight), **options)
    x, other = Tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    wanted, wanted_there = target, torch.tensor(target)
    if kind == "soft":
        wanted = Tensor(target, requires_grad=True)
        wanted_there.requires_grad_()
    loss, expected = ours(x, wanted), theirs(other, wanted_there)
    np.testing.assert_allclose(loss.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-13)
    loss.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=1e-9, atol=1e-12)
    if kind == "soft":
        gradient = wanted_there.grad.numpy()
        np.testing.assert_allclose(wanted.grad.numpy(), gradient, rtol=1e-9, atol=1e-12)
        plain = ours(x, target)
        np.testing.assert_allclose(plain.numpy(), loss.numpy(), rtol=1e-12)
    elif smoothing == 0:
        found = F.nll_loss(
            F.log_softmax(x), target, weight, options.get("ignore_index", -100), reduction
        )
        np.testing.assert_allclose(found.numpy(), loss.numpy(), rtol=1e-10, atol=1e-13)


@given(
    seed=st.integers(0, 9999),
    rows=st.integers(1, 6),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    weighted=st.booleans(),
    positive=st.booleans(),
    scale=st.sampled_from([1.0, 60.0, 1000.0]),
)
def test_bce_with_logits_loss(seed, rows, reduction, weighted, positive, scale):
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((rows, 3))
    target = rng.choice([0.0, 1.0, 0.3], (rows, 3))
    weight = rng.uniform(0.1, 3, (rows, 1)) if weighted else None
    pos_weight = rng.uniform(0.1, 3, 3) if positive else None
    ours = nn.BCEWithLogitsLoss(weight, reduction, pos_weight)
    theirs = torch.nn.BCEWithLogitsLoss(
        weight=None if weight is None else torch.tensor(weight),
        reduction=reduction,
        pos_weight=None if pos_weight is None else torch.tensor(pos_weight),
    )
    x, other = Tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    loss, expected = ours(x, target), theirs(other, torch.tensor(target))
    np.testing.assert_allclose(loss.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-13)
    loss.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_impossible_classes_that_do_not_count_cost_nothing():
    logits = np.array([[0.0, -np.inf, 1.0], [2.0, 1.0, 0.0]])
    soft = np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    for target in (np.array([0, -100]), soft):
        x = Tensor(logits, requires_grad=True)
        loss = F.cross_entropy(x, target, reduction="none")
        assert np.isfinite(loss.numpy()).all()
        loss.sum().backward()
        assert np.isfinite(x.grad.numpy()).all()
    ignored = F.cross_entropy(Tensor(logits), np.array([-100, 1]), reduction="none")
    assert ignored.numpy()[0] == 0


def test_states_of_these_layers_are_exchanged():
    pairs = [
        (
            nn.ConvTranspose2d(4, 6, (2, 3), 2, groups=2),
            torch.nn.ConvTranspose2d(4, 6, (2, 3), 2, groups=2),
        ),
        (nn.Embedding(5, 3), torch.nn.Embedding(5, 3)),
        (nn.LayerNorm(6), torch.nn.LayerNorm(6)),
        (nn.GroupNorm(2, 6), torch.nn.GroupNorm(2, 6)),
        (nn.BatchNorm(6, momentum=None), torch.nn.BatchNorm2d(6, momentum=None)),
    ]
    for ours, theirs in pairs:
        ours.load_state_dict(convert.from_torch(theirs.state_dict(), ours))
        back = convert.to_torch(ours)
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(back[name], tensor), name
    x = np.random.default_rng(0).standard_normal((1, 3, 3, 4)).astype(np.float32)
    ours, theirs = pairs[0]
    expected = theirs(torch.from_numpy(swap(x).copy())).detach().numpy()
    np.testing.assert_allclose(swap(ours(Tensor(x)).numpy()), expected, rtol=1e-5, atol=1e-6)


@given(
    kind=st.sampled_from(["MaxPool2d", "AvgPool2d"]),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padded=st.tuples(st.booleans(), st.booleans()),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    ceil_mode=st.booleans(),
    include=st.booleans(),
    divisor=st.one_of(st.none(), st.integers(1, 5)),
    seed=st.integers(0, 99),
)
def test_pooling_options(
    kind, sides, size, stride, padded, dilation, ceil_mode, include, divisor, seed
):
    padding = tuple(k // 2 if p else 0 for k, p in zip(size, padded, strict=True))
    options = {"ceil_mode": ceil_mode}
    if kind == "MaxPool2d":
        options["dilation"] = dilation
    else:
        options |= {"count_include_pad": include, "divisor_override": divisor}
        dilation = (1, 1)
    for n, k, p, d in zip(sides, size, padding, dilation, strict=True):
        assume(n + 2 * p >= d * (k - 1) + 1)
        assume(d == 1 or p == 0)  # PyTorch has windows of nothing but padding there
    x = np.random.default_rng(seed).standard_normal((2, *sides, 3))
    mine, other = Tensor(x, requires_grad=True), torch.tensor(swap(x), requires_grad=True)
    y = getattr(nn, kind)(size, stride, padding, **options)(mine)
    expected = getattr(torch.nn, kind)(size, stride, padding, **options)(other)
    np.testing.assert_allclose(swap(y.numpy()), expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    direction = np.random.default_rng(seed + 1).standard_normal(y.shape)
    y.backward(direction)
    expected.backward(torch.from_numpy(swap(direction).copy()))
    np.testing.assert_allclose(swap(mine.grad.numpy()), other.grad.numpy(), rtol=1e-11, atol=1e-13)
