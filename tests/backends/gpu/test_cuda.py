"""The device `cuda` where there is no GPU: what is said, and its code on a stand-in for CuPy. With
`--device cuda` what does not look into the stand-in runs on the GPU.

The stand-in refuses what CuPy refuses, so that whatever would leave the GPU in silence fails here.
"""

import sys
from types import SimpleNamespace

import devices
import fake_cupy
import numpy as np
import pytest
from devices import drawn, needs_emulator
from hypothesis import strategies as st
from kernel_calls import CALLS, call

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, no_grad, optim
from tinygrad_mask import compile as compile_model
from tinygrad_mask.backends import DeviceError, cuda, emulator_backend, get_backend
from tinygrad_mask.backends.cpu import cpu_backend
from tinygrad_mask.testing import check_gradients
from tinygrad_mask.testing.strategies import STRATEGIES


@pytest.fixture(autouse=True)
def forget():
    """Whatever was found out about the GPU here is found out again."""
    cuda.cuda_backend.cache_clear()
    cuda.cuda_is_available.cache_clear()
    yield
    cuda.cuda_backend.cache_clear()
    cuda.cuda_is_available.cache_clear()


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    fake_cupy._state.log.clear()
    return fake_cupy


@pytest.fixture
def stand_in(cupy):
    return get_backend("cuda")


@pytest.fixture
def gpu(request):
    """The stand-in, or the GPU itself where it was chosen."""
    return request.getfixturevalue("stand_in") if devices.chosen != "cuda" else get_backend("cuda")


# --- what is said where it is not to be had -------------------------------------------------------


def unavailable(message):
    with pytest.raises(DeviceError, match=message):
        get_backend("cuda")
    assert get_backend("auto") is cpu_backend()


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    unavailable(r'it takes CuPy; install it with pip install "tinygrad_mask\[cuda13\]"')


def test_without_a_driver(cupy, monkeypatch):
    monkeypatch.setattr(cupy.runtime, "driverGetVersion", lambda: 0)
    unavailable("there is no NVIDIA driver here")


def test_without_a_gpu(cupy, monkeypatch):
    def fail():
        raise cupy.CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    monkeypatch.setattr(cupy.runtime, "getDeviceCount", fail)
    unavailable("no CUDA-capable device is detected")


def test_with_a_gpu_that_is_too_old(cupy, monkeypatch):
    old = SimpleNamespace(id=0, compute_capability="61")
    monkeypatch.setattr(cupy.cuda, "Device", lambda: old)
    unavailable("compute capability 6.1, the kernels need 7.5")


@needs_emulator
def test_with_a_gpu_auto_is_that(stand_in):
    assert get_backend("auto") is stand_in
    assert stand_in.launcher.capability == (9, 0)


# --- arrays and kernels ---------------------------------------------------------------------------

pytestmark = needs_emulator


