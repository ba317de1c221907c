"""Train a detector as a recipe says, and judge it after each epoch."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.detector.evaluation.average_precision import ANY_FACE, MEAN
from tinygrad_mask.masks.detector.evaluation.judging import judge_detector
from tinygrad_mask.masks.detector.network.architecture import FaceDetector
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.training.batches import DetectorBatches, Views
from tinygrad_mask.masks.detector.training.loss import detector_loss
from tinygrad_mask.masks.detector.training.recipe import DetectorRecipe
from tinygrad_mask.masks.detector.training.targets import HeatMapTargets
from tinygrad_mask.masks.labels import LABELS, class_weights
from tinygrad_mask.training import Callback, ClipGradNorm, Trainer, WeightAverage


class DetectorTrainer(Trainer):
    """Trains a detector's network on photographs with boxes.

    `model` is on the device on which it is trained. All random numbers come from `seed`, the epoch
    and the step. Besides the loss, its parts are reported: heat, box and label.
    """

    def __init__(
        self,
        model: FaceDetector,
        photographs: Sequence[Photograph],
        recipe: DetectorRecipe,
        *,
        seed: int,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.recipe = recipe
        views = Views(photographs)
        weights = class_weights(views.labels(), recipe.class_balance)
        self.label_weights = np.ones(len(LABELS), np.float32) if weights is None else weights
        optimizer = optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
        schedule = optim.OneCycleLR(
            optimizer, recipe.lr, recipe.steps, pct_start=recipe.warm_up, cycle_momentum=False
        )
        added: list[Callback] = [ClipGradNorm(recipe.clip)]
        if recipe.weight_average:
            added.append(WeightAverage(model, recipe.weight_average))
        batches = DetectorBatches(
            views,
            recipe.batch_size,
            recipe.augmentation,
            steps=recipe.steps_per_epoch,
            min_face=recipe.min_face,
            seed=seed,
        )
        super().__init__(
            model,
            optimizer,
            self._loss,
            batches,
            epochs=recipe.epochs,
            schedule=schedule,
            callbacks=[*added, *callbacks],
        )

    def _loss(
        self, model: nn.Module, images: Tensor, *targets: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        wanted = HeatMapTargets(*(target.numpy() for target in targets))
        parts = detector_loss(model(images), wanted, self.label_weights)
        total = parts.total(box=self.recipe.box_weight, label=self.recipe.label_weight)
        return total, vars(parts)

    def advice(self) -> str:
        """Return what to try if the run diverges, in terms of the command's options."""
        lr = self.recipe.lr
        return f"most likely the learning rate of {lr:g} is too high: try --lr {lr / 10:g}"


class JudgeDetector(Callback):
    """Measures the average precision on some photographs after each epoch.

    `detector` has the network that is trained; its averaged weights are judged, if there are such.
    """

    def __init__(self, detector: Detector, photographs: Sequence[Photograph]) -> None:
        self.detector = detector
        self.photographs = photographs

    def measure(self, trainer: Trainer) -> Mapping[str, float]:
        """Return the average precision of any face, the mean over the labels, and each label's."""
        with trainer.averaged():
            if not all(np.isfinite(p.numpy()).all() for p in self.detector.model.parameters()):
                # Due to the last step, which no loss has shown yet.
                raise trainer.diverged("the weights are not finite after the last step")
            estimates = judge_detector(
                self.detector, self.photographs, resamples=0, before_each=trainer.stop_if_asked
            ).estimates
        return {
            "val_any_face": estimates[ANY_FACE].value,
            "val_mean": estimates[MEAN].value,
            **{f"val_{label}": estimates[label].value for label in LABELS},
        }


def detector_epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Return an epoch of the history as one line, as Keras prints it."""
    parts = " - ".join(f"{name}: {row[name]:.4f}" for name in ("loss", "heat", "box", "label"))
    return (
        f"Epoch {row['epoch']:.0f}/{epochs} - {row['seconds']:.1f}s - {parts}"
        f" - val_any_face: {row['val_any_face']:.4f} - val_mean: {row['val_mean']:.4f}"
        f" - time spent loading data: {row['waited'] / row['seconds']:.1%}"
    )
