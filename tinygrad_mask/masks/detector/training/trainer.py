"""Train a detector as a recipe says."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.detector.network.architecture import FaceDetector
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
