"""Callbacks: what happens during a run besides its steps."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from tqdm import tqdm

from tinygrad_mask.backends import Array
from tinygrad_mask.optim import Schedule, clip_grad_norm

if TYPE_CHECKING:
    from tinygrad_mask.training.trainer import Trainer


class Callback:
    """Base of the callbacks: each method is called at its point of a run and does nothing here.

    A callback with a state returns it from `state_dict`; it is saved and loaded with the run's,
    under the callback's `name`, and a resumed run is to the bit what it would have been. Callbacks
    are called in the order of the trainer's list, those with a higher `order` after all others.

    Example, which ends a run when the validation loss has not fallen for three epochs:

        >>> class EarlyStopping(Callback):
        ...     name = "early_stopping"
        ...     best, epochs = float("inf"), 0
        ...     def on_epoch_end(self, trainer, row):
        ...         self.epochs = 0 if row["val_loss"] < self.best else self.epochs + 1
        ...         self.best = min(self.best, row["val_loss"])
        ...         if self.epochs == 3:
        ...             trainer.request_stop()
        ...     def state_dict(self):
        ...         return {"state": np.array([self.best, self.epochs])}
        ...     def load_state_dict(self, state):
        ...         self.best, self.epochs = float(state["state"][0]), int(state["state"][1])
    """

    name: str = ""
    """Where the state is kept; needed only with a `state_dict`."""

    order: ClassVar[int] = 0
    """0; `Checkpoint` has 1 and `ProgressLine` 2, so that a line means an epoch that is saved."""

    def on_train_begin(self, trainer: "Trainer") -> None:
        """Called when a run begins or is resumed."""

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """Called before the first step of an epoch, or the first one that a resumed run makes."""

    def on_gradients(self, trainer: "Trainer") -> None:
        """Called when the parameters have their gradients, before the optimiser's step."""

    def on_step_end(self, trainer: "Trainer") -> None:
        """Called after each step.

        On a GPU `trainer.progress` may lack the step's loss yet, which would have to be waited for.
        """

    def measure(self, trainer: "Trainer") -> Mapping[str, float]:
        """Return what is added to the row of the epoch that has just been trained."""
        return {}

    def on_epoch_end(self, trainer: "Trainer", row: Mapping[str, float]) -> None:
        """Called after each epoch with its row of the history."""

    def on_interrupt(self, trainer: "Trainer") -> None:
        """Called when the run was asked to stop, between two steps, before the error is raised."""

    def on_train_end(self, trainer: "Trainer") -> None:
        """Called when `run` ends, also by an exception."""

    def state_dict(self) -> dict[str, Array]:
        """Return the state as arrays by name; empty if there is none."""
        return {}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`."""


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Return an epoch of the history as one line, as Keras prints it."""
    measures = [
        f"{name}: {value:.4f}"
        for name, value in row.items()
        if name not in ("epoch", "lr", "seconds", "waited")
    ]
    return " - ".join([f"Epoch {row['epoch']:.0f}/{epochs}", f"{row['seconds']:.1f}s", *measures])


class ProgressLine(Callback):
    """Prints a line for each epoch and, on a terminal, shows a progress bar of the steps.

    Of several ranks the first one does.

    Args:
        line: makes the line from the epoch's row and the number of epochs.
        bar: whether to show the bar; by default if `stream` is a terminal.
        stream: where the bar is shown; `sys.stderr` if None. The lines go to `sys.stdout`.
    """

    order: ClassVar[int] = 2

    def __init__(
        self,
        line: Callable[[Mapping[str, float], int], str] = epoch_line,
        *,
        bar: bool | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.line = line
        self.bar = bar
        self.stream = stream
        self._bar: tqdm[Any] | None = None

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """Show the bar."""
        stream = self.stream or sys.stderr
        shown = stream.isatty() if self.bar is None else self.bar
        shown = shown and trainer.group.rank == 0
        self._bar = tqdm(
            total=len(trainer.batches),
            initial=trainer.progress.step,
            desc=f"epoch {trainer.progress.epoch + 1}/{trainer.epochs}",
            unit="step",
            leave=False,
            disable=not shown,
            file=stream,
        )

    def on_step_end(self, trainer: "Trainer") -> None:
        """Move the bar."""
        if self._bar is not None and not self._bar.disable:
            self._bar.update()
            means = {name: f"{mean:.4f}" for name, mean in trainer.progress.means().items()}
            if means:
                self._bar.set_postfix(means, refresh=False)

    def on_epoch_end(self, trainer: "Trainer", row: Mapping[str, float]) -> None:
        """Print the line."""
        self._close()
        if trainer.group.rank == 0:
            print(self.line(row, trainer.epochs), flush=True)

    def on_train_end(self, trainer: "Trainer") -> None:
        """Take the bar away."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Checkpoint(Callback):
    """Saves the run's state after each epoch and when it is interrupted; see `Trainer.load`.

    Args:
        path: the safetensors file, replaced as a whole each time.
        every_steps: save after every so many steps of an epoch as well.
    """

    order: ClassVar[int] = 1

    def __init__(self, path: str | Path, *, every_steps: int | None = None) -> None:
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"Checkpoint: expected every_steps >= 1, got {every_steps}")
        self.path = Path(path)
        self.every_steps = every_steps
        self._steps = 0

    def on_step_end(self, trainer: "Trainer") -> None:
        """Save if it is time to."""
        self._steps += 1
        if self.every_steps is not None and self._steps % self.every_steps == 0:
            trainer.save(self.path)

    def on_epoch_end(self, trainer: "Trainer", row: Mapping[str, float]) -> None:
        """Save."""
        trainer.save(self.path)

    def on_interrupt(self, trainer: "Trainer") -> None:
        """Save."""
        trainer.save(self.path)


class Validation(Callback):
    """Evaluates on other batches after each epoch: `val_loss` and the other measures.

    The model is in evaluation mode and has its averaged weights, if there is a `WeightAverage`.
    """

    def __init__(self, batches: Iterable[Any], prefix: str = "val_") -> None:
        self.batches = batches
        self.prefix = prefix

    def measure(self, trainer: "Trainer") -> Mapping[str, float]:
        """Return the means over all examples."""
        means = trainer.evaluate(self.batches)
        return {f"{self.prefix}{name}": mean for name, mean in means.items()}


class ClipGradNorm(Callback):
    """Scales all gradients before each step so that their joint norm is at most `max_norm`."""

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def on_gradients(self, trainer: "Trainer") -> None:
        """See `optim.clip_grad_norm`."""
        clip_grad_norm(trainer.optimizer.parameters, self.max_norm)


class EpochSchedule(Callback):
    """Steps a schedule after each epoch instead of after each step.

    Args:
        schedule: the schedule, whose steps are epochs.
        monitor: the value of the epoch's row that `schedule.step` is given, for a schedule that
            reacts to it; None for one that does not.
        name: where its state is kept.
    """

    def __init__(
        self, schedule: Schedule, monitor: str | None = None, *, name: str = "epoch_schedule"
    ) -> None:
        self.schedule = schedule
        self.monitor = monitor
        self.name = name

    def on_epoch_end(self, trainer: "Trainer", row: Mapping[str, float]) -> None:
        """Step the schedule."""
        if self.monitor is None:
            self.schedule.step()
            return
        if self.monitor not in row:
            raise ValueError(
                f"EpochSchedule: expected monitor to be one of {', '.join(row)}, "
                f"got {self.monitor!r}"
            )
        step: Any = self.schedule.step
        step(row[self.monitor])

    def state_dict(self) -> dict[str, Array]:
        """Return the schedule's state."""
        return self.schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`."""
        self.schedule.load_state_dict(state)