@pytest.mark.parametrize("method", sorted(CALLS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_kernels_are_handed_what_the_emulator_hands_them(stand_in, method, dtype):
    for result, expected in zip(
        call(stand_in, method, dtype), call(emulator_backend("fast"), method, dtype), strict=True
    ):
        assert result.tobytes() == expected.tobytes()


def test_an_array_of_another_gpu_is_refused(stand_in):
    array = stand_in.asarray(np.ones(3, np.float32))
    array.device = SimpleNamespace(id=1)
    with pytest.raises(ValueError, match="expected an array on GPU 0, got one on 1"):
        stand_in.relu(array)


def test_a_kernel_may_ask_for_more_shared_memory_than_is_given_unasked(gpu):
    launcher = gpu.launcher
    x = gpu.asarray(np.ones(4, np.float32))
    arguments = [np.int32(1), np.float32(0), np.int64(4), np.bool_(False), x, x.copy()]
    launcher.launch(
        "activation.cu",
        "activation_forward<float>",
        (1, 1, 1),
        (256, 1, 1),
        arguments,
        shared_bytes=100_000,
    )


def test_a_copy_to_the_gpu_waits_for_earlier_kernels_and_later_ones_wait_for_it(stand_in, cupy):
    compute, copies = cupy.cuda.get_current_stream(), stand_in.launcher._copies
    array = stand_in.asarray(np.arange(6).reshape(2, 3)[:, ::-1])
    np.testing.assert_array_equal(stand_in.to_host(array), [[2, 1, 0], [5, 4, 3]])
    before, waited, copied, after, waits = cupy._state.log
    assert before[:2] == ("record", compute)
    assert waited == ("wait", copies, before[2])
    assert copied == ("copy", copies)
    assert after[:2] == ("record", copies)
    assert waits == ("wait", compute, after[2])


def test_what_is_sent_is_waited_for_when_it_is_asked_for(stand_in, cupy):
    sent = stand_in.send(np.arange(3))
    assert [entry[0] for entry in cupy._state.log] == ["record", "wait", "copy", "record"]
    copied = cupy._state.log[-1][2]
    np.testing.assert_array_equal(stand_in.to_host(sent()), [0, 1, 2])
    assert cupy._state.log[4:] == [("wait", cupy.cuda.get_current_stream(), copied)]
    assert stand_in.send(np.zeros((0, 2)))().shape == (0, 2)
    host = np.arange(3)
    assert get_backend("cpu").send(host)() is host


def test_pinned_memory_lives_until_it_is_copied(stand_in, cupy, monkeypatch):
    monkeypatch.setattr(cupy.Event, "done", False)
    stand_in.asarray(np.ones(3))
    stand_in.asarray(np.ones(3))
    assert len(stand_in.launcher._in_flight) == 2
    monkeypatch.setattr(cupy.Event, "done", True)
    stand_in.asarray(np.ones(3))
    assert len(stand_in.launcher._in_flight) == 1


# --- the package ----------------------------------------------------------------------------------


@pytest.fixture
def backend(stand_in):
    return stand_in


@pytest.mark.parametrize("name", sorted(F.PRIMITIVES))
@drawn(examples=5)
def test_no_primitive_leaves_the_gpu(backend, name, data):
    case, seed = data.draw(STRATEGIES[name]).to(backend), data.draw(st.integers(0, 99))
    check_gradients(case, *case.inputs, seed=seed, device=backend, directions=1, entries=1)


def test_tensors(gpu):
    x = Tensor([[3.0, 1.0, 2.0]], device="cuda", requires_grad=True)
    assert x.device == "cuda"
    assert x.astype(np.int64).dtype == np.int64
    assert x.max().item() == 3
    assert x.argmax().item() == 0
    assert (x > 1.5).numpy().tolist() == [[True, False, True]]
    assert (x == np.float32([[3, 0, 0]])).numpy().tolist() == [[True, False, False]]
    (x * x).sum().backward(np.float32(1))
    np.testing.assert_array_equal(x.grad.numpy(), [[6, 2, 4]])
    y = x.detach()
    y[0, [0, 2]] = np.float32([7, 8])
    y[np.array([0]), 1] = 9
    assert y.numpy().tolist() == [[7, 9, 8]]
    assert repr(y) == "Tensor([[7., 9., 8.]], dtype=float32, device='cuda')"
    assert x.to("cpu").to("cuda").numpy().tolist() == y.numpy().tolist()


@pytest.mark.parametrize(
    "index", [[0, 3], np.array([-4]), (slice(None), [5]), (..., np.array([[0, -6]])), (None, [3])]
)
def test_an_index_outside_is_refused_as_on_the_cpu(gpu, index):
    for device in ("cpu", "cuda"):
        with pytest.raises(IndexError):
            Tensor(np.ones((3, 5)), device=device)[index]


def test_labels_are_checked_where_they_come_from(gpu):
    logits = Tensor(np.zeros((2, 3), np.float32), device="cuda", requires_grad=True)
    with pytest.raises(ValueError, match=r"expected targets in 0..2, got 0..3"):
        F.cross_entropy(logits, np.array([0, 3]))
    loss = F.cross_entropy(logits, Tensor([0, 3], device="cuda"))
    assert np.isnan(loss.item())
    loss.backward()
    assert np.isnan(logits.grad.numpy()).tolist() == [[False] * 3, [True] * 3]


def test_gradients_are_clipped(gpu):
    x = Tensor(np.full(4, 3.0), device="cuda", requires_grad=True)
    (x * x).sum().backward()
    assert optim.clip_grad_norm([x], 6) == 12
    np.testing.assert_allclose(x.grad.numpy(), 3)
    optim.clip_grad_value([x], 2)
    np.testing.assert_allclose(x.grad.numpy(), 2)


def test_optimisers_keep_their_state(gpu):
    parameter = nn.Parameter(np.ones(3, np.float32), device="cuda")
    optimizer = optim.SGD([parameter], 0.1, momentum=0.9)
    (parameter * parameter).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    np.testing.assert_allclose(state["velocity.0"], 2)
    optimizer.load_state_dict(state)
    np.testing.assert_allclose(parameter.numpy(), 0.8)


# --- recorded steps -------------------------------------------------------------------------------


def network(device, rng):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False, rng=rng),
        nn.BatchNorm(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5, rng=rng),
        nn.Linear(4 * 9, 5, rng=rng),
    )
    return model.to(device)


