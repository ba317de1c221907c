"""When callbacks are called, and what those of the package do."""

import io
import sys

import fake_cupy
import numpy as np
import pytest
from devices import needs_emulator
from training_runs import classes, noisy, regression, same_bits, two_inputs

from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.backends import cuda
from tinygrad_mask.data import ArrayDataset, DataLoader
from tinygrad_mask.training import (
    Callback,
    Checkpoint,
    ClipGradNorm,
    EpochSchedule,
    InterruptedRunError,
    ProgressLine,
    Trainer,
    Validation,
    WeightAverage,
    epoch_line,
)


class Diary(Callback):
    """Writes down when it is called."""

    def __init__(self, said, mark="", order=0):
        self.said, self.mark, self.order = said, mark, order

    def measure(self, trainer):
        self.said.append(f"measure{self.mark}")
        return {f"extra{self.mark}": 3.0}


def _noting(hook):
    def called(self, trainer, *arguments):
        self.said.append(f"{hook}{self.mark}")

    return called


for hook in (
    "on_train_begin",
    "on_epoch_begin",
    "on_gradients",
    "on_step_end",
    "on_epoch_end",
    "on_interrupt",
    "on_train_end",
):
    setattr(Diary, hook, _noting(hook))

STEP = ["on_gradients", "on_step_end"]


def test_callbacks_are_called_at_their_points():
    said = []
    trainer, *_ = regression(epochs=2, batch_size=20, callbacks=[Diary(said)])
    [_, row] = trainer.run()
    epoch = ["on_epoch_begin", *STEP, *STEP, "measure", "on_epoch_end"]
    assert said == ["on_train_begin", *epoch, *epoch, "on_train_end"]
    assert row["extra"] == 3
    assert list(row) == ["epoch", "lr", "loss", "extra", "seconds", "waited"]


def test_callbacks_are_called_when_a_run_is_interrupted():
    said, asked = [], []
    trainer, *_ = regression(epochs=2, batch_size=20, callbacks=[Diary(said)])

    def stop():
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(InterruptedRunError, match="epoch 1, after step 1"):
        trainer.run(stop=stop)
    assert said == ["on_train_begin", "on_epoch_begin", *STEP, "on_interrupt", "on_train_end"]


def test_callbacks_are_called_in_the_order_of_the_list_and_of_their_order():
    said = []
    diaries = [Diary(said, "c", order=1), Diary(said, "a"), Diary(said, "b")]
    trainer, *_ = regression(callbacks=diaries)
    trainer.run()
    assert [entry[-1] for entry in said if entry.startswith("on_step_end")] == ["a", "b", "c"]


class EarlyStopping(Callback):
    """The example of `Callback`."""

    name = "early_stopping"
    best, epochs = float("inf"), 0

    def on_epoch_end(self, trainer, row):
        self.epochs = 0 if row["other_loss"] < self.best else self.epochs + 1
        self.best = min(self.best, row["other_loss"])
        if self.epochs == 3:
            trainer.request_stop()

    def state_dict(self):
        return {"state": np.array([self.best, self.epochs])}

    def load_state_dict(self, state):
        self.best, self.epochs = float(state["state"][0]), int(state["state"][1])


def stopped_early():
    """A run that ends when the loss on other examples, of random labels, rises."""
    rng = np.random.default_rng(3)
    other = rng.standard_normal((30, 6)).astype(np.float32), rng.integers(0, 3, 30)
    validation = Validation(DataLoader(ArrayDataset(*other), 30), prefix="other_")
    return noisy(epochs=60, callbacks=[validation, EarlyStopping()])


def test_a_callback_of_ones_own_goes_on_from_its_state(tmp_path):
    unbroken = stopped_early()
    losses = [row["other_loss"] for row in unbroken.run()]
    ended = next(k for k in range(3, 60) if min(losses[k - 2 : k + 1]) >= min(losses[: k - 2]))
    assert len(losses) == ended + 1 < 60

    first = stopped_early()
    asked = iter(range(1000))
    with pytest.raises(InterruptedRunError, match=f"epoch {ended}, after step 2"):
        first.run(stop=lambda: next(asked) == 4 * (ended - 1) + 2)
    first.save(tmp_path / "run")
    resumed = stopped_early()
    resumed.load(tmp_path / "run")
    resumed.run()
    same_bits(unbroken, resumed)


# --- those of the package -------------------------------------------------------------------------


