"""The training loop, and the state from which a run is resumed.

Four rules make a resumed run give the bits of an uninterrupted one:

1. A run stops only between two steps, when weights, optimiser and schedules fit together.
2. The batches of an epoch depend on the epoch's number, not on what was drawn before it.
3. All other random numbers come from generators whose state is saved: those of layers (dropout),
   the default generator if the run draws from it, and those of callbacks, which save their own.
4. The averages of an epoch are sums that are saved with the position in it.

On several ranks (see `distributed`) the loop is the same. Every rank takes its part of each batch,
the gradients and the averages are those of the whole batch, and rank 0 saves. A state holds nothing
that depends on the number of ranks but the random numbers of each, so it may be resumed with
another number.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from tinygrad_mask import serialization
from tinygrad_mask.autograd import no_grad
from tinygrad_mask.backends import Array
from tinygrad_mask.data import DataLoader
from tinygrad_mask.distributed import world
from tinygrad_mask.equivalents import TRAINER, mark_absent, without_absent
from tinygrad_mask.keywords import ChecksKeywords
from tinygrad_mask.nn import Module
from tinygrad_mask.optim import Optimizer, Schedule
from tinygrad_mask.random import default_generator
from tinygrad_mask.tensor import Tensor
from tinygrad_mask.training.averaging import WeightAverage
from tinygrad_mask.training.callbacks import Callback
from tinygrad_mask.training.interrupts import stopping, was_pressed
from tinygrad_mask.training.parallel import (
    ParallelSteps,
    batches_of_rank,
    length_of,
    with_weights,
)

T = TypeVar("T")

Loss = Callable[..., Any]
"""`loss(model, *batch)` returns the loss, a tensor of shape (), or the loss and a mapping from
names to tensors whose means are reported: `{"accuracy": scores.argmax(axis=1) == labels}`."""

_RESERVED = ("model", "optimizer", "schedule")


class TrainingDivergedError(Exception):
    """The loss is not finite; the message says in which step and what to try."""

    together = 8.0
    """All ranks raise it; the seconds for which rank 0 may still be busy with it."""


class InterruptedRunError(Exception):
    """The run was asked to stop, and stopped between two steps."""

    together = 60.0
    """All ranks raise it; the seconds for which rank 0 may still be saving."""

    exit_code = 130
    """The exit code of a program that it ends, as a shell says it: 128 + SIGINT."""


class Batches(Protocol):
    """Batches that can be produced from any step of any epoch, for runs that are resumed."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""

    def epoch(self, epoch: int, first: int = 0, /) -> Iterator[Any]:
        """Yield the batches of an epoch, counted from 0, from step `first` on."""


