"""`compile`: the same results as the model, for networks of every kind, or the model itself."""

import copy
import pickle
import re
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_mask as tg
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn
from tinygrad_mask.backends import get_backend
from tinygrad_mask.backends.cpu import CpuBackend
from tinygrad_mask.backends.cpu_kernels import available_instruction_sets
from tinygrad_mask.backends.reference import ReferenceBackend
from tinygrad_mask.compiler.fusion import fuse
from tinygrad_mask.compiler.memory import elements, plan_memory
from tinygrad_mask.compiler.trace import IMAGES, trace

pytestmark = pytest.mark.skipif(
    not isinstance(get_backend("cpu"), CpuBackend), reason="no compiled kernels for the CPU here"
)


def images(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@tg.no_grad
def spread_statistics(model, rng):
    """Give batch norms statistics and parameters that are not those of the beginning."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm):
            channels = module.num_features
            module.running_mean[...] = rng.standard_normal(channels).astype(np.float32)
            module.running_var[...] = rng.uniform(0.5, 2, channels).astype(np.float32)
            if module.weight is not None:
                module.weight.copy_(rng.uniform(-1.5, 1.5, channels).astype(np.float32))
                module.bias.copy_(rng.standard_normal(channels).astype(np.float32))


def in_float64(model, x):
    """What a model computes, by the NumPy reference in float64: (the result, its size)."""
    reference = ReferenceBackend()
    state = {name: t.numpy().copy() for name, t in _tensors(model)}
    for _, tensor in _tensors(model):
        tensor.backend, tensor.data = reference, tensor.data.astype(np.float64)
    try:
        with tg.no_grad():
            result = model(Tensor.from_array(x.numpy().astype(np.float64), reference))
    finally:
        for name, tensor in _tensors(model):
            tensor.backend, tensor.data = get_backend("cpu"), state[name]
    results = result if isinstance(result, tuple | list) else [result]
    return [r.numpy() for r in results]


def _tensors(model):
    return [*model.named_parameters(), *model.named_buffers()]


def check(model, *batches, compiles=True):
    """Compare a compiled model with the model in double precision, to 1e-5 of the largest value."""
    model.eval()
    fast = tg.compile(model)
    for x in batches:
        fast(x)  # other shapes than the first are compiled when they come again
        got = fast(x)
        got = got if isinstance(got, tuple | list) else [got]
        with tg.no_grad():
            plain = model(x)
        plain = plain if isinstance(plain, tuple | list) else [plain]
        for g, p, w in zip(got, plain, in_float64(model, x), strict=True):
            assert g.shape == p.shape == w.shape
            assert g.dtype == np.float32
            np.testing.assert_allclose(g.numpy(), w, rtol=0, atol=1e-5 * max(abs(w).max(), 1))
    assert (not fast.reasons) == compiles, fast.reasons
    return fast


# --- random networks ----------------------------------------------------------------------------


class Residual(nn.Module):
    """`activation(main(x) + short_cut(x))`, the operands in either order."""

    def __init__(self, main, short_cut, activation, main_first):
        super().__init__()
        self.main, self.short_cut, self.main_first = main, short_cut, main_first
        self.activation = activation

    def forward(self, x):
        a, b = self.main(x), x if self.short_cut is None else self.short_cut(x)
        total = a + b if self.main_first else b + a
        return total if self.activation is None else self.activation(total)


class Pyramid(nn.Module):
    """Features of two scales added: the coarse ones enlarged by repetition or interpolation."""

    def __init__(self, channels, outputs, how, rng):
        super().__init__()
        self.fine = nn.Conv2d(channels, outputs, 1, rng=rng)
        self.down = nn.Conv2d(channels, outputs, 3, stride=2, padding=1, rng=rng)
        self.head = nn.Conv2d(outputs, 4, 3, padding=1, rng=rng)
        self.how = how

    def forward(self, x):
        coarse = F.relu(self.down(x))
        n, h, w, c = coarse.shape
        if self.how == "repeat":
            wide = F.broadcast_to(coarse.reshape(n, h, 1, w, 1, c), (n, h, 2, w, 2, c))
            large = wide.reshape(n, 2 * h, 2 * w, c)[:, : x.shape[1], : x.shape[2]]
        else:
            large = F.interpolate(coarse, x.shape[1:3], mode=self.how)
        merged = self.fine(x) + large
        return self.head(F.relu(merged)), coarse


class Joined(nn.Module):
    """Two branches concatenated along the channels."""

    def __init__(self, left, right):
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x):
        return F.concatenate([self.left(x), x, self.right(x)], axis=-1)


ACTIVATIONS = [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.LeakyReLU]


@st.composite
def networks(draw):
    """Draw a model and the shape of its images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    height, width = draw(st.integers(5, 14)), draw(st.integers(5, 14))
    channels = first = draw(st.sampled_from([1, 3, 8, 16, 20]))
    layers = []

    def convolution(inputs, outputs, kernel=3, **options):
        layer = nn.Conv2d(
            inputs, outputs, kernel, padding="same", bias=draw(st.booleans()), rng=rng, **options
        )
        after = []
        if draw(st.booleans()):
            after.append(nn.BatchNorm(outputs, affine=draw(st.booleans())))
        return [layer, *after]

    for _ in range(draw(st.integers(1, 5))):
        kind = draw(
            st.sampled_from(
                ["conv", "depthwise", "grouped", "residual", "max", "avg", "norm", "joined", "act"]
            )
        )
        outputs = draw(st.sampled_from([4, 16, 33]))
        activation = draw(st.sampled_from([None, *ACTIVATIONS]))
        if kind == "conv":
            layers += convolution(channels, outputs, draw(st.sampled_from([1, 2, 3, 5])))
            channels = outputs
        elif kind == "depthwise":
            layers += convolution(channels, channels, groups=channels)
        elif kind == "grouped":
            layers += convolution(channels, 2 * channels, groups=channels if channels < 4 else 1)
            channels *= 2
        elif kind == "residual":
            same = draw(st.booleans())
            outputs = channels if same else outputs
            layers.append(
                Residual(
                    nn.Sequential(convolution(channels, outputs)),
                    None if same else nn.Sequential(convolution(channels, outputs, 1)),
                    None if activation is None else activation(),
                    draw(st.booleans()),
                )
            )
            channels, activation = outputs, None
        elif kind == "max":
            layers.append(nn.MaxPool2d(3, 1, draw(st.integers(0, 1)) and 1))
            if layers[-1].padding == 0:
                if min(height, width) < 4:
                    layers.pop()
                else:
                    height, width = height - 2, width - 2
        elif kind == "avg":
            layers.append(nn.AvgPool2d(3, 1, 1, count_include_pad=draw(st.booleans())))
        elif kind == "norm":
            layers.append(nn.BatchNorm(channels))
        elif kind == "joined":
            layers.append(
                Joined(
                    nn.Sequential(convolution(channels, 5, 1)),
                    nn.Sequential(convolution(channels, 7)),
                )
            )
            channels += 12
        if activation is not None:
            layers.append(activation())
        layers += [nn.Dropout(0.5)] * draw(st.booleans())
    head = draw(st.sampled_from(["none", "global", "flatten", "pixels"]))
    if head == "global":
        layers += [nn.GlobalAvgPool2d(), nn.Linear(channels, 3, rng=rng)]
    elif head == "flatten":
        size = height * width * channels
        layers += [
            nn.Flatten(),
            nn.Linear(size, 6, bias=False, rng=rng),
            nn.BatchNorm(6),
            nn.ReLU(),
        ]
    elif head == "pixels":
        layers.append(nn.Linear(channels, 2, rng=rng))
    model = nn.Sequential(layers)
    spread_statistics(model, rng)
    shape = (height, width, first)
    for layer in layers:  # undo the shrinking: images are as large as at the beginning
        if isinstance(layer, nn.MaxPool2d) and layer.padding == 0:
            shape = (shape[0] + 2, shape[1] + 2, first)
    return model, shape


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from([1, 2, 5]))
def test_random_networks(drawn, count):
    model, shape = drawn
    if not any(
        isinstance(
            m, (nn.Conv2d, nn.Linear, nn.BatchNorm, nn.MaxPool2d, nn.AvgPool2d, *ACTIVATIONS)
        )
        for m in model.modules()
    ):
        return  # nothing but dropout
    check(model, images(count, *shape), images(3, *shape, seed=1))


