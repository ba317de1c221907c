"""N ranks with a part of each batch do what one process does with all of it."""

import json

import numpy as np
import pytest
from ranks import run

# Losses of 20 steps, of a network with a convolution, a shared weight and an unused parameter.
TRAIN = """
kind, dtype, norm, size = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
group = distributed.init()
rng = np.random.default_rng(0)
x = rng.standard_normal((size, 8, 8, 3)).astype(dtype)
y = rng.integers(0, 3, size)
tg.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm(8) if norm == "batch" else nn.GroupNorm(2, 8)
        self.shared = nn.Linear(32, 32)
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(32, 3)
    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        x = F.max_pool2d(x, 4).reshape(len(x), -1)
        return self.last(F.relu(self.shared(F.relu(self.shared(x)))))

model = Net().to(dtype=dtype)
if norm == "batch":
    distributed.synchronise_batch_norm(model)
loader = distributed.share(DataLoader(ArrayDataset(x, y), batch_size=12, shuffle=True))
parallel = distributed.DistributedDataParallel(model, bucket_bytes=500)
optimizer = optim.Adam(parallel.parameters(), lr=0.01)
losses = []
while len(losses) < 20:
    for inputs, labels in loader:
        inputs, labels = Tensor(inputs), Tensor(labels)
        if kind == "accumulate":
            half, rest = len(inputs) // 2, len(inputs) - len(inputs) // 2
            first = F.cross_entropy(parallel(inputs[:half]), labels[:half])
            optimizer.zero_grad()
            with parallel.no_sync():
                (first * (half / len(inputs))).backward()
            second = F.cross_entropy(parallel(inputs[half:]), labels[half:])
            (second * (rest / len(inputs))).backward()
            loss = (first * half + second * rest) / len(inputs)
        else:
            loss = F.cross_entropy(parallel(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
        if kind == "clip":
            losses.append(optim.clip_grad_norm(parallel.parameters(), 0.1))
        else:
            share = len(inputs) / group.all_reduce(len(inputs))
            losses.append(group.all_reduce(loss.item() * share))
        optimizer.step()
assert model.unused.weight.grad is None and model.conv.weight.grad is not None
bits = group.all_gather({k: v.tobytes() for k, v in model.state_dict().items()})
assert all(b == bits[0] for b in bits)
if group.rank == 0:
    import hashlib, json
    print(json.dumps([losses[:20], hashlib.sha256(str(bits[0]).encode()).hexdigest()]))
"""


def train(ranks, folder, kind="plain", dtype="float64", norm="group", size=48):
    return json.loads(run(ranks, folder, TRAIN, kind, dtype, norm, str(size)).stdout)


@pytest.mark.parametrize(
    ("kind", "norm", "size"),
    [
        ("plain", "group", 48),
        ("plain", "batch", 48),
        ("plain", "group", 41),  # the last batch has 5 examples
        ("accumulate", "group", 48),
        ("clip", "group", 48),
    ],
)
def test_two_ranks_do_what_one_process_does(tmp_path, kind, norm, size):
    one, _ = train(1, tmp_path, kind, norm=norm, size=size)
    two, _ = train(2, tmp_path, kind, norm=norm, size=size)
    np.testing.assert_allclose(two, one, rtol=1e-6)


def test_three_ranks_do_too_and_every_run_has_the_same_bits(tmp_path):
    one, _ = train(1, tmp_path, dtype="float32", size=41)
    three, first = train(3, tmp_path, dtype="float32", size=41)
    again, second = train(3, tmp_path, dtype="float32", size=41)
    np.testing.assert_allclose(three, one, rtol=1e-3)
    assert (three, first) == (again, second)


def test_gradients_are_exchanged_during_the_backward_pass_in_a_fixed_order(tmp_path):
    code = """
    group = distributed.init()
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(4)])
    reducer = distributed.GradientReducer(model.parameters(), bucket_bytes=64 * 64 * 4)
    assert len(reducer.buckets) == 4
    sent = []
    begin = group.begin_all_reduce
    def noted(array, what="a sum"):
        sent.append((what, model[0].weight.grad is None))
        return begin(array, what)
    group.begin_all_reduce = noted
    inputs = Tensor(np.ones((2, 64), np.float32) * (group.rank + 1))
    with reducer.reducing(2, [1.5]):
        model(inputs).sum().backward()
    names = ["the number of examples", *(f"the gradients of bucket {k}" for k in range(4))]
    assert sent == [(name, True) for name in names], sent
    assert reducer.total == 4 and reducer.report.tolist() == [3.0]
    assert group.traffic.messages == 5
    assert np.allclose(model[3].bias.grad.numpy(), 2)
    """
    run(2, tmp_path, code)


def test_a_rank_without_examples_takes_part_without_counting(tmp_path):
    code = """
    group = distributed.init()
    data = ArrayDataset(np.arange(3.0)[:, None])
    loader = distributed.share(DataLoader(data, batch_size=2))
    assert len(loader) == 2
    assert [loader.examples(k) for k in range(2)] == [[1, 0], [1, 1]][group.rank]
    weight = Tensor(np.ones((1, 1)), requires_grad=True)
    reducer = distributed.GradientReducer([weight])
    gradients = []
    for step, (inputs,) in enumerate(loader):
        with reducer.reducing(loader.examples(step)):
            (Tensor(inputs) @ weight).mean().backward()
        gradients.append(weight.grad.item())
        weight.grad = None
    assert gradients == [0.5, 2.0], gradients
    """
    run(2, tmp_path, code)


def test_a_gradient_that_some_ranks_have_is_a_mean_and_running_statistics_are_too(tmp_path):
    code = """
    group = distributed.init()
    a, b, c = (Tensor(np.ones(2), requires_grad=True) for _ in range(3))
    statistic = Tensor(np.full(2, 1.0 + group.rank))
    reducer = distributed.GradientReducer([a, b, c], averaged=[statistic])
    with reducer.reducing(1 + group.rank):  # 1 and 2 examples
        ((a * 3).sum() + (b * 6).sum() if group.rank else (a * 3).sum()).backward()
    assert a.grad.tolist() == [3, 3] and b.grad.tolist() == [4, 4] and c.grad is None
    assert np.allclose(statistic.numpy(), 5 / 3)
    """
    run(2, tmp_path, code)


def test_one_process_pays_nothing_for_it(tmp_path):
    code = """
    from tinygrad_mask.autograd.observers import observers
    distributed.init()
    model = distributed.DistributedDataParallel(nn.Linear(2, 1))
    assert observers == []
    loader = DataLoader(range(3))
    assert distributed.share(loader) is loader
    """
    run(1, tmp_path, code)
