"""Trainers of small models that are not about masks."""

import numpy as np

from tinygrad_mask import functions as F
from tinygrad_mask import nn, optim
from tinygrad_mask.data import ArrayDataset, DataLoader
from tinygrad_mask.training import Callback, ClipGradNorm, Trainer, Validation, WeightAverage


def regression(epochs=1, lr=0.1, batch_size=40, **options):
    """Least squares: y = x w + b with noise; the model, its trainer, and the data."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + 0.3 + 0.1 * rng.standard_normal((40, 1))
    model = nn.Linear(3, 1, rng=rng)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr),
        lambda model, x, y: ((model(x) - y) ** 2).mean(),
        DataLoader(ArrayDataset(x, y), batch_size),
        epochs=epochs,
        **options,
    )
    return trainer, x, y


def classes(model, images, labels):
    scores = model(images)
    return F.cross_entropy(scores, labels), {"accuracy": scores.argmax(axis=1) == labels}


def noisy(*, seed=0, callbacks=(), epochs=3, workers=1):
    """All that makes a run hard to resume: dropout, statistics, momentum, averages, schedules."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((22, 6)).astype(np.float32)
    y = rng.integers(0, 3, 22)
    model = nn.Sequential(
        nn.Linear(6, 8, rng=rng),
        nn.BatchNorm(8),
        nn.ReLU(),
        nn.Dropout(0.3, rng=np.random.default_rng(5)),
        nn.Linear(8, 3, rng=rng),
    )
    optimizer = optim.AdamW(model.parameters(), 0.01)
    loader = DataLoader(ArrayDataset(x, y), 6, shuffle=True, seed=1, workers=workers)
    return Trainer(
        model,
        optimizer,
        classes,
        loader,
        epochs=epochs,
        schedule=optim.OneCycleLR(optimizer, 0.02, epochs * len(loader)),
        callbacks=[
            ClipGradNorm(1.0),
            WeightAverage(model, 0.9),
            Validation(DataLoader(ArrayDataset(x, y), 8)),
            Jitter(),
            *callbacks,
        ],
    )


class Jitter(Callback):
    """A callback with a generator of its own, whose draws end up in the weights."""

    name = "jitter"

    def __init__(self):
        self.rng = np.random.default_rng(7)

    def on_gradients(self, trainer):
        trainer.optimizer.parameters[0].grad *= float(self.rng.uniform(0.5, 1.5))

    def state_dict(self):
        state = self.rng.bit_generator.state["state"]
        words = [state["state"] >> 64, state["state"] % 2**64, state["inc"] >> 64]
        return {"words": np.array([*words, state["inc"] % 2**64], np.uint64)}

    def load_state_dict(self, state):
        high, low, inc_high, inc_low = map(int, state["words"])
        full = self.rng.bit_generator.state
        full["state"] = {"state": (high << 64) + low, "inc": (inc_high << 64) + inc_low}
        self.rng.bit_generator.state = full


class TwoInputs(nn.Module):
    """A network of a picture and a number, with a layer that is not used."""

    def __init__(self, rng):
        super().__init__()
        self.picture = nn.Linear(4, 5, rng=rng)
        self.number = nn.Linear(1, 5, rng=rng)
        self.unused = nn.Linear(2, 2, rng=rng)
        self.end = nn.Linear(5, 1, rng=rng)

    def loss(self, picture, number, target):
        y = self.end(F.tanh(self.picture(picture) + self.number(number)))
        return ((y - target) ** 2).mean()


def two_inputs(device="cpu", graph=False, epochs=4):
    rng = np.random.default_rng(0)
    pictures, numbers = (rng.standard_normal((24, n)).astype(np.float32) for n in (4, 1))
    target = (pictures[:, :1] * numbers).astype(np.float32)
    rows = {"picture": pictures, "number": numbers, "target": target}
    batches = [{k: v[i : i + 8] for k, v in rows.items()} for i in range(0, 24, 8)]
    model = TwoInputs(rng).to(device)
    optimizer = optim.Adam(model.parameters(), 0.02, weight_decay=0.1)
    return Trainer(model, optimizer, TwoInputs.loss, batches, epochs=epochs, graph=graph)


def same_bits(first, second):
    expected, result = first.state(), second.state()
    assert list(expected[0]) == list(result[0])
    for name, array in expected[0].items():
        np.testing.assert_array_equal(array, result[0][name], err_msg=name)
    assert expected[1]["generators"] == result[1]["generators"]
    rows = first.progress.history, second.progress.history
    for a, b in zip(*rows, strict=True):
        assert {**a, "seconds": 0, "waited": 0} == {**b, "seconds": 0, "waited": 0}