@pytest.mark.parametrize("how", ["repeat", "nearest", "bilinear"])
@pytest.mark.parametrize("sides", [(8, 12), (7, 9)])
def test_a_feature_pyramid_with_two_outputs(how, sides):
    model = Pyramid(16, 24, how, np.random.default_rng(0))
    fast = check(model, images(2, *sides, 16), images(1, *sides, 16, seed=1))
    assert isinstance(fast(images(1, *sides, 16)), tuple)


def test_large_images_and_batches_that_are_run_a_few_at_a_time():
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, rng=rng),
        nn.BatchNorm(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False, rng=rng),
        nn.BatchNorm(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.GlobalAvgPool2d(),
    )
    spread_statistics(model, rng)
    check(model, images(37, 64, 64, 3), images(1, 64, 64, 3), images(2, 33, 90, 3))


@pytest.mark.parametrize("instruction_set", available_instruction_sets())
def test_every_instruction_set(instruction_set, monkeypatch):
    backend = CpuBackend(instruction_set)
    rng = np.random.default_rng(0)
    block = nn.Sequential(nn.Conv2d(20, 20, 3, padding=1, rng=rng), nn.BatchNorm(20))
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1, rng=rng),
        nn.BatchNorm(20),
        nn.ReLU(),
        Residual(block, None, nn.ReLU(), True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 6 * 20, 3, rng=rng),
    ).eval()
    spread_statistics(model, rng)
    x = images(4, 12, 12, 3)
    [wanted] = in_float64(model, x)
    fast = tg.compile(model.to(backend))
    np.testing.assert_allclose(fast(x.to(backend)).numpy(), wanted, rtol=0, atol=1e-5)
    assert not fast.reasons


