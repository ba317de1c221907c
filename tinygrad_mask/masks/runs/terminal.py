"""Train in a terminal: a line per epoch, a progress bar, and Ctrl-C that loses nothing."""

import sys
from collections.abc import Callable, Mapping

from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.runs.run_folder import RunFolder, SavedModel
from tinygrad_mask.masks.schemas import decode_json
from tinygrad_mask.training import (
    Callback,
    InterruptedRunError,
    Progress,
    ProgressLine,
    Trainer,
    TrainingDivergedError,
    stopping,
)

EpochLine = Callable[[Mapping[str, float], int], str]
"""From an epoch's row of the history and the number of epochs to the line that is printed."""


def run_in_terminal(
    trainer: Trainer, line: EpochLine, after_epoch: Callable[[], None] = lambda: None
) -> None:
    """Train the remaining epochs; call `after_epoch` and print a line after each of them.

    Ctrl-C stops between two steps, which raises `InterruptedRunError`.
    """
    shown = [_AfterEpoch(after_epoch), ProgressLine(line, bar=sys.stderr.isatty())]
    trainer.callbacks += shown
    try:
        with stopping() as stop:
            trainer.run(stop=stop)
    finally:
        trainer.callbacks = [c for c in trainer.callbacks if c not in shown]


def train_in_folder(
    trainer: Trainer,
    model: SavedModel,
    folder: RunFolder,
    line: EpochLine,
    *,
    resumed: bool,
) -> None:
    """Train the remaining epochs; after each one the state and the model are in the folder.

    `model` is what is saved of the trainer's network, with its averaged weights. After Ctrl-C the
    state is saved and `InterruptedRunError` says how to go on; `TrainingDivergedError` says what is
    left of the run. If the run is `resumed`, model and history are first written as they were in
    the state: the process before may have been killed between the files.
    """

    def write_state() -> None:
        state = trainer.state()
        if trainer.group.rank > 0:
            return
        with trainer.averaged():
            folder.write_state(model, trainer.progress.history, state)

    if resumed and trainer.group.rank == 0:
        with trainer.averaged():
            folder.write_model(model, trainer.progress.history)
    try:
        run_in_terminal(trainer, line, write_state)
    except InterruptedRunError:
        write_state()
        raise InterruptedRunError(
            f"stopped in epoch {trainer.progress.epoch + 1}, and saved; "
            f"go on with --resume {folder.path}"
        ) from None
    except TrainingDivergedError as error:
        if not folder.model.exists():
            raise
        kept = f"{folder.model} is as it was after epoch {trainer.progress.epoch}"
        raise TrainingDivergedError(f"{error}; {kept}") from None


def load_state(trainer: Trainer, folder: RunFolder) -> None:
    """Take up the state in a folder; raises `UsageError` if it is not that of this run."""
    state = folder.read_checkpoint()
    try:
        decode_json(state[1]["progress"], Progress)  # of the right types: the trainer trusts them
        trainer.load_state(*state)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{folder.checkpoint}: not the state of this run ({error})") from error


class _AfterEpoch(Callback):
    """Calls a function after each epoch."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Call it."""
        self.function()
