"""Ctrl-C and SIGTERM at any moment: saved and stopped, exit code 130."""

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from training_runs import noisy, same_bits

from tinygrad_mask import cli
from tinygrad_mask.training import Callback, InterruptedRunError

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored():
    """A shell starts what it puts in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Presses(Callback):
    """Sends a signal to its own process in one epoch, at one point of it."""

    def __init__(self, number, epoch, point):
        self.number, self.epoch, self.point = number, epoch, point
        self.saved = None

    def press(self, trainer, point):
        if trainer.progress.epoch == self.epoch and point == self.point:
            self.point = None
            os.kill(os.getpid(), self.number)

    def on_step_end(self, trainer):
        self.press(trainer, "step")

    def measure(self, trainer):
        self.press(trainer, "measure")
        trainer.stop_if_asked()
        return {}

    def on_epoch_end(self, trainer, row):
        self.press(trainer, "epoch end")

    def on_interrupt(self, trainer):
        self.saved = trainer.state()


class TestTrainer:
    @pytest.mark.parametrize("number", SIGNALS)
    @pytest.mark.parametrize(
        ("epoch", "point"),
        [(1, "step"), (1, "measure"), (2, "measure"), (1, "epoch end"), (3, "epoch end")],
    )
    def test_stops_at_any_moment_and_goes_on_to_the_same_bits(self, number, epoch, point):
        whole, broken = noisy(), noisy(callbacks=[Presses(number, epoch, point)])
        whole.run()
        with pytest.raises(InterruptedRunError, match="stopped "):
            broken.run()
        resumed = noisy()
        resumed.load_state(*broken.callbacks[-1].saved)
        resumed.run()
        same_bits(whole, resumed)

    def test_outside_of_a_measurement_nothing_is_raised(self):
        trainer = noisy()
        trainer.stop_if_asked()
        trainer.run()

    def test_a_signal_that_is_ignored_stays_ignored(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        noisy(callbacks=[Presses(signal.SIGINT, 1, "step")]).run()


class TestCommands:
    def call(self, command):
        return cli._call(command, argparse.Namespace())

    @pytest.mark.parametrize("number", SIGNALS)
    def test_exit_code_130(self, number, capsys):
        def command(_):
            os.kill(os.getpid(), number)
            time.sleep(30)

        handlers = [signal.getsignal(n) for n in (*SIGNALS, signal.SIGALRM)]
        start = time.monotonic()
        assert self.call(command) == 130
        assert time.monotonic() - start < 2
        assert capsys.readouterr().err == "stopped\n"
        assert [signal.getsignal(n) for n in SIGNALS] == handlers[:2]
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0

    def test_an_interrupt_that_is_swallowed_is_repeated(self, capsys):
        def command(_):
            with suppress(KeyboardInterrupt):  # as in the __del__ of an object
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
            time.sleep(30)

        start = time.monotonic()
        assert self.call(command) == 130
        assert time.monotonic() - start < 2
        assert capsys.readouterr().err == "stopped\n"

    def test_a_second_one_ends_the_process(self, monkeypatch):
        class Ended(BaseException):
            pass

        def end(code):
            raise Ended(code)

        def command(_):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30)

        monkeypatch.setattr(os, "_exit", end)
        with pytest.raises(Ended, match="130"):
            self.call(command)

    @pytest.mark.parametrize("number", SIGNALS)
    @pytest.mark.parametrize("options", [[], ["--cross-validate", "2"]], ids=["train", "folds"])
    def test_while_the_data_are_loaded(self, number, options, tmp_path):
        folder = tmp_path / "run"
        arguments = ["--data", "synthetic:5000", "--image-size", "8", "--epochs", "1", *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "tinygrad_mask", "train", *arguments, "--out", folder],
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (folder / "config.json").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        time.sleep(np.random.default_rng(number).uniform(0.1, 1))
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 130, error
        assert error == f"stopped; go on with --resume {folder}\n"
        assert not (folder / ".lock").exists()