def test_max_pooling_knows_nan_and_infinity():
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.ReLU()).eval()
    x = images(2, 9, 9, 20).numpy().copy()
    x[0, 4, 4], x[1, 2, 3, ::2], x[1, 2, 4, ::2] = np.nan, np.inf, -np.inf
    with tg.no_grad():
        wanted = model(Tensor(x)).numpy()
    np.testing.assert_array_equal(tg.compile(model)(Tensor(x)).numpy(), wanted)


# --- what is folded -----------------------------------------------------------------------------


def test_batch_norm_residual_and_activation_are_part_of_the_convolution():
    rng = np.random.default_rng(0)
    block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, rng=rng), nn.BatchNorm(16))
    model = nn.Sequential(
        nn.Conv2d(16, 16, 3, padding=1, rng=rng),
        nn.BatchNorm(16),
        nn.ReLU(),
        Residual(block, None, nn.ReLU(), True),
    ).eval()
    graph = fuse(trace(model, images(IMAGES, 8, 8, 16)))
    assert [op.kind for op in graph.ops] == ["conv2d", "conv2d"]
    assert [len(op.inputs) for op in graph.ops] == [1, 2]
    assert [op.options["activation"] for op in graph.ops] == ["relu", "relu"]


def test_values_that_live_at_the_same_time_do_not_overlap():
    rng = np.random.default_rng(0)
    layers = []
    for _ in range(4):
        block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, rng=rng), nn.SiLU())
        layers += [Residual(block, None, nn.SiLU(), True), nn.AvgPool2d(3, 1, 1)]
    graph = fuse(trace(nn.Sequential(layers).eval(), images(IMAGES, 8, 8, 8)))
    places, total = plan_memory(graph)
    born = {op.output: k for k, op in enumerate(graph.ops)}
    dies = {v: max(k for k, op in enumerate(graph.ops) if v in op.inputs) for v in places}
    size = {op.output: elements(op.shape) for op in graph.ops}
    for a in places:
        assert places[a] + size[a] <= total
        for b in places:
            if a < b and born[b] <= dies[a]:
                assert places[a] + size[a] <= places[b] or places[b] + size[b] <= places[a]
    assert total < sum(size.values()) / 3  # 17 values of one size in the room of 3


