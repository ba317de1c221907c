"""Training: a loop that can be interrupted, resumed to the bit, averaged, captured and extended.

Example:
    >>> import numpy as np
    >>> from tinygrad_mask import functions as F, manual_seed, nn, optim
    >>> from tinygrad_mask.data import ArrayDataset, DataLoader
    >>> from tinygrad_mask.training import Checkpoint, Trainer, Validation
    >>> rng, _ = np.random.default_rng(0), manual_seed(0)
    >>> x = rng.standard_normal((200, 2)).astype(np.float32)
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)  # are both of one sign?
    >>> model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    >>> def loss(model, inputs, labels):
    ...     scores = model(inputs)
    ...     return F.cross_entropy(scores, labels), {"accuracy": scores.argmax(axis=1) == labels}
    >>> trainer = Trainer(
    ...     model,
    ...     optim.Adam(model.parameters(), lr=0.02),
    ...     loss,
    ...     DataLoader(ArrayDataset(x[:150], y[:150]), batch_size=30, shuffle=True),
    ...     epochs=30,
    ...     callbacks=[
    ...         Validation(DataLoader(ArrayDataset(x[150:], y[150:]), batch_size=50)),
    ...         Checkpoint("signs.safetensors"),
    ...     ],
    ... )
    >>> history = trainer.run()
    >>> list(history[-1])
    ['epoch', 'lr', 'loss', 'accuracy', 'val_loss', 'val_accuracy', 'seconds', 'waited']
    >>> history[-1]["val_accuracy"] > 0.9
    True

`ProgressLine()` among the callbacks shows a progress bar and prints a line for each epoch. After
Ctrl-C or a crash, build the same trainer again, call `trainer.load("signs.safetensors")` and
`trainer.run()`: the weights will be those of a run without interruption, bit by bit. See `Callback`
for how to add to a run what is not here.
"""

from typing import TYPE_CHECKING

from tinygrad_mask.equivalents import TRAINING, no_attribute
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

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name):
        raise no_attribute(__name__, name, TRAINING.get(name))


def __dir__() -> list[str]:
    return sorted(__all__)
