"""Training: a loop that can be interrupted, resumed to the bit, averaged, captured and extended.

Example:
    >>> from tinygrad_mask import functions as F, nn, optim
    >>> from tinygrad_mask.data import ArrayDataset, DataLoader
    >>> from tinygrad_mask.training import Checkpoint, ProgressLine, Trainer
    >>>
    >>> model = nn.Sequential(nn.Linear(64, 32, rng=rng), nn.ReLU(), nn.Linear(32, 10, rng=rng))
    >>> def loss(model, images, labels):
    ...     scores = model(images)
    ...     return F.cross_entropy(scores, labels), {"accuracy": scores.argmax(axis=1) == labels}
    >>> trainer = Trainer(
    ...     model,
    ...     optim.AdamW(model.parameters(), 1e-3),
    ...     loss,
    ...     DataLoader(ArrayDataset(images, labels), batch_size=64, shuffle=True),
    ...     epochs=20,
    ...     callbacks=[ProgressLine(), Checkpoint("digits.safetensors")],
    ... )
    >>> history = trainer.run()

After Ctrl-C or a crash, build the same trainer again, call `trainer.load("digits.safetensors")` and
`trainer.run()`: the weights will be those of a run without interruption, bit by bit.
"""

from tinygrad_mask.training.averaging import WeightAverage
from tinygrad_mask.training.callbacks import (
    Callback,
    Checkpoint,
    ClipGradNorm,
    EpochSchedule,
    ProgressLine,
    Validation,
    epoch_line,
)
from tinygrad_mask.training.interrupts import stopping
from tinygrad_mask.training.trainer import (
    Batches,
    InterruptedRunError,
    Progress,
    Trainer,
    TrainingDivergedError,
)

__all__ = [
    "Batches",
    "Callback",
    "Checkpoint",
    "ClipGradNorm",
    "EpochSchedule",
    "InterruptedRunError",
    "Progress",
    "ProgressLine",
    "Trainer",
    "TrainingDivergedError",
    "Validation",
    "WeightAverage",
    "epoch_line",
    "stopping",
]