# --- never silently wrong -----------------------------------------------------------------------


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.linear = nn.Linear(4, 4, rng=np.random.default_rng(0))

    def forward(self, x):
        return self.function(self.linear(x))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (F.exp, "exp"),
        (lambda x: x * 2, "multiply"),
        (lambda x: x + x.max(axis=0, keepdims=True), "max"),
        (lambda x: x.reshape(1, -1), "depend|across|batch"),
        (lambda x: x[:1], "images of"),
        (lambda x: x[::-1], "images of|across"),
        (lambda x: F.relu(x + Tensor(x.numpy()[::-1].copy())), "constant"),
        (lambda x: F.relu(x) if x.numpy().sum() > -1e9 else x, None),
        (lambda x: {"scores": x}, "no tensor"),
    ],
)
def test_what_cannot_be_compiled_runs_as_it_is(function, reason):
    model = Calls(function).eval()
    fast = tg.compile(model)
    for count in (3, 2, 1):
        x = images(count, 4)
        with tg.no_grad():
            wanted, got = model(x), fast(x)
        if isinstance(wanted, dict):
            wanted, got = wanted["scores"], got["scores"]
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-6, atol=1e-6)
    if reason is None:
        assert not fast.reasons
    else:
        assert re.search(reason, next(iter(fast.reasons.values()))), fast.reasons


def test_a_constant_made_from_the_input_is_noticed():
    model = Calls(lambda x: F.linear(x, Tensor(x.numpy().T @ x.numpy()))).eval()
    fast = tg.compile(model)
    x = images(6, 4)
    with tg.no_grad():
        wanted = model(x).numpy()
    np.testing.assert_allclose(fast(x).numpy(), wanted, rtol=1e-6)
    assert "depend on the input" in next(iter(fast.reasons.values()))


def test_float64_and_the_reference_run_as_they_are():
    model = nn.Sequential(nn.Linear(4, 3, rng=np.random.default_rng(0)), nn.ReLU()).eval()
    x = images(2, 4)
    wanted = tg.compile(model)(x).numpy()
    fast = tg.compile(model.double())
    result = fast(x.astype(np.float64))
    assert result.dtype == np.float64
    np.testing.assert_allclose(result.numpy(), wanted, rtol=1e-6, atol=1e-7)
    assert "float64" in next(iter(fast.reasons.values()))


def test_changes_of_the_model_are_followed():
    model = nn.Sequential(nn.Linear(4, 3, rng=np.random.default_rng(0)), nn.BatchNorm(3)).eval()
    fast, x = tg.compile(model), images(2, 4)

    def same():
        with tg.no_grad():
            return np.allclose(fast(x).numpy(), model(x).numpy(), atol=1e-6)

    assert same()
    with tg.no_grad():
        model[0].weight *= 2
    assert same()
    model[1].running_mean[...] = 3.0
    assert same()
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    assert same()
    model[0] = nn.Linear(4, 3, rng=np.random.default_rng(5)).eval()
    assert same()
    model[1].eps = 2.0
    assert same()
    seen = []
    handle = model[0].register_forward_hook(lambda module, args, output: seen.append(output))
    assert same()
    assert len(seen) >= 2  # the hook ran for both
    handle.remove()
    assert same()
    assert not fast.reasons


def test_another_shape_is_compiled_when_it_comes_again():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, rng=np.random.default_rng(0)), nn.ReLU())
    fast = tg.compile(model.eval())
    calls = []
    model[0].forward = lambda *args, forward=model[0].forward: calls.append(1) or forward(*args)
    fast(images(1, 8, 8, 3))
    made = len(calls)
    fast(images(5, 8, 8, 3))
    assert made == len(calls) > 0
    other = images(1, 9, 8, 3)
    fast(other)
    assert len(calls) == made + 1  # as it is
    fast(other)
    made = len(calls)
    assert fast(other).shape == (1, 9, 8, 8)
    assert len(calls) == made  # compiled