def train(backend, step_of, batches):
    """Train a network with dropout; return the losses and what is left of it."""
    model = network(backend, np.random.default_rng(0))
    parameters = model.parameters()
    optimizer = optim.Adam(parameters, 0.01)

    def gradients(x, labels):
        model.zero_grad()
        loss = F.cross_entropy(
            model(Tensor.from_array(x, backend)), Tensor.from_array(labels, backend)
        )
        loss.backward()
        return loss.data, *(p.grad.data for p in parameters)

    step, losses = step_of(gradients), []
    for x, labels in batches:
        loss, *arrays = step(backend.asarray(x), backend.asarray(labels))
        losses.append(float(loss))
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.grad = parameter.wrap(array)
        optimizer.step()
    return losses, model.state_dict()


def test_a_recorded_step_does_what_the_step_does(gpu):
    rng = np.random.default_rng(1)
    # The last of an epoch has fewer images, and so a graph of its own.
    batches = [
        (rng.standard_normal((n, 6, 6, 3)).astype(np.float32), rng.integers(5, size=n))
        for n in (8, 8, 8, 3, 8, 3, 3)
    ]
    expected, model = train(gpu, lambda step: step, batches)
    losses, recorded = train(gpu, gpu.capture, batches)
    assert losses == expected
    for name in model:
        np.testing.assert_array_equal(recorded[name], model[name], err_msg=name)


def test_what_is_filled_before_a_replay_lies_apart_from_what_is_made_in_it(stand_in, cupy):
    mask = []

    def step(x):
        mask.append(stand_in.bernoulli(np.random.default_rng(0), 0.5, (4,), np.float32))
        return (stand_in.relu(x) * mask[-1],)

    recorded = stand_in.capture(step)
    x = stand_in.asarray(np.ones(4, np.float32))
    recorded(x)
    [y] = recorded(x)
    assert mask[1].pool == x.pool == cupy.cuda.get_allocator()
    assert y.pool != x.pool


def test_a_step_that_copies_from_the_host_or_looks_at_a_value_is_not_recorded(gpu):
    x = gpu.asarray(np.ones(4, np.float32))
    copying = gpu.capture(lambda x: (x + gpu.asarray(np.ones(4, np.float32)),))
    looking = gpu.capture(lambda x: (x * x.sum().item(),))
    rates = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    updating = gpu.capture(lambda x: (gpu.sgd_update([x], [x], None, **rates), x)[1:])
    for step, error in (
        (copying, RuntimeError),
        (updating, RuntimeError),  # it copies a table of addresses
        (looking, gpu.xp.cuda.runtime.CUDARuntimeError),
    ):
        step(x)  # as it is, it may
        with pytest.raises(error):
            step(x)
        assert gpu.asarray(np.ones(1)).shape == (1,)  # nothing is being recorded any more


def test_a_compiled_model_is_recorded_and_follows_its_weights(gpu):
    rng = np.random.default_rng(0)
    layers = [nn.Conv2d(3, 4, 3, rng=rng), nn.BatchNorm(4), nn.ReLU(), nn.GlobalAvgPool2d()]
    model = nn.Sequential(layers).eval().to(gpu)
    fast = compile_model(model)
    results = []
    for k, n in enumerate((2, 2, 2, 3, 3, 3, 3)):
        if k == 4:  # then it is recorded again
            model[1].running_mean[...] = rng.standard_normal(4).astype(np.float32)
        x = Tensor(rng.standard_normal((n, 5, 5, 3)).astype(np.float32), device=gpu)
        with no_grad():
            wanted = model(x).numpy()
        results.append((fast(x), wanted))
    for result, wanted in results:  # each has memory of its own
        np.testing.assert_allclose(result.numpy(), wanted, rtol=1e-6)
    assert not fast.reasons


def test_other_devices_take_the_step_as_it_is():
    def step(x):
        return (x,)

    assert get_backend("cpu").capture(step) is step
    assert emulator_backend().capture(step) is step
