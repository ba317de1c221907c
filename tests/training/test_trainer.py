"""The training loop on models that are not about masks; runs that are interrupted and resumed."""

import doctest
import os
import signal
import threading

import numpy as np
import pytest
from sklearn.datasets import load_digits
from training_runs import Jitter, classes, noisy, regression, same_bits, two_inputs

from tinygrad_mask import Tensor, default_generator, manual_seed, nn, optim, training
from tinygrad_mask import functions as F
from tinygrad_mask.data import ArrayDataset, DataLoader
from tinygrad_mask.training import (
    Callback,
    Checkpoint,
    EpochSchedule,
    InterruptedRunError,
    Trainer,
    TrainingDivergedError,
    Validation,
)

# --- what it learns -------------------------------------------------------------------------------


def test_regression_ends_at_the_least_squares_solution():
    trainer, x, y = regression(epochs=400)
    trainer.run()
    solution = np.linalg.lstsq(np.hstack([x, np.ones((40, 1))]), y, rcond=None)[0]
    np.testing.assert_allclose(trainer.model.weight.numpy(), solution[:3], atol=1e-9)
    np.testing.assert_allclose(trainer.model.bias.numpy(), solution[3], atol=1e-9)


def test_one_epoch_is_gradient_descent_by_hand():
    trainer, x, y = regression(lr=0.05, batch_size=16)
    w, b = (p.numpy().copy() for p in (trainer.model.weight, trainer.model.bias))
    losses = 0.0
    for start in range(0, 40, 16):
        rows, targets = x[start : start + 16], y[start : start + 16]
        residual = rows @ w + b - targets
        losses += (residual**2).sum()
        w -= 0.05 * 2 * rows.T @ residual / len(rows)
        b -= 0.05 * 2 * residual.mean(axis=0)
    [row] = trainer.run()
    np.testing.assert_allclose(trainer.model.weight.numpy(), w, rtol=1e-12)
    np.testing.assert_allclose(trainer.model.bias.numpy(), b, rtol=1e-12)
    np.testing.assert_allclose(row["loss"], losses / 40, rtol=1e-12)  # the last batch has 8 rows
    assert row["epoch"] == 1
    assert row["lr"] == 0.05
    assert 0 <= row["waited"] < row["seconds"]