def test_training_mode_is_refused():
    model = nn.Sequential(nn.Linear(4, 3, rng=np.random.default_rng(0)), nn.BatchNorm(3))
    with pytest.raises(RuntimeError, match=r"evaluation mode.*call model\.eval\(\)"):
        tg.compile(model)
    fast = tg.compile(model.eval())
    fast(images(2, 4))
    model[1].train()
    before = model[1].running_mean.numpy().copy()
    with pytest.raises(RuntimeError, match="BatchNorm in training mode"):
        fast(images(2, 4))
    np.testing.assert_array_equal(model[1].running_mean.numpy(), before)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="compile: expected a Module, got function"):
        tg.compile(lambda x: x)
    model = nn.Linear(4, 3, rng=np.random.default_rng(0)).eval()
    with pytest.raises(TypeError, match="expected a Tensor, got ndarray"):
        tg.compile(model)(np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"Linear: expected an input \(\.\.\., 4\)"):
        tg.compile(model)(images(2, 5))


def test_results_are_arrays_of_their_own_and_no_images_are_none():
    model = nn.Sequential(nn.Linear(4, 3, rng=np.random.default_rng(0)), nn.ReLU()).eval()
    fast = tg.compile(model)
    first = fast(images(2, 4)).numpy().copy()
    kept = fast(images(2, 4))
    fast(images(2, 4, seed=1))
    np.testing.assert_array_equal(kept.numpy(), first)
    assert not kept.requires_grad
    assert fast(Tensor(np.zeros((0, 4), np.float32))).shape == (0, 3)
    strided = images(4, 8)[::2, ::2]
    with tg.no_grad():
        np.testing.assert_allclose(fast(strided).numpy(), model(strided).numpy(), atol=1e-6)


def test_copies_and_pickles_compile_for_themselves():
    model = nn.Sequential(nn.Linear(4, 3, rng=np.random.default_rng(0)), nn.ReLU()).eval()
    fast, x = tg.compile(model), images(2, 4)
    wanted = fast(x).numpy()
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        np.testing.assert_array_equal(twin(x).numpy(), wanted)
        twin.model[0].weight.detach()[...] = 0.0
        np.testing.assert_array_equal(fast(x).numpy(), wanted)
        assert not twin(x).numpy().any()


def test_wrong_places_and_shapes_are_refused_by_the_kernels():
    program = get_backend("cpu").kernels.Program(12, 32, [6])
    weight, bias = np.zeros((4, 2), np.float32), np.zeros(2, np.float32)
    here, there = ("input", 0), ("output", 0)
    for call, message in (
        (lambda: program.linear(here, 4, weight, bias, "none", there), "elements do not fit"),
        (
            lambda: program.linear(here, 3, weight, bias, "none", ("arena", 27)),
            "6 elements do not fit",
        ),
        (lambda: program.linear(here, 3, weight, bias, "none", ("output", 1)), "expected a place"),
        (lambda: program.linear(here, 3, weight, bias, "none", ("arena", -1)), "expected a place"),
        (lambda: program.linear(here, 3, weight, np.zeros(3, np.float32), "none", there), "shape"),
        (lambda: program.linear(here, 3, weight, bias, "silu", there), "activation"),
        (lambda: program.copy(here, 12, 0, [3, 2], [5, 2], there), "leaves its image"),
        (lambda: program.copy(here, 12, -1, [6], [1], there), "leaves its image"),
        (lambda: program.copy_blocks(here, 3, 4, there, 0, 2), "overlap"),
        (lambda: program.run(np.zeros((2, 11), np.float32), [np.zeros(12, np.float32)]), "x:"),
        (lambda: program.run(np.zeros((2, 12), np.float32), [np.zeros(11, np.float32)]), "output:"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_several_threads_at_once():
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, rng=rng),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, rng=rng),
        nn.GlobalAvgPool2d(),
    ).eval()
    batches = [images(count, 16, 16, 3, seed=count) for count in (1, 2, 3, 4)]
    with tg.no_grad():
        wanted = [model(x).numpy() for x in batches]
    fast, wrong = tg.compile(model), []

    def work(k):
        for _ in range(40):
            if not np.allclose(fast(batches[k]).numpy(), wanted[k], atol=1e-5):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not fast.reasons
