"""Training a classifier: its objective, its batches, and how it is judged after each epoch."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import Tensor, nn
from tinygrad_mask import functions as F
from tinygrad_mask.data import Rows
from tinygrad_mask.distributed import part_of
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics, compute_metrics
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.training.batches import TrainingBatches
from tinygrad_mask.masks.classifier.training.recipes import (
    Recipe,
    make_optimizer,
    slides_objective,
)
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.masks.labels import LABELS, class_weights
from tinygrad_mask.optim import OneCycleLR, Optimizer, Schedule
from tinygrad_mask.training import (
    Callback,
    Trainer,
    WeightAverage,
)

_SCORED_AT_ONCE = 1024
"""Validation faces between two looks at whether Ctrl-C was pressed; whole batches of `scores`."""


class Task:
    """What a classifier is trained on, by which settings, and what it is judged on.

    `train` and `validation` are positions of faces in the face set, int64, and `labels` the classes
    of those trained on, (n,). All random numbers come from `seed`, the epoch and the step. `graph`
    is that of `training.Trainer`.
    """

    def __init__(
        self,
        faces: FaceSet,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
        recipe: Recipe,
        *,
        seed: int,
        device: str = "cpu",
        graph: bool = False,
    ) -> None:
        self.faces, self.train, self.validation = faces, train, validation
        self.recipe = recipe
        self.seed, self.device, self.graph = seed, device, graph
        self.labels = faces.labels[train]

    @property
    def steps(self) -> int:
        """The number of steps in all epochs."""
        return self.recipe.epochs * -(-len(self.train) // self.recipe.batch_size)


Objective = Callable[[Tensor, Tensor], Tensor]
"""From scores (n, 3) and labels (n,) to what is minimised, a tensor of shape ()."""


class ClassifierTrainer(Trainer):
    """Trains a classifier on some of the faces of a face set, judged on others after each epoch.

    `optimizer` is that of the classifier's parameters, on the device of the task.
    """

    def __init__(
        self,
        task: Task,
        classifier: Classifier,
        optimizer: Optimizer,
        objective: Objective,
        *,
        schedule: Schedule | None = None,
    ) -> None:
        self.classifier = classifier
        self.objective = objective
        self.recipe = recipe = task.recipe
        self.device = task.device
        self.validation_crops = Rows(task.faces.crops, task.validation)
        self.validation_labels = task.faces.labels[task.validation]
        batches = TrainingBatches(
            task.faces,
            task.train,
            recipe.batch_size,
            recipe.augmentation,
            seed=task.seed,
            scale=lambda crops: classifier.inputs(crops).numpy(),
            class_shares=recipe.class_shares,
        )
        callbacks: list[Callback] = [_Judge(self)]
        if recipe.weight_average:
            callbacks.append(WeightAverage(classifier.model, recipe.weight_average))
        super().__init__(
            classifier.model,
            optimizer,
            self._loss,
            batches,
            epochs=recipe.epochs,
            schedule=schedule,
            callbacks=callbacks,
            graph=task.graph,
        )

    def _loss(
        self, model: nn.Module, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        scores = model(inputs)
        return self.objective(scores, labels), {"accuracy": scores.argmax(axis=1) == labels}

    def advice(self) -> str:
        """Return what to try if the run diverges, in terms of the command's options."""
        lr = self.recipe.lr
        return f"most likely the learning rate of {lr:g} is too high: try --lr {lr / 10:g}"

    def validation_scores(self) -> NDArray[np.float32]:
        """Return the scores of the validation faces, (n, 3); each rank computes a part of them."""
        parts: list[NDArray[np.float32]] = []
        group, count = self.group, len(self.validation_crops)
        mine = part_of(count, group.rank, group.size)
        with self.averaged():
            for start in range(mine.start, mine.stop, _SCORED_AT_ONCE):
                self.stop_if_asked()
                crops = self.validation_crops[start : min(start + _SCORED_AT_ONCE, mine.stop)]
                parts.append(self.classifier.scores(crops, self.device))
        return np.concatenate([scores for of_rank in group.all_gather(parts) for scores in of_rank])

    def validate(self) -> tuple[Metrics, NDArray[np.float32]]:
        """Return the metrics of the validation faces and their probabilities, (n, 3)."""
        probabilities = self.classifier.to_probabilities(self.validation_scores())
        return compute_metrics(self.validation_labels, probabilities), probabilities


def recipe_trainer(task: Task, classifier: Classifier) -> ClassifierTrainer:
    """Return what trains a classifier as the task's recipe says."""
    recipe, model = task.recipe, classifier.model.to(task.device)
    optimizer = make_optimizer(recipe, model)
    schedule = None
    if recipe.one_cycle:
        schedule = OneCycleLR(optimizer, recipe.lr, task.steps, cycle_momentum=False)
    return ClassifierTrainer(
        task,
        classifier,
        optimizer,
        recipe_objective(task, model),
        schedule=schedule,
    )


def recipe_objective(task: Task, model: nn.Module) -> Objective:
    """Return the objective of the task's recipe: the slides', or cross-entropy."""
    recipe, device = task.recipe, task.device
    if recipe.squared:
        classes = Tensor(np.arange(len(LABELS)), device=device)

        def squared(scores: Tensor, labels: Tensor) -> Tensor:
            one_hot = (labels.reshape(-1, 1) == classes).astype(np.float32)
            return slides_objective(model, scores, one_hot, recipe.weight_decay)

        return squared
    weights = class_weights(task.labels, recipe.class_balance)
    weight = None if weights is None else Tensor(weights, device=device)

    def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            scores, labels, weight=weight, label_smoothing=recipe.label_smoothing
        )

    return cross_entropy


class _Judge(Callback):
    """Judges the classifier on the validation faces after each epoch."""

    def __init__(self, trainer: ClassifierTrainer) -> None:
        self.trainer = trainer

    def measure(self, _: Trainer) -> Mapping[str, float]:
        """Return the loss and the metrics of the validation faces."""
        trainer = self.trainer
        scores = trainer.validation_scores()
        if not np.isfinite(scores).all():  # due to the last step, which no loss has shown yet
            raise trainer.diverged("the scores are not finite after the last step")
        metrics = compute_metrics(trainer.validation_labels, scores)
        labels = Tensor(trainer.validation_labels, device=trainer.device)
        loss = trainer.objective(Tensor(scores, device=trainer.device), labels).item()
        return {
            "val_loss": float(loss),
            "val_accuracy": metrics.accuracy,
            "val_balanced_accuracy": metrics.balanced_accuracy,
            "val_macro_f1": metrics.macro_f1,
            "val_improper_recall": metrics.per_class["improper"].recall,
        }


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Say an epoch of the history in one line, as Keras does."""
    return (
        f"Epoch {row['epoch']:.0f}/{epochs} - {row['seconds']:.1f}s"
        f" - loss: {row['loss']:.4f} - accuracy: {row['accuracy']:.4f}"
        f" - val_loss: {row['val_loss']:.4f} - val_accuracy: {row['val_accuracy']:.4f}"
        f" - val_balanced_accuracy: {row['val_balanced_accuracy']:.4f}"
        f" - val_improper_recall: {row['val_improper_recall']:.4f}"
        f" - time spent loading data: {row['waited'] / row['seconds']:.1%}"
    )