def test_digits():
    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(64, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng))
    trainer = Trainer(
        model,
        optim.Adam(model.parameters(), 5e-3),
        classes,
        DataLoader(ArrayDataset(images[:1400], labels[:1400]), 64, shuffle=True),
        epochs=20,
        callbacks=[Validation(DataLoader(ArrayDataset(images[1400:], labels[1400:]), 128))],
    )
    last = trainer.run()[-1]
    assert list(last)[:6] == ["epoch", "lr", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert last["val_accuracy"] > 0.9
    right = (model(Tensor(images[1400:])).numpy().argmax(axis=1) == labels[1400:]).mean()
    assert last["val_accuracy"] == pytest.approx(right, abs=1e-12)


def test_the_example_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(training) == (0, 13)
    assert (tmp_path / "signs.safetensors").exists()


def test_a_model_of_several_inputs_gets_them_by_name():
    trainer = two_inputs(epochs=200)
    unused = trainer.model.unused.weight.numpy().copy()
    history = trainer.run()
    assert history[-1]["loss"] < 0.1 * history[0]["loss"]
    # No gradient, so no weight decay either.
    np.testing.assert_array_equal(trainer.model.unused.weight.numpy(), unused)


def test_gives_the_bits_of_a_loop_by_hand():
    trainer, loop = two_inputs(), two_inputs()
    trainer.run()
    for _ in range(loop.epochs):
        for batch in loop.batches:
            loss = loop.model.loss(*map(Tensor, batch.values()))
            loop.optimizer.zero_grad()
            loss.backward()
            loop.optimizer.step()
    for a, b in zip(trainer.model.parameters(), loop.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# --- interrupted and resumed ----------------------------------------------------------------------

STEPS = 12  # of `noisy`


class StopAfter:
    """Asked between two steps, answers True when so many were made."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("steps", range(STEPS))
def test_a_resumed_run_gives_the_bits_of_an_unbroken_one(steps, tmp_path):
    unbroken = noisy()
    unbroken.run()
    path = tmp_path / "run.safetensors"
    broken = noisy(callbacks=[Checkpoint(path)])
    with pytest.raises(
        InterruptedRunError, match=f"epoch {steps // 4 + 1}, after step {steps % 4}"
    ):
        broken.run(stop=StopAfter(steps))
    resumed = noisy(seed=0, workers=0)
    resumed.load(path)
    assert (resumed.progress.epoch, resumed.progress.step) == divmod(steps, 4)
    resumed.run()
    same_bits(unbroken, resumed)


@pytest.mark.parametrize("after", [1, 3, 4, 7])
def test_a_checkpoint_within_an_epoch_is_one_to_resume_from(after, tmp_path):
    unbroken = noisy()
    unbroken.run()

    class Crash(Callback):
        order = 3
        steps = 0

        def on_step_end(self, trainer):
            self.steps += 1
            if self.steps == after:
                raise MemoryError

    path = tmp_path / "run.safetensors"
    with pytest.raises(MemoryError):
        noisy(callbacks=[Crash(), Checkpoint(path, every_steps=1)]).run()
    resumed = noisy()
    resumed.load(path)
    resumed.run()
    same_bits(unbroken, resumed)


def by_default_generator(epochs=2):
    """A run that draws from the default generator: in a layer, and in its loss."""
    manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    x = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    return Trainer(
        model,
        optim.SGD(model.parameters(), 0.1),
        lambda model, x: (model(F.dropout(x, 0.2)) ** 2).mean(),
        DataLoader(x, 4),
        epochs=epochs,
    )


def test_draws_from_the_default_generator_are_resumed(tmp_path):
    unbroken = by_default_generator()
    unbroken.run()
    broken = by_default_generator()
    with pytest.raises(InterruptedRunError):
        broken.run(stop=StopAfter(4))
    broken.save(tmp_path / "run")
    resumed = by_default_generator()
    resumed.load(tmp_path / "run")
    resumed.run()
    same_bits(unbroken, resumed)


def test_a_run_that_does_not_use_the_default_generator_leaves_it_alone(tmp_path):
    manual_seed(0)
    trainer = noisy(epochs=1)
    trainer.run()
    trainer.save(tmp_path / "run")
    state = manual_seed(1).bit_generator.state
    noisy(epochs=1).load(tmp_path / "run")
    assert default_generator().bit_generator.state == state


def test_ctrl_c_stops_between_two_steps_and_a_second_one_at_once(tmp_path):
    class Press(Callback):
        def __init__(self, *steps):
            self.steps, self.seen = steps, 0

        def on_step_end(self, trainer):
            self.seen += 1
            if self.seen in self.steps:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    path = tmp_path / "run.safetensors"
    press = Press(6)
    with pytest.raises(InterruptedRunError, match="epoch 2, after step 2"):
        noisy(callbacks=[press, Checkpoint(path)]).run()
    assert press.seen == 6
    resumed, unbroken = noisy(), noisy()
    resumed.load(path)
    resumed.run()
    unbroken.run()
    same_bits(unbroken, resumed)

    class PressTwice(Press):
        def on_step_end(self, trainer):
            super().on_step_end(trainer)
            super().on_step_end(trainer)

    with pytest.raises(KeyboardInterrupt):
        noisy(callbacks=[PressTwice(1, 2)]).run()
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread():
    trainer, *_ = regression(epochs=2)
    thread = threading.Thread(target=trainer.run)
    thread.start()
    thread.join()
    assert len(trainer.progress.history) == 2


def test_a_run_that_a_callback_ends_can_go_on():
    class Stop(Callback):
        def on_step_end(self, trainer):
            if (trainer.progress.epoch, trainer.progress.step) == (1, 2):
                trainer.request_stop()

    unbroken, trainer = noisy(), noisy(callbacks=[Stop()])
    unbroken.run()
    assert len(trainer.run()) == 1
    assert trainer.progress.step == 2
    trainer.run()
    same_bits(unbroken, trainer)


def test_epochs_can_be_added_to_a_run():
    long, short = two_inputs(epochs=5), two_inputs(epochs=2)
    long.run()
    short.run()
    short.epochs = 5
    short.run()
    same_bits(long, short)


def test_the_state_of_another_run_is_refused(tmp_path):
    two_inputs().save(tmp_path / "other")
    with pytest.raises(ValueError, match=r"other: expected the state of this run \("):
        noisy().load(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        noisy().load(tmp_path / "nowhere")
    # A loop with one callback more has a state that this one does not know.
    noisy(callbacks=[EpochSchedule(optim.StepLR(noisy().optimizer, 1))]).save(tmp_path / "more")
    with pytest.raises(ValueError, match="more: expected the state of this run"):
        noisy().load(tmp_path / "more")


# --- faults ---------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights():
    trainer, *_ = regression(epochs=500, lr=1e3)
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            TrainingDivergedError, match=r"the loss is (inf|nan) in epoch \d+, step 1; .*try 100"
        ),
    ):
        trainer.run()
    assert np.isfinite(trainer.model.weight.numpy()).all()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, x, y: model(x) - y, r"expected a tensor of shape \(\), got shape \(40, 1\)"),
        (lambda model, x, y: 1.0, "got float"),
        (lambda model, x, y: (None, {}), "got NoneType"),
    ],
)
def test_a_loss_that_is_none(loss, message):
    trainer, *_ = regression()
    trainer.loss = loss
    with pytest.raises(ValueError, match=message):
        trainer.run()


@pytest.mark.parametrize(
    ("batch", "what"), [(["a"], "list|str"), ({"x": np.array(["a"])}, "<U1"), ("text", "str")]
)
def test_batches_that_are_no_numbers(batch, what):
    trainer, *_ = regression()
    trainer.batches = [batch]
    with pytest.raises(TypeError, match=f"expected batches of arrays of numbers, got ({what})"):
        trainer.run()


def test_arguments():
    trainer, *_ = regression(epochs=0)
    assert trainer.run() == []
    with pytest.raises(ValueError, match="expected epochs >= 0, got -1"):
        regression(epochs=-1)
    twice = noisy(callbacks=[Jitter()])
    with pytest.raises(ValueError, match=r"have different names.*jitter, jitter"):
        twice.state()


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), "crossentropy", None])
def test_what_is_no_loss_is_refused_with_an_example(loss):
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="expected loss\\(model, \\*batch\\)"):
        Trainer(model, optim.SGD(model.parameters(), 0.1), loss, [], epochs=1)