@dataclass
class Progress:
    """The position of a run: the epochs done, and the steps done and their sums in the current one.

    `sums` has the loss and the other measures, each summed over the `seen` examples. `seconds` is
    the time spent in the epoch so far, `waited` the part of it spent waiting for data. `history`
    has a row for each epoch that is done.
    """

    epoch: int = 0
    step: int = 0
    seen: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Return the means over the examples of the epoch so far, the loss first."""
        return {name: total / self.seen for name, total in self.sums.items()} if self.seen else {}


class Trainer(ChecksKeywords):
    """Trains a model: for each batch of each epoch, one step of the optimiser.

    Args:
        model: the model, on its device; move it (`model.to(device)`) before making the optimiser.
        optimizer: the optimiser of its parameters.
        loss: called as `loss(model, *batch)`, or `loss(model, **batch)` for batches that are
            mappings, with the batch's arrays as tensors on the model's device. Returns the loss, a
            tensor of shape (), or the loss and a mapping from names to tensors whose means over the
            epoch are reported.
        batches: a `DataLoader`, a sequence of batches, or `Batches`. A batch is an array, tuple
            or mapping of arrays; their first axis is that of the examples.
        epochs: the number of epochs.
        schedule: a learning-rate schedule, or several, that make a step after each step of the
            optimiser. For those that make a step after each epoch see `EpochSchedule`.
        callbacks: what else happens during the run, see `Callback`; called in this order.
        graph: whether a device that can (a GPU) records forward and backward pass once and replays
            them as one launch: launching the kernels of a small network takes longer than running
            them. `loss` must then do the same for each batch and must not look at a value.

    On several ranks `batches` are those of all ranks together: each rank takes its part of every
    batch, by `batches.share(rank, size)` if there is such a method (a `DataLoader` has it), and cut
    out of the whole batch if not. Callbacks are called on all ranks and must decide the same; the
    attribute `group` says which rank this is.

    Example: see the package's documentation, `help(tinygrad_mask.training)`.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Loss,
        batches: DataLoader | Batches | Sequence[Any],
        *,
        epochs: int,
        schedule: Schedule | Sequence[Schedule] | None = None,
        callbacks: Iterable[Callback] = (),
        graph: bool = False,
    ) -> None:
        if epochs < 0:
            raise ValueError(f"Trainer: expected epochs >= 0, got {epochs}")
        if isinstance(loss, Module) or not callable(loss):
            raise TypeError(
                "Trainer: expected loss(model, *batch), a function that calls the model, such as "
                "lambda model, x, y: F.cross_entropy(model(x), y); "
                f"got {loss if isinstance(loss, str) else type(loss).__name__}"
            )
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self.batches = batches
        self.epochs = epochs
        self.schedules = [schedule] if isinstance(schedule, Schedule) else list(schedule or ())
        self.callbacks = list(callbacks)
        self.progress = Progress()
        self.group = world()
        self._parallel: ParallelSteps | None = None
        if self.group.size > 1:
            self._parallel = ParallelSteps(model, optimizer, self.group)
        self._weight = 0  # how many examples of this rank's batch count
        self._has_own_generators = self.group.rank == 0
        self._backend = optimizer.parameters[0].backend
        self._stop_requested = False
        self._measuring = False
        # Saved only if this run draws from it: other runs must not depend on it.
        self._default_state: Any = default_generator().bit_generator.state
        self._names: list[str] | None = None  # of a batch's arrays, if batches are mappings
        self._measures: list[str] = []
        self._moved: list[int] = []  # the parameters that get a gradient, in a captured step
        self._graph = graph
        self._gradients = self._compute_gradients
        if graph:
            self._gradients = self._backend.capture(self._compute_gradients)
        # Outcomes not yet read, and how many of them may wait: the host must not wait for a GPU
        # that has no further work queued.
        self._outcomes: deque[tuple[Array, int, float]] = deque()
        self._most_outcomes = 1 if self._backend.asynchronous else 0

    def __dir__(self) -> list[str]:
        return without_absent(type(self), super().__dir__())

    def __repr__(self) -> str:
        parts = f"model={type(self.model).__name__}, optimizer={type(self.optimizer).__name__}"
        return f"Trainer({parts}, epochs={self.epochs}, of which {self.progress.epoch} are done)"

    # --- the loop ---------------------------------------------------------------------------

    def run(self, *, stop: Callable[[], bool] | None = None) -> list[dict[str, float]]:
        """Train the remaining epochs and return the history, a row for each epoch.

        `stop` is called between two steps; when it returns True, the callbacks' `on_interrupt` is
        called and `InterruptedRunError` is raised. By default it tells whether Ctrl-C was pressed.

        Raises `TrainingDivergedError` if the loss is not finite: before the step that would spoil
        the weights or, on a GPU, whose results are read one step later, right after it.
        """
        self._stop_requested = False
        with ExitStack() as stack:
            asked = stack.enter_context(stopping() if stop is None else nullcontext(stop))
            if self._parallel is not None:
                asked = self._parallel.begin(asked)
                self._jump_generators()
            stack.callback(self._call, "on_train_end")  # also after an exception
            self._call("on_train_begin")
            try:
                while self.progress.epoch < self.epochs and not self._stop_requested:
                    if self._train_epoch(asked):
                        self._finish_epoch()
                if self.group.all_reduce(
                    int(was_pressed())
                ):  # after the last step: what comes after the run must not begin
                    raise InterruptedRunError(f"stopped after epoch {self.progress.epoch}")
            except InterruptedRunError:
                self._call("on_interrupt")
                raise
        return self.progress.history

    def stop_if_asked(self) -> None:
        """Raise `InterruptedRunError` if Ctrl-C was pressed; for measurements that take seconds.

        Does nothing but in `Callback.measure`: the steps of the epoch are done, and a run that is
        resumed from here measures again. On several ranks it does nothing: they stop between two
        steps, together.
        """
        if self._measuring and self._parallel is None and was_pressed():
            raise InterruptedRunError(
                f"stopped in epoch {self.progress.epoch + 1}, after step {self.progress.step}"
            )

    def request_stop(self) -> None:
        """End the run after the current step, without an error; for callbacks."""
        self._stop_requested = True

    def _call(self, name: str, *arguments: Any) -> None:
        for callback in sorted(self.callbacks, key=lambda callback: callback.order):
            getattr(callback, name)(self, *arguments)

    def _train_epoch(self, stop: Callable[[], bool]) -> bool:
        """Train the rest of an epoch and return whether it is done."""
        progress = self.progress
        self.model.train()
        self._call("on_epoch_begin")
        start = time.perf_counter()
        for batch in _one_ahead(self._batches()):
            if stop():
                self._read_outcomes(0)
                raise InterruptedRunError(
                    f"stopped in epoch {progress.epoch + 1}, after step {progress.step}"
                )
            weight, arrays = batch
            self._step(weight, *(arrived() for arrived in arrays))
            now = time.perf_counter()
            progress.seconds += now - start
            start = now
            self._call("on_step_end")
            if self._stop_requested:
                self._read_outcomes(0)
                return progress.step == len(self.batches)
        self._read_outcomes(0)
        return True

    def _batches(self) -> Iterator[tuple[int, tuple[Callable[[], Array], ...]]]:
        """Yield the remaining batches of the epoch, on their way to the device (`Backend.send`).

        With each goes the number of its examples that count.
        """
        progress, group = self.progress, self.group
        source, cut = batches_of_rank(self.batches, group)
        steps = _from_step(source, progress.epoch, progress.step)
        batches = with_weights(steps, progress.step, source, cut, group, self._arrays)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            progress.waited += time.perf_counter() - start
            if batch is None:
                return
            weight, arrays = batch
            yield weight, tuple(self._backend.send(array) for array in arrays)

    def _arrays(self, batch: Any) -> list[Array]:
        """Return the arrays of a batch in order; the names of a mapping's are kept."""
        if isinstance(batch, Mapping):
            self._names = list(batch)
            batch = tuple(batch.values())
        else:
            self._names = None
        if not isinstance(batch, tuple | list):
            batch = (batch,)
        arrays = [item.numpy() if isinstance(item, Tensor) else item for item in batch]
        for item in arrays:
            if not isinstance(item, np.ndarray) or item.dtype.kind not in "biuf":
                raise TypeError(
                    "Trainer: expected batches of arrays of numbers, got "
                    f"{getattr(item, 'dtype', type(item).__name__)}; see `collate` of DataLoader"
                )
        return arrays

    def _step(self, weight: int, *arrays: Array) -> None:
        """Take one step on a batch of which `weight` examples count."""
        self._weight = weight
        outcome, *gradients = self._gradients(*arrays)
        count = length_of(arrays[0])
        if self._graph:
            for k, gradient in zip(self._moved, gradients, strict=True):
                parameter = self.optimizer.parameters[k]
                parameter.grad = parameter.wrap(gradient)
        if self._parallel is None:
            # A copy, because the next step of a captured graph writes its own to the same memory.
            self._outcomes.append((outcome.copy(), count, 0.0))
        else:
            here = self._backend.to_host(outcome)
            if self._graph:
                self._parallel.reduce(here, weight, count)
            self._outcomes.append((*self._parallel.outcome(), float(here[0])))
        self._read_outcomes(self._most_outcomes)
        self._call("on_gradients")
        self.optimizer.step()
        for schedule in self.schedules:
            schedule.step()

    def _compute_gradients(self, *arrays: Array) -> tuple[Array, ...]:
        """Compute the gradients of a batch; return its outcome and, to be captured, the gradients.

        The outcome, in float64, is the loss and, for each further measure, its sum over the batch's
        examples.
        """
        loss, measures = self._loss_of(Tensor.from_array(a, self._backend) for a in arrays)
        self.optimizer.zero_grad()
        self._measures = list(measures)
        count = length_of(arrays[0])
        if self._parallel is None or self._graph:
            loss.backward()
            outcome = self._outcome(loss, measures, count)
        else:
            outcome = self._outcome(loss, measures, count)
            here = self._backend.to_host(outcome)
            self._parallel.backward(loss, here, self._weight, count)
        if not self._graph:
            return (outcome,)
        gradients = {k: p.grad for k, p in enumerate(self.optimizer.parameters)}
        self._moved = [k for k, gradient in gradients.items() if gradient is not None]
        return outcome, *(gradients[k].data for k in self._moved)

    def _loss_of(self, batch: Iterable[Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of a batch, of shape (), and the tensors of the other measures."""
        if self._names is None:
            result = self.loss(self.model, *batch)
        else:
            result = self.loss(self.model, **dict(zip(self._names, batch, strict=True)))
        loss, measures = result if isinstance(result, tuple) else (result, {})
        if not isinstance(loss, Tensor) or loss.shape != ():
            got = f"shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                f"loss: expected a tensor of shape (), got {got}; take the mean over the batch"
            )
        return loss, measures

    def _outcome(self, loss: Tensor, measures: Mapping[str, Tensor], count: int) -> Array:
        # The mean of each measure times the number of examples: of booleans an exact count.
        sums = [m.data.astype(np.float64).sum() * (count / m.size) for m in measures.values()]
        return self._backend.xp.stack([loss.data.astype(np.float64), *sums])

    def _read_outcomes(self, most: int) -> None:
        """Add up the outcomes of the steps until at most `most` of them are unread."""
        progress = self.progress
        while len(self._outcomes) > most:
            outcome, count, here = self._outcomes.popleft()
            if self._parallel is None:
                outcome = self._backend.to_host(outcome)
            loss, *sums = outcome.tolist()
            if not math.isfinite(loss):
                raise self.diverged(self._where_not_finite(loss, here))
            progress.step += 1
            progress.seen += count
            _add(progress.sums, ["loss", *self._measures], [loss * count, *sums])

    def _where_not_finite(self, loss: float, here: float) -> str:
        """Say that the loss is not finite, and on which ranks."""
        if self._parallel is None:
            return f"the loss is {loss}"
        losses = self.group.all_gather((self.group.name, here))
        ranks = [f"{name}: the loss is {own}" for name, own in losses if not math.isfinite(own)]
        return ", ".join(ranks) or f"the loss of all ranks is {loss}"

    def diverged(self, what: str) -> TrainingDivergedError:
        """Return the error that says what is not finite, in which step, and what to try."""
        progress = self.progress
        return TrainingDivergedError(
            f"{what} in epoch {progress.epoch + 1}, step {progress.step + 1}; {self.advice()}"
        )

    def advice(self) -> str:
        """Return what to try if the run diverges."""
        lr = self.optimizer.lr
        return f"most likely the learning rate of {lr:g} is too high: try {lr / 10:g}"

    def _finish_epoch(self) -> None:
        """Write the epoch into the history, with what the callbacks measure."""
        start = time.perf_counter()
        progress = self.progress
        row = {"epoch": progress.epoch + 1, "lr": self.optimizer.lr, **progress.means()}
        self._measuring = True
        try:
            for callback in self.callbacks:
                row |= callback.measure(self)
        finally:
            self._measuring = False
        row["seconds"] = progress.seconds + time.perf_counter() - start
        row["waited"] = progress.waited
        row = self.group.broadcast_object(row)  # callbacks decide the same on all ranks
        self.progress = Progress(progress.epoch + 1, history=[*progress.history, row])
        self._call("on_epoch_end", row)

    # --- evaluation -------------------------------------------------------------------------

    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Return the means of the loss and the other measures over all examples of some batches.

        The model is in evaluation mode meanwhile and has its averaged weights, if there is a
        `WeightAverage`; callbacks may call this at any time.
        """
        seen, sums, names = 0, dict[str, float](), self._names
        source, cut = batches_of_rank(batches, self.group)
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with self.averaged(), no_grad():
                for weight, items in with_weights(
                    iter(source), 0, source, cut, self.group, self._arrays
                ):
                    self.stop_if_asked()
                    if not weight:
                        continue
                    arrays = [self._backend.asarray(array) for array in items]
                    tensors = (Tensor.from_array(array, self._backend) for array in arrays)
                    loss, measures = self._loss_of(tensors)
                    count = length_of(arrays[0])
                    outcome = self._backend.to_host(self._outcome(loss, measures, count)).tolist()
                    seen += count
                    _add(sums, ["loss", *measures], [outcome[0] * count, *outcome[1:]])
        finally:
            self._names = names  # of the batch that is on its way
            for module, training in modes:
                module.training = training
        if self.group.size > 1:
            parts = self.group.all_gather((seen, sums))
            seen, sums = sum(part[0] for part in parts), {}
            for _, part in parts:
                _add(sums, list(part), list(part.values()))
        return {name: total / seen for name, total in sums.items()}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the model has its averaged weights, if there is a `WeightAverage`."""
        with ExitStack() as stack:
            for callback in self.callbacks:
                if isinstance(callback, WeightAverage):
                    stack.enter_context(callback.applied())
            yield

    # --- the state --------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file, which is replaced as a whole.

        All ranks call it, and rank 0 writes.
        """
        state = self.state()
        if self.group.rank == 0:
            serialization.save(path, *state, overwrite=True)

    def load(self, path: str | Path) -> None:
        """Resume from the state in a file.

        All ranks call it, and rank 0 reads.

        Raises `OSError` if the file cannot be read, `ValueError` for the state of another run.
        """
        try:
            state = serialization.load(path) if self.group.rank == 0 else None
            self.load_state(*self.group.broadcast_object(state))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected the state of this run ({error})") from error

    def state(self) -> tuple[dict[str, Array], dict[str, str]]:
        """Return the whole state as arrays and texts, for a safetensors file.

        All ranks call it.
        """
        self._read_outcomes(0)
        arrays = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        arrays |= {f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}
        for number, schedule in enumerate(self.schedules):
            arrays |= {f"schedule.{number}.{k}": v for k, v in schedule.state_dict().items()}
        for callback in self._stateful():
            arrays |= {f"{callback.name}.{k}": v for k, v in callback.state_dict().items()}
        generators = [generator.bit_generator.state for generator in self._generators()]
        default = self._default_generator_state()
        texts = {
            "progress": json.dumps(vars(self.progress)),
            "generators": json.dumps(generators),
            "default_generator": json.dumps(default),
        }
        if self._parallel is not None:
            texts["generators_of_ranks"] = json.dumps(self.group.all_gather((generators, default)))
        return arrays, texts

    def load_state(self, arrays: Mapping[str, Array], texts: Mapping[str, str]) -> None:
        """Resume from a `state`; raises `ValueError` or `KeyError` if it is that of another run."""
        callbacks = {callback.name: callback for callback in self._stateful()}
        parts: dict[str, dict[str, Array]] = {name: {} for name in (*_RESERVED, *callbacks)}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        self.model.load_state_dict(parts["model"])
        for number, schedule in enumerate(self.schedules):
            prefix = f"{number}."
            state = {
                k.removeprefix(prefix): v
                for k, v in parts["schedule"].items()
                if k.startswith(prefix)
            }
            schedule.load_state_dict(state)
        for name, callback in callbacks.items():
            callback.load_state_dict(parts[name])
        # After the schedules, which set the learning rate: the saved one is the last that was set.
        self.optimizer.load_state_dict(parts["optimizer"])
        self.progress = Progress(**json.loads(texts["progress"]))
        states, state = json.loads(texts["generators"]), json.loads(texts["default_generator"])
        of_ranks = json.loads(texts.get("generators_of_ranks", "[]"))
        self._has_own_generators = self.group.rank == 0 or self.group.rank < len(of_ranks)
        if self.group.rank < len(of_ranks):
            states, state = of_ranks[self.group.rank]
        for generator, own in zip(self._generators(), states, strict=True):
            generator.bit_generator.state = own
        if state is not None:
            default_generator().bit_generator.state = state
            self._default_state = None

    def _stateful(self) -> list[Callback]:
        """The callbacks that have a state; each needs a name of its own."""
        callbacks = [callback for callback in self.callbacks if callback.state_dict()]
        names = [callback.name for callback in callbacks]
        if len({*names, *_RESERVED}) < len(names) + len(_RESERVED) or any("." in n for n in names):
            raise ValueError(
                f"Trainer: expected callbacks with a state to have different names, without dots "
                f"and none of {', '.join(_RESERVED)}, got {', '.join(names)}; set `name`"
            )
        return callbacks

    def _generators(self) -> list[np.random.Generator]:
        """The generators that layers own, those of dropout for instance."""
        values = [value for module in self.model.modules() for value in vars(module).values()]
        return [value for value in values if isinstance(value, np.random.Generator)]

    def _jump_generators(self) -> None:
        """Have the ranks draw different random numbers; rank 0 draws those of a single process."""
        if not self._has_own_generators:
            default = default_generator()
            unused = self._default_generator_state() is None
            for generator in (*self._generators(), default):
                bits: Any = generator.bit_generator
                bits.state = bits.jumped(self.group.rank).state
            if unused:
                self._default_state = default.bit_generator.state
            self._has_own_generators = True

    def _default_generator_state(self) -> Any:
        """The state of the default generator, None if nothing was drawn from it."""
        state = default_generator().bit_generator.state
        return None if state == self._default_state else state


mark_absent(Trainer, TRAINER)


def _from_step(batches: Any, epoch: int, first: int) -> Iterator[Any]:
    """Return an iterator over the batches of an epoch from step `first` on."""
    if isinstance(batches, DataLoader):
        batches.epoch = epoch
    elif callable(getattr(batches, "epoch", None)):
        return iter(batches.epoch(epoch, first))
    return islice(iter(batches), first, None)


def _add(sums: dict[str, float], names: Sequence[str], values: Sequence[float]) -> None:
    for name, value in zip(names, values, strict=True):
        sums[name] = sums.get(name, 0.0) + value


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield each item when the next one was fetched: one batch is sent while another is used."""
    waiting: list[T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting
