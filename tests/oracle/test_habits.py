"""What people type for creation, options, optimisers, gradients, data and files, line by line.

Values are compared with PyTorch's. Layers are in `tests/nn/test_habits.py`, tensors in
`test_tensor_habits.py`.
"""

import numpy as np
import pytest

import tinygrad_mask as tg
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, convert, data, nn, optim
from tinygrad_mask.nn.equivalents import equivalent_of

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 9, 9, 3)).astype(np.float32)
LOGITS = RNG.standard_normal((4, 3)).astype(np.float32)
TARGETS = RNG.dirichlet(np.ones(3), 4).astype(np.float32)
LABELS = np.array([0, 2, 1, 1])
WEIGHT = np.array([0.5, 1.0, 2.0], np.float32)


def ours():
    weight, other = (tg.ones(2, 2, requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([weight], lr=0.1, momentum=0.9)
    rows, numbers = tg.arange(20.0).reshape(10, 2), tg.arange(10)
    names = {"F": F, "np": np, "tg": tg, "nn": nn, "optim": optim, "data": data, "torch": torch}
    names |= {"convert": convert, "float32": np.float32, "float64": np.float64, "int64": np.int64}
    names |= {"Tensor": Tensor, "x": Tensor(IMAGES), "labels": LABELS}
    names |= {"logits": Tensor(LOGITS, requires_grad=True), "targets": Tensor(TARGETS)}
    names |= {"weight": Tensor(WEIGHT), "w": weight, "w2": other, "optimizer": optimizer}
    names |= {"pairs": data.TensorDataset(rows, numbers), "model": nn.Sequential(nn.Linear(2, 2))}
    names |= {"torch_model": torch.nn.Sequential(torch.nn.Linear(2, 2))}
    return names


def theirs():
    names = {"F": torch.nn.functional, "np": np, "tg": torch, "nn": torch.nn, "optim": torch.optim}
    names |= {kind: getattr(torch, kind) for kind in ("float32", "float64", "int64")}
    names |= {"x": torch.tensor(IMAGES).permute(0, 3, 1, 2), "labels": torch.tensor(LABELS)}
    names |= {"logits": torch.tensor(LOGITS, requires_grad=True), "targets": torch.tensor(TARGETS)}
    return names | {"weight": torch.tensor(WEIGHT)}


SAME_VALUE = """
tg.tensor([1.0, 2.0])
tg.tensor([[1, 2], [3, 4]])
tg.tensor([True, False])
tg.tensor(3.5, dtype=float64)
tg.tensor([1, 2], dtype=float)
tg.tensor([1.0], requires_grad=True)
tg.zeros(2, 3)
tg.zeros((2, 3), dtype=int64)
tg.zeros([2], dtype=float32, device="cpu")
tg.zeros(())
tg.ones(2, requires_grad=True)
tg.ones(2, dtype=int)
tg.ones(2, dtype=bool)
tg.full((2, 3), 7)
tg.full((2,), 0.5)
tg.full((2,), True)
tg.full((2,), 1, dtype=float32)
tg.arange(5)
tg.arange(1, 5)
tg.arange(1, 10, 3)
tg.arange(0, 1, 0.25)
tg.arange(5, 0, -2)
tg.arange(3.0)
tg.arange(4, dtype=float32)
tg.eye(3)
tg.eye(2, 3)
tg.zeros_like(targets)
tg.ones_like(targets)
tg.ones_like(labels, dtype=float32)
tg.from_numpy(np.arange(3.0))
F.max_pool2d(x, 2, ceil_mode=True)
F.max_pool2d(x, 2, 2, 0, 2)
F.max_pool2d(x, kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=True)
F.avg_pool2d(x, 2, ceil_mode=True)
F.avg_pool2d(x, 3, 2, 1, False, False)
F.avg_pool2d(x, 2, divisor_override=3)
nn.MaxPool2d(3, 1, 1, 2)(x)
nn.MaxPool2d(2, ceil_mode=True)(x)
nn.AvgPool2d(2, 2, 0, True, False, 3)(x)
F.cross_entropy(logits, labels)
F.cross_entropy(logits, labels, reduction="sum")
F.cross_entropy(logits, labels, reduction="none")
F.cross_entropy(logits, labels, ignore_index=1)
F.cross_entropy(logits, labels, weight=weight)
F.cross_entropy(logits, labels, label_smoothing=0.1)
F.cross_entropy(logits, targets)
F.cross_entropy(logits, targets, reduction="sum")
nn.CrossEntropyLoss(ignore_index=2, reduction="sum")(logits, labels)
F.binary_cross_entropy_with_logits(logits, targets)
F.binary_cross_entropy_with_logits(logits, targets, weight=weight)
F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="sum")
F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
nn.BCEWithLogitsLoss(pos_weight=weight)(logits, targets)
F.dropout(logits, 1.0)
F.dropout(logits, p=0.5, training=False)
nn.Dropout(1)(logits)
nn.Dropout(p=0.5).eval()(logits)
tg.autograd.grad((logits * logits).sum(), logits)[0]
tg.autograd.grad(outputs=(logits * logits).sum(), inputs=[logits])[0]
tg.autograd.grad(logits * logits, logits, grad_outputs=tg.ones_like(logits))[0]
tg.autograd.grad((logits**3).sum(), logits, create_graph=True)[0].sum()
tg.from_dlpack(np.arange(3.0))
tg.from_dlpack(targets)
"""


@pytest.mark.parametrize("line", SAME_VALUE.strip().splitlines())
def test_the_line_gives_what_pytorch_gives(line):
    tensor, expected = eval(line, ours()), eval(line, theirs())
    assert tensor.requires_grad == expected.requires_grad
    expected = expected.detach().numpy()
    if expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
    assert tensor.dtype == expected.dtype
    assert tensor.shape == expected.shape
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-5, atol=1e-6)


BATCH_NORMS = ["momentum=None", "affine=False", "track_running_stats=False", "eps=1e-3"]


@pytest.mark.parametrize("options", BATCH_NORMS)
def test_batch_norm_in_training_and_evaluation(options):
    mine = eval(f"nn.BatchNorm(3, {options})", ours())
    other = eval(f"nn.BatchNorm2d(3, {options})", theirs())
    x, torch_x = ours()["x"], theirs()["x"]
    for step in range(4):
        if step == 3:
            mine.eval()
            other.eval()
        expected = other(torch_x * (step + 1)).detach().permute(0, 2, 3, 1)
        np.testing.assert_allclose(mine(x * (step + 1)).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("create", ["randn", "rand"])
def test_random_numbers(create):
    for line in (f"tg.{create}(2, 3)", f"tg.{create}((2, 3), dtype=float64, requires_grad=True)"):
        tensor, expected = eval(line, ours()), eval(line, theirs())
        assert tensor.shape == tuple(expected.shape)
        assert tensor.dtype == expected.detach().numpy().dtype
        assert tensor.requires_grad == expected.requires_grad


# Parameters of both libraries after three steps.
OPTIMISERS = """
optim.SGD([w], lr=0.1)
optim.SGD([w], 0.1, 0.9, 0.1, 1e-2)
optim.SGD([w], lr=0.1, momentum=0.9, nesterov=True)
optim.SGD([w], lr=0.1, momentum=0.9, dampening=0.5, maximize=True)
optim.SGD([{"params": [w], "lr": 0.3}], lr=0.1, momentum=0.9)
optim.SGD([{"params": [w], "weight_decay": 0.1}], lr=0.1)
optim.RMSprop([w], lr=0.01, alpha=0.9, momentum=0.9, centered=True)
optim.Adam([w], lr=0.01, betas=(0.8, 0.9), amsgrad=True)
optim.Adam([w], 0.01, maximize=True)
optim.AdamW([w], lr=0.01, weight_decay=0.1)
"""


def steps_of(line, names, tensor):
    w = tensor([1.0, -2.0, 3.0], requires_grad=True)
    optimizer = eval(line, names | {"w": w})
    for scale in (1.0, -0.5, 2.0):
        optimizer.zero_grad()
        (w * w * scale).sum().backward()
        optimizer.step()
    return w.detach().numpy()


@pytest.mark.parametrize("line", OPTIMISERS.strip().splitlines())
def test_the_optimiser_steps_as_pytorchs(line):
    mine, expected = steps_of(line, ours(), tg.tensor), steps_of(line, theirs(), torch.tensor)
    np.testing.assert_allclose(mine, expected, rtol=1e-5)


# Learning rates over eight steps; ours is in `optim`, PyTorch's in `optim.lr_scheduler`.
SCHEDULES = """
{0}.StepLR(optimizer, step_size=3, gamma=0.1)
{0}.MultiStepLR(optimizer, milestones=[2, 4], gamma=0.1)
{0}.ExponentialLR(optimizer, gamma=0.9)
{0}.LambdaLR(optimizer, lr_lambda=lambda step: 0.9**step)
{0}.LinearLR(optimizer, start_factor=0.1, total_iters=4)
{0}.LinearLR(optimizer, 0.1, 1.0, 4)
{0}.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
{0}.OneCycleLR(optimizer, 0.1, 10, base_momentum=0.8, max_momentum=0.9)
{0}.SequentialLR(optimizer, [{0}.LinearLR(optimizer, 0.1, 1.0, 3), {0}.StepLR(optimizer, 2)], [3])
"""


@pytest.mark.parametrize("line", SCHEDULES.strip().splitlines())
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_the_schedule_is_pytorchs(line):
    rates = []
    for names, tensor, place in (
        (ours(), tg.tensor, "optim"),
        (theirs(), torch.tensor, "optim.lr_scheduler"),
    ):
        w = tensor([1.0], requires_grad=True)
        optimizer = names["optim"].SGD([w], lr=0.5, momentum=0.9)
        schedule = eval(line.format(place), names | {"optimizer": optimizer})
        seen = []
        for _ in range(8):
            (w * w).sum().backward()
            group = optimizer.param_groups[0]
            seen.append((group["lr"], group["momentum"]))
            optimizer.step()
            schedule.step()
        rates.append(seen)
        schedule.load_state_dict(schedule.state_dict())
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-6)


WORKS = """
optimizer.add_param_group({"params": [w2], "lr": 0.01})
optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad(set_to_none=True)
optim.ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=2).step(1.0)
optim.SequentialLR(optimizer, schedulers=[optim.StepLR(optimizer, 2)], milestones=[]).step()
tg.autograd.grad((w * w).sum(), [w, w2], allow_unused=True)
tg.no_grad()(lambda: 1)()
tg.enable_grad()(lambda: 1)()
tg.set_grad_enabled(True)
tg.is_grad_enabled()
tg.autograd.Function
tg.convert.from_torch(torch_model.state_dict(), model)
model.load_state_dict(convert.from_torch(torch_model.state_dict(), model))
torch_model.load_state_dict(convert.to_torch(model))
next(iter(data.DataLoader(pairs, batch_size=3, shuffle=True, num_workers=0, drop_last=True)))
next(iter(data.DataLoader(pairs, 3, True)))
next(iter(data.DataLoader(pairs, batch_size=3, sampler=[3, 1, 2])))
data.DataLoader(data.ArrayDataset(np.zeros((4, 2)), np.zeros(4)), batch_size=2)
"""


@pytest.mark.parametrize("line", WORKS.strip().splitlines())
def test_the_line_works(line):
    eval(line, ours())


# A line, and what it gives as plain values.
PLAIN = [
    ("len(data.DataLoader(pairs, batch_size=3, drop_last=True))", 3),
    ("[len(b[0]) for b in data.DataLoader(pairs, batch_size=4)]", [4, 4, 2]),
    ("[b for b in data.DataLoader(pairs, 5, collate_fn=len)]", [5, 5]),
    ("[b[1].numpy().tolist() for b in data.DataLoader(pairs, 2, sampler=[3, 1])]", [[3, 1]]),
    ("[len(b[0]) for b in data.DataLoader(pairs, batch_size=5, num_workers=2)]", [5, 5]),
    ("data.Subset(pairs, [4, 2])[1][1].item()", 2),
    ("[len(part) for part in data.random_split(pairs, [7, 3])]", [7, 3]),
    ("[len(part) for part in data.random_split(pairs, [0.7, 0.3])]", [7, 3]),
    ("np.from_dlpack(weight).tolist()", WEIGHT.tolist()),
    ("torch.from_dlpack(weight).tolist()", WEIGHT.tolist()),
    ("tg.from_dlpack(torch.ones(2)).numpy().tolist()", [1.0, 1.0]),
    ("convert.to_torch(model)['0.weight'].shape", (2, 2)),
]


@pytest.mark.parametrize(("line", "value"), PLAIN)
def test_the_line_gives(line, value):
    assert eval(line, ours()) == value


def test_save_and_load(tmp_path):
    names = ours()
    model, optimizer, path = names["model"], names["optimizer"], tmp_path / "run.safetensors"
    tg.save({"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    loaded = tg.load(path)
    assert loaded["epoch"] == 3
    weight = model[0].weight.numpy().copy()
    with tg.no_grad():
        model[0].weight[...] = 0
    model.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    np.testing.assert_array_equal(model[0].weight.numpy(), weight)


def test_saved_tensors_is_an_alias():
    class Cube(tg.Function):
        name = "cube"

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * grad_output

    x = tg.tensor([2.0], requires_grad=True)
    Cube.apply(x).sum().backward()
    assert x.grad.item() == 12


# A line that cannot work, and what the message names instead.
NAMES_WHAT_TO_DO = [
    ("F.dropout(x, 0.5, False)", "expected rng to be a numpy.random.Generator, got False"),
    ("F.dropout(x, 0.5, False)", "write training=False$"),
    ("F.dropout(x, 0.5, True)", "write training=True$"),
    ("data.random_split(pairs, [7, 3], generator=np.random.default_rng(0))", "; use rng=$"),
    ("data.random_split(pairs, lengths=[7, 3], random_state=0)", "; use rng=$"),
    ("data.DataLoader(pairs, pin_memory=True)", "got pin_memory=True; leave it out; a Trainer"),
    ("data.DataLoader(pairs, generator=None)", "got generator=None; use seed="),
    ("data.DataLoader(pairs, worker_init_fn=len)", "leave it out; workers are threads"),
    ("data.DataLoader(pairs, prefetch_factor=2)", "; use prefetch=$"),
    ("tg.load('model.safetensors', map_location='cpu')", "load: .*; leave it out; arrays are on"),
    ("tg.load('model.safetensors', weights_only=True)", "; leave it out; no code runs"),
    ("tg.save(model, path='model.safetensors', pickle_module=None)", "save: .*; leave it out"),
    ("optim.AdamW([w], learning_rate=1e-3)", "AdamW: .*; use lr=$"),
    ("optim.Adam([w], foreach=True)", "Adam: .*; leave it out; all parameters of a group"),
    ("optim.SGD(params=[w], lr=0.1)", "SGD: .*; use parameters=$"),
    ("optim.SGD([w], lr=0.1, dampning=0.1)", "got dampning=0.1; use dampening=$"),
    ("optim.RMSprop([w], rho=0.9)", "; use alpha=$"),
    ("optim.StepLR(optimizer, 3, verbos=True)", "optimizer, step_size, gamma, got verbos=True$"),
    ("data.DataLoader((np.zeros(2), np.zeros(2)))", "ArrayDataset"),
    ("optim.SGD([{'params': w}], lr=0.1)", r"write \[tensor\]"),
    ("optim.lr_scheduler.StepLR(optimizer, 3)", "optim.StepLR"),
    ("optim.CosineAnnealingLR(optimizer, 3)", "optim.CosineLR"),
    ("optim.LinearLR(optimizer, 0.1, 1.0, 5, total_iters=5)", "omit one"),
    ("tg.utils.data.DataLoader(pairs)", "data.DataLoader"),
    ("tg.zeros((2, 3), np.float32)", "dtype= by its name"),
    ("x.float()", r"astype\(numpy.float32\)"),
    ("tg.device('cuda')", "'cpu', 'cuda', 'emulator' or 'auto'"),
]


@pytest.mark.parametrize(("line", "message"), NAMES_WHAT_TO_DO)
def test_the_line_names_what_to_do(line, message):
    with pytest.raises((AttributeError, TypeError), match=message) as caught:
        eval(line, ours())
    assert "\n" not in str(caught.value)


def test_every_layer_of_pytorch_is_here_or_names_what_to_use():
    for name, value in vars(torch.nn).items():
        if isinstance(value, type) and issubclass(value, torch.nn.Module):
            assert name in nn.__all__ or equivalent_of(name) is not None, name
