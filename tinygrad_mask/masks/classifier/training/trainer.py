"""The training loop, and the state that it can be taken up from again."""

import json
import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinygrad_mask import Tensor
from tinygrad_mask import functions as F
from tinygrad_mask.backends import Array, get_backend
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics, compute_metrics
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.training.averaging import WeightAverage
from tinygrad_mask.masks.classifier.training.batches import TrainingBatches
from tinygrad_mask.masks.classifier.training.recipes import Recipe, make_optimizer, slides_objective
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.nn import Dropout
from tinygrad_mask.optim import OneCycleLR

T = TypeVar("T")


class TrainingDivergedError(Exception):
    """The loss is no longer a number; the message says where and why that is likely."""


class InterruptedRunError(Exception):
    """The run was asked to stop, and stopped between two steps."""


@dataclass
class Progress:
    """Where a run is: the epochs done, and in the one under way the steps done and their sums.

    `seconds` are those of the epoch so far, `waited` those of them that a step waited for its data.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains a classifier on some of the faces of a face set, judged on others after each epoch.

    `train` and `validation` are positions of faces, int64. Everything random comes from `seed`, the
    epoch and the step, so that a run that was taken up again gives the same bits as one unbroken.
    With `graph` a device that can records how the gradients of a batch are computed, and replays
    it: on a GPU the launches of a small network take longer than its work.
    """

    def __init__(
        self,
        classifier: Classifier,
        faces: FaceSet,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
        recipe: Recipe,
        *,
        seed: int,
        device: str = "cpu",
        graph: bool = False,
    ) -> None:
        self.classifier = classifier
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.backend = get_backend(device)
        self.progress = Progress()
        self.validation_crops = Rows(faces.crops, validation)
        self.validation_labels = faces.labels[validation]
        self.batches = TrainingBatches(
            faces, train, recipe.batch_size, recipe.augmentation, seed=seed
        )
        weights = class_weights(faces.labels[train], recipe.class_balance)
        self.class_weights = None if weights is None else Tensor(weights, device=device)
        classifier.model.to(device)
        self.optimizer = make_optimizer(recipe, classifier.model)
        self.schedule = (
            OneCycleLR(self.optimizer, recipe.lr, recipe.epochs * len(self.batches))
            if recipe.one_cycle
            else None
        )
        self.average = (
            WeightAverage(classifier.model, recipe.weight_average)
            if recipe.weight_average
            else None
        )
        self._gradients = self._compute_gradients
        if graph:
            self._gradients = self.backend.capture(self._compute_gradients)
        # Outcomes that have not been looked at, and how many of them are let wait: the host must
        # not wait for a GPU with nothing left to do for it.
        self._outcomes: deque[tuple[Array, int]] = deque()
        self._most_outcomes = 1 if self.backend.asynchronous else 0

    # --- the loop ---------------------------------------------------------------------------

    def run(
        self,
        after_epoch: Callable[[], None],
        *,
        stop: Callable[[], bool] = lambda: False,
        show_progress: bool = False,
    ) -> None:
        """Train the epochs that are left, calling `after_epoch` after each.

        Between two steps `stop` is asked; where it answers True, `InterruptedRunError` is raised.
        Raises `TrainingDivergedError` where the loss is not finite: before the step that would
        spoil the weights, or on a GPU, which nobody waits for, right after it.
        """
        while self.progress.epoch < self.recipe.epochs:
            self._train_epoch(stop, show_progress)
            self._finish_epoch()
            after_epoch()

    def _train_epoch(self, stop: Callable[[], bool], show_progress: bool) -> None:
        progress = self.progress
        self.classifier.model.train()
        with tqdm(
            total=len(self.batches),
            initial=progress.step,
            desc=f"epoch {progress.epoch + 1}/{self.recipe.epochs}",
            unit="step",
            leave=False,
            disable=not show_progress,
        ) as bar:
            start = time.perf_counter()
            for inputs, labels in _one_ahead(self._batches()):
                if stop():
                    self._look_at_outcomes(0)
                    raise InterruptedRunError
                self._step(inputs(), labels())
                now = time.perf_counter()
                progress.seconds += now - start
                start = now
                bar.update()
                if progress.seen:
                    bar.set_postfix(
                        loss=f"{progress.loss_sum / progress.seen:.4f}",
                        accuracy=f"{progress.correct / progress.seen:.4f}",
                        refresh=False,
                    )
            self._look_at_outcomes(0)

    def _batches(self) -> Iterator[tuple[Callable[[], Array], Callable[[], Array]]]:
        """Yield the batches left of the epoch: inputs and labels, on their way to the device
        (`Backend.send`).
        """
        progress = self.progress
        batches = self.batches.epoch(progress.epoch, progress.step)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            progress.waited += time.perf_counter() - start
            if batch is None:
                return
            crops, labels = batch
            inputs = self.classifier.inputs(crops)
            yield self.backend.send(inputs.data), self.backend.send(labels)

    def _step(self, inputs: Array, labels: Array) -> None:
        """Take one step on a batch."""
        outcome, *gradients = self._gradients(inputs, labels)
        # A copy, for the next step may compute its own in the same place.
        self._outcomes.append((outcome.copy(), len(labels)))
        self._look_at_outcomes(self._most_outcomes)
        for parameter, gradient in zip(self.optimizer.parameters, gradients, strict=True):
            parameter.grad = parameter.wrap(gradient)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.average is not None:
            self.average.update()

    def _compute_gradients(self, inputs: Array, labels: Array) -> tuple[Array, ...]:
        """Return the outcome of a batch, (2,) in float64, and the gradient of each parameter.

        The outcome is the objective and how many the model had right.
        """
        xp = self.backend.xp
        scores = self.classifier.model(Tensor.from_array(inputs, self.backend))
        objective = self._objective(scores, Tensor.from_array(labels, self.backend))
        self.optimizer.zero_grad()
        objective.backward()
        correct = (scores.data.argmax(axis=1) == labels).sum()
        outcome = xp.stack([objective.data.astype(np.float64), correct.astype(np.float64)])
        return outcome, *(parameter.grad.data for parameter in self.optimizer.parameters)

    def _look_at_outcomes(self, most: int) -> None:
        """Count the steps whose outcomes are there, so that at most so many are left."""
        progress = self.progress
        while len(self._outcomes) > most:
            outcome, count = self._outcomes.popleft()
            loss, correct = self.backend.to_host(outcome).tolist()
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}")
            progress.step += 1
            progress.loss_sum += loss * count
            progress.correct += int(correct)
            progress.seen += count

    def _diverged(self, what: str) -> TrainingDivergedError:
        progress, lr = self.progress, self.recipe.lr
        return TrainingDivergedError(
            f"{what} in epoch {progress.epoch + 1}, step {progress.step + 1}; most likely the "
            f"learning rate of {lr:g} is too high: try --lr {lr / 10:g}"
        )

    def _objective(self, scores: Tensor, labels: Tensor) -> Tensor:
        if self.recipe.squared:
            one_hot = labels.data[:, None] == self.backend.xp.arange(len(LABELS))
            target = labels.wrap(one_hot.astype(np.float32))
            return slides_objective(self.classifier.model, scores, target, self.recipe.weight_decay)
        return F.cross_entropy(
            scores,
            labels,
            weight=self.class_weights,
            label_smoothing=self.recipe.label_smoothing,
        )

    def _finish_epoch(self) -> None:
        """Judge the model and write the epoch into the history."""
        start = time.perf_counter()
        scores = self.validation_scores()
        if not np.isfinite(scores).all():  # the last step did it, and no loss has shown it yet
            raise self._diverged("the scores are no numbers after the last step")
        metrics = compute_metrics(self.validation_labels, scores)
        labels = Tensor(self.validation_labels, device=self.device)
        val_loss = self._objective(Tensor(scores, device=self.device), labels).item()
        progress = self.progress
        row = {
            "epoch": progress.epoch + 1,
            "lr": self.optimizer.lr,
            "loss": progress.loss_sum / progress.seen,
            "accuracy": progress.correct / progress.seen,
            "val_loss": float(val_loss),
            "val_accuracy": metrics.accuracy,
            "val_balanced_accuracy": metrics.balanced_accuracy,
            "val_macro_f1": metrics.macro_f1,
            "val_improper_recall": metrics.per_class["improper"].recall,
            "seconds": progress.seconds + time.perf_counter() - start,
            "waited": progress.waited,
        }
        self.progress = Progress(progress.epoch + 1, history=[*progress.history, row])

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the model has the weights that it is judged and saved with."""
        return nullcontext() if self.average is None else self.average.applied()

    def validation_scores(self) -> NDArray[np.float32]:
        """Return the scores of the validation faces, (n, 3)."""
        with self.averaged():
            return self.classifier.scores(self.validation_crops, self.device)

    def validate(self) -> tuple[Metrics, NDArray[np.float32]]:
        """Return the metrics of the validation faces and their probabilities, (n, 3)."""
        probabilities = self.classifier.to_probabilities(self.validation_scores())
        return compute_metrics(self.validation_labels, probabilities), probabilities

    # --- the state --------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Array], dict[str, str]]:
        """Return all that the run has come to, as arrays and texts for a safetensors file."""
        arrays = {f"model.{k}": v for k, v in self.classifier.model.state_dict().items()}
        arrays |= {f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}
        if self.average is not None:
            arrays |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        generators = [layer.rng.bit_generator.state for layer in self._dropouts()]
        texts = {
            "progress": json.dumps(vars(self.progress)),
            "generators": json.dumps(generators),
        }
        return arrays, texts

    def load_state(self, arrays: Mapping[str, Array], texts: Mapping[str, str]) -> None:
        """Take up a run from its `state`; raises `ValueError` or `KeyError` where it is another."""
        parts: dict[str, dict[str, Array]] = {"model": {}, "optimizer": {}}
        if self.average is not None:
            parts["average"] = {}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        self.classifier.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        if self.schedule is not None:
            self.schedule.skip_to(max(self.optimizer.step_counts))
        self.progress = Progress(**json.loads(texts["progress"]))
        for layer, state in zip(self._dropouts(), json.loads(texts["generators"]), strict=True):
            layer.rng.bit_generator.state = state

    def _dropouts(self) -> list[Dropout]:
        return [m for m in self.classifier.model.modules() if isinstance(m, Dropout)]


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, each when the next one is there: a batch is sent while this is used."""
    waiting: list[T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def class_weights(labels: NDArray[np.int64], power: float) -> NDArray[np.float32] | None:
    """Return a weight a class, (3,): its inverse frequency to this power, 1 on the mean of faces.

    None for a power of 0. A class that does not occur has the weight 1.
    """
    if power == 0:
        return None
    shares = np.bincount(labels, minlength=len(LABELS)) / len(labels)
    weights = np.where(shares > 0, np.maximum(shares, 1e-12) ** -power, 0)
    weights /= (weights * shares).sum()
    return np.where(shares > 0, weights, 1).astype(np.float32)


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Say an epoch of the history in one line, as Keras does."""
    return (
        f"Epoch {row['epoch']:.0f}/{epochs} - {row['seconds']:.1f}s"
        f" - loss: {row['loss']:.4f} - accuracy: {row['accuracy']:.4f}"
        f" - val_loss: {row['val_loss']:.4f} - val_accuracy: {row['val_accuracy']:.4f}"
        f" - val_balanced_accuracy: {row['val_balanced_accuracy']:.4f}"
        f" - val_improper_recall: {row['val_improper_recall']:.4f}"
        f" - waited for data: {row['waited'] / row['seconds']:.1%}"
    )


def run_in_terminal(trainer: Trainer, after_epoch: Callable[[], None] = lambda: None) -> None:
    """Train the epochs that are left, as `Trainer.run`, and say each in a line when it is over.

    Ctrl-C stops between two steps, which raises `InterruptedRunError`.
    """

    def say_epoch() -> None:
        after_epoch()
        print(epoch_line(trainer.progress.history[-1], trainer.recipe.epochs), flush=True)

    with stopping() as stop:
        trainer.run(say_epoch, stop=stop, show_progress=sys.stderr.isatty())


@contextmanager
def stopping() -> Iterator[Any]:
    """Yield a function that says whether Ctrl-C was pressed; a second one interrupts at once.

    Between two steps the weights, the optimiser and the place in the epoch belong together; an
    exception from within a step would tear them apart.
    """
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def press(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