def test_validation_is_over_all_examples_with_the_averaged_weights():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 4)).astype(np.float32), rng.integers(0, 3, 10)
    model = nn.Sequential(nn.Linear(4, 3, rng=rng), nn.Dropout(0.5, rng=rng))
    data = ArrayDataset(x, y)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), 0.5),
        classes,
        DataLoader(data, 5),
        epochs=3,
        callbacks=[WeightAverage(model, 0.5), Validation(DataLoader(data, 4), prefix="test_")],
    )
    row = trainer.run()[-1]
    with trainer.averaged():
        averaged = model.eval()(Tensor(x)).numpy().astype(np.float64)
    own = model(Tensor(x)).numpy().astype(np.float64)
    assert abs(averaged - own).max() > 1e-3

    def cross_entropy(scores):
        logits = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return -logits[np.arange(10), y].mean()

    assert row["test_loss"] == pytest.approx(cross_entropy(averaged), rel=1e-6)
    assert row["test_accuracy"] == (averaged.argmax(axis=1) == y).mean()
    assert trainer.evaluate([(x[:3], y[:3])])["accuracy"] == (
        (averaged[:3].argmax(axis=1) == y[:3]).mean()
    )


def test_an_evaluation_within_an_epoch_changes_nothing():
    class Watch(Callback):
        """Evaluates after each step, on batches whose arrays have no names."""

        seen = ()

        def __init__(self, batches):
            self.batches = batches

        def on_step_end(self, trainer):
            self.seen = (*self.seen, trainer.evaluate(self.batches)["loss"])

    plain, watched = two_inputs(), two_inputs()
    watch = Watch([tuple(batch.values()) for batch in watched.batches])
    watched.callbacks.append(watch)
    plain.run()
    watched.run()
    same_bits(plain, watched)
    assert len(watch.seen) == 12
    assert watch.seen[-1] < watch.seen[0]

    plain, watched = noisy(), noisy()  # with dropout and statistics
    watched.callbacks.append(Watch([(np.zeros((3, 6), np.float32), np.arange(3))]))
    plain.run()
    watched.run()
    same_bits(plain, watched)


def test_clipping_limits_the_norm_of_a_step():
    trainer, *_ = regression(lr=1.0, callbacks=[ClipGradNorm(0.01)])
    before = [p.numpy().copy() for p in trainer.model.parameters()]
    trainer.run()
    moved = [p.numpy() - b for p, b in zip(trainer.model.parameters(), before, strict=True)]
    norm = np.sqrt(sum((m**2).sum() for m in moved))
    assert norm == pytest.approx(0.01, rel=1e-9)


def test_schedules_of_steps_and_of_epochs(tmp_path):
    """The learning rate of steps, and momentum-free SGD's weight decay, of a second optimiser."""

    def build():
        trainer, *_ = regression(epochs=4, lr=0.1, batch_size=20)
        trainer.callbacks.append(EpochSchedule(optim.StepLR(trainer.optimizer, 2, 0.1)))
        return trainer

    trainer = build()
    assert [row["lr"] for row in trainer.run()] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    first, resumed = build(), build()
    first.epochs = 3
    first.run()
    first.save(tmp_path / "run")
    resumed.load(tmp_path / "run")
    assert resumed.optimizer.lr == first.optimizer.lr
    resumed.run()
    same_bits(trainer, resumed)


def on_a_plateau(epochs):
    """A run whose rates, of two parameter groups, are reduced by the loss of the epochs."""
    trainer, *_ = regression(epochs=epochs, batch_size=20)
    model = trainer.model
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.05}]
    trainer.optimizer = optim.SGD(groups, 0.3)
    plateau = optim.ReduceLROnPlateau(trainer.optimizer, factor=0.5, patience=1, threshold=0.05)
    trainer.callbacks.append(EpochSchedule(plateau, "loss"))
    return trainer


def test_a_schedule_that_monitors_gets_the_value_of_the_row(tmp_path):
    unbroken = on_a_plateau(20)
    losses = [row["loss"] for row in unbroken.run()]
    # The rule by hand: halve when two epochs in a row have not improved by a twentieth.
    rate, best, bad, rates = 0.3, np.inf, 0, []
    for loss in losses:
        rates.append(rate)
        best, bad = (loss, 0) if loss < best * 0.95 else (best, bad + 1)
        if bad == 2:
            rate, bad = rate / 2, 0
    assert [row["lr"] for row in unbroken.progress.history] == pytest.approx(rates)
    assert len(set(rates)) >= 3

    first = on_a_plateau(13)
    first.run()
    first.save(tmp_path / "run")
    resumed = on_a_plateau(20)
    resumed.load(tmp_path / "run")
    resumed.run()
    same_bits(unbroken, resumed)
    assert [group["lr"] for group in resumed.optimizer.param_groups] == pytest.approx(
        [rate, rate / 6]
    )

    resumed.callbacks[-1].monitor = "val_loss"
    resumed.epochs += 1
    with pytest.raises(ValueError, match=r"monitor to be one of .*, loss, .*got 'val_loss'"):
        resumed.run()


def test_a_warm_up_is_resumed_in_its_middle(tmp_path):
    def build():
        trainer, *_ = regression(epochs=6, lr=0.1, batch_size=20)
        warm = optim.LinearLR(trainer.optimizer, 0.2, total_steps=3)
        rest = optim.CosineLR(trainer.optimizer, 9)
        trainer.schedules = [optim.SequentialLR(trainer.optimizer, [warm, rest], [3])]
        return trainer

    unbroken, first, resumed = build(), build(), build()
    unbroken.run()
    first.epochs = 1
    first.run()
    first.save(tmp_path / "run")
    resumed.load(tmp_path / "run")
    resumed.run()
    same_bits(unbroken, resumed)


def test_several_schedules_of_steps(tmp_path):
    """One for each of two optimisers is the usual case; here the second only counts."""
    trainer, *_ = regression(epochs=2, batch_size=20)
    trainer.schedules = [optim.StepLR(trainer.optimizer, 3), optim.CosineLR(trainer.optimizer, 8)]
    trainer.run()
    assert [schedule.step_count for schedule in trainer.schedules] == [4, 4]
    trainer.save(tmp_path / "run")
    resumed, *_ = regression(epochs=2, batch_size=20)
    resumed.schedules = [optim.StepLR(resumed.optimizer, 3), optim.CosineLR(resumed.optimizer, 8)]
    resumed.load(tmp_path / "run")
    assert [schedule.step_count for schedule in resumed.schedules] == [4, 4]
    assert resumed.optimizer.lr == trainer.optimizer.lr


def test_checkpoints_are_written_after_other_callbacks(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = noisy(callbacks=[Checkpoint(path)], epochs=1)
    trainer.callbacks.reverse()  # the checkpoint before the average that it has to save
    trainer.run()
    again = noisy(epochs=1)
    again.callbacks.reverse()
    again.load(path)
    same_bits(trainer, again)
    with pytest.raises(ValueError, match="every_steps >= 1, got 0"):
        Checkpoint(path, every_steps=0)


def test_a_line_for_each_epoch(capsys):
    trainer = noisy(callbacks=[ProgressLine()], epochs=2)
    trainer.run()
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines == [epoch_line(row, 2) for row in trainer.progress.history]
    row = trainer.progress.history[1]
    assert lines[1].startswith(f"Epoch 2/2 - {row['seconds']:.1f}s - loss: {row['loss']:.4f} - ")
    assert lines[1].endswith(f" - val_accuracy: {row['val_accuracy']:.4f}")
    assert captured.err == ""  # no terminal, so no bar


def test_a_bar_of_the_steps():
    stream = io.StringIO()
    trainer = noisy(callbacks=[ProgressLine(bar=True, stream=stream)], epochs=1)
    trainer.run()
    shown = stream.getvalue()
    assert "epoch 1/1" in shown
    assert "/4 [" in shown
    assert shown.endswith("\r")  # it was taken away


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """The device `cuda` on a stand-in for CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    cuda.cuda_backend.cache_clear()
    yield
    cuda.cuda_backend.cache_clear()


@needs_emulator
@pytest.mark.usefixtures("gpu")
def test_a_captured_run_has_the_bits_of_one_that_is_not(tmp_path):
    plain, captured = (two_inputs("cuda", graph=graph) for graph in (False, True))
    plain.run()
    unused = captured.model.unused.weight.numpy().copy()
    captured.epochs = 2
    captured.run()
    captured.save(tmp_path / "run")
    resumed = two_inputs("cuda", graph=True)
    resumed.load(tmp_path / "run")
    resumed.run()
    same_bits(plain, resumed)
    np.testing.assert_array_equal(resumed.model.unused.weight.numpy(), unused)
