"""The `Trainer` on several ranks: the same losses, one writer, states for any number of ranks."""

import json

import numpy as np
import pytest
from ranks import run

from tinygrad_mask import serialization

TRAIN = """
folder, epochs, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
import os, json
from pathlib import Path
os.chdir(folder)
rng = np.random.default_rng(0)
dtype = np.float32 if kind == "dropout" else np.float64
x = rng.standard_normal((61, 6)).astype(dtype)
y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
tg.manual_seed(3)
layers = [nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 2)]
if kind == "dropout":
    layers[2:2] = [nn.Dropout(0.2)]
if kind == "batch_norm":
    layers[1:1] = [nn.BatchNorm(32)]
model = nn.Sequential(*layers).to(dtype=dtype)
if kind == "batch_norm":
    distributed.synchronise_batch_norm(model)
def loss(model, inputs, labels):
    scores = model(inputs)
    return F.cross_entropy(scores, labels), {"accuracy": scores.argmax(axis=1) == labels}
batches = DataLoader(ArrayDataset(x[:41], y[:41]), batch_size=8, shuffle=True)  # the last has 1
if kind == "sequence":
    batches = [(x[k : k + 8], y[k : k + 8]) for k in range(0, 41, 8)]
trainer = Trainer(
    model, optim.Adam(model.parameters(), lr=0.02), loss, batches, epochs=epochs,
    callbacks=[
        Validation(DataLoader(ArrayDataset(x[41:], y[41:]), batch_size=8)),
        Checkpoint("run.safetensors"), tg.training.ProgressLine(), tg.training.ClipGradNorm(1.0),
    ],
)
if Path("run.safetensors").exists():
    trainer.load("run.safetensors")
history = trainer.run()
rows = trainer.group.all_gather([{k: v for k, v in row.items() if k not in ("seconds", "waited")}
                                 for row in history])
assert all(r == rows[0] for r in rows)
weights = trainer.group.all_gather(b"".join(v.tobytes() for v in model.state_dict().values()))
assert all(w == weights[0] for w in weights)
if trainer.group.rank == 0:
    Path("history.json").write_text(json.dumps(rows[0]))
"""


def train(ranks, folder, epochs=5, kind="plain", **options):
    folder.mkdir(exist_ok=True)
    done = run(ranks, folder, TRAIN, str(folder), str(epochs), kind, **options)
    history = json.loads((folder / "history.json").read_text())
    arrays, _ = serialization.load(folder / "run.safetensors")
    return history, arrays, done


def assert_close(history, expected):
    assert len(history) == len(expected)
    for row, wanted in zip(history, expected, strict=True):
        assert list(row) == list(wanted)
        np.testing.assert_allclose(list(row.values()), list(wanted.values()), rtol=1e-6)


@pytest.mark.parametrize(("kind", "ranks"), [("plain", 2), ("plain", 3), ("sequence", 2)])
def test_the_history_is_that_of_one_process(tmp_path, kind, ranks):
    """30 steps, the last batch of each epoch smaller than the number of ranks."""
    one, weights, _ = train(1, tmp_path / "one", kind=kind)
    many, of_ranks, done = train(ranks, tmp_path / "many", kind=kind)
    assert_close(many, one)
    for name, array in weights.items():
        np.testing.assert_allclose(of_ranks[name], array, rtol=1e-6, atol=1e-9)
    assert done.stdout.count("Epoch ") == 5  # progress once


def test_dropout_differs_between_ranks_and_a_resumed_run_has_the_same_bits(tmp_path):
    straight, weights, _ = train(2, tmp_path / "straight", 4, "dropout")
    again, others, _ = train(2, tmp_path / "again", 4, "dropout")
    assert straight == again
    train(2, tmp_path / "resumed", 2, "dropout")
    _, texts = serialization.load(tmp_path / "resumed" / "run.safetensors")
    first, second = json.loads(texts["generators_of_ranks"])
    assert first != second
    resumed, resumed_weights, _ = train(2, tmp_path / "resumed", 4, "dropout")
    assert resumed == straight
    for name, array in weights.items():
        assert array.tobytes() == others[name].tobytes() == resumed_weights[name].tobytes()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_state_is_resumed_with_another_number_of_ranks(tmp_path, before, after):
    straight, _, _ = train(1, tmp_path / "straight", 4)
    train(before, tmp_path / "resumed", 2)
    resumed, _, _ = train(after, tmp_path / "resumed", 4)
    assert_close(resumed, straight)


def test_only_rank_0_writes(tmp_path):
    code = TRAIN.replace(
        "history = trainer.run()",
        """
import builtins
if trainer.group.rank > 0:
    def refuse(*args, **options):
        raise AssertionError(f"rank 1 opens {args}")
    os.replace = os.rename = os.link = refuse
history = trainer.run()
""",
    )
    run(2, tmp_path, code, str(tmp_path), "2", "plain")
    assert (tmp_path / "run.safetensors").exists()
