"""Train a convolutional network to tell how a face mask is worn.

    python examples/train_mask_cnn.py                       # drawn faces, nothing to download
    python examples/train_mask_cnn.py --data PATH           # photographs; see the README

Network, loss, optimiser and training loop are in this file. The package does the rest: it reads
the photographs, cuts out the faces (masks/faces.py), splits them by photograph (masks/splits.py),
varies them at random (masks/classifier/training/augmentation.py), and writes the model and the
report (masks/classifier/runs/pipeline.py).

`tinygrad-mask predict` builds a saved network again by its name, "cnn": to use a network of other
layers with it, change masks/classifier/network/architecture.py as well.
"""

import sys

import numpy as np

from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask import functions as F
from tinygrad_mask.cli import train_example
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.runs.config import Design
from tinygrad_mask.masks.classifier.training.trainer import ClassifierTrainer, Task
from tinygrad_mask.masks.labels import class_weights


def network(size: int, rng: np.random.Generator) -> nn.Sequential:
    """Map crops (N, size, size, 3) to scores (N, 3): properly worn, improperly worn, no mask.

    Three times convolution, relu and pooling, which halves height and width; then two dense layers.
    """
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding="same", rng=rng),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding="same", rng=rng),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding="same", rng=rng),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear((size // 8) ** 2 * 128, 128, rng=rng),
        nn.ReLU(),
        nn.Dropout(0.2, rng=rng),
        nn.Linear(128, 3, init=nn.init.glorot_uniform, rng=rng),
    )


def make_trainer(task: Task, classifier: Classifier) -> ClassifierTrainer:
    """Return what trains the network: the loss, the optimiser and how its rate changes.

    `task.recipe` has the options --epochs, --batch-size, --lr and --weight-decay. The trainer is a
    `tinygrad_mask.training.Trainer` whose loop is, in essence,

        for epoch in range(recipe.epochs):
            for faces, labels in batches:
                value = loss(model(faces), labels)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
            # ... and judge the model on faces that it has not seen.
    """
    model, recipe = classifier.model.to(task.device), task.recipe

    # Improperly worn masks are rare in photographs, so each of them counts for more.
    balance = class_weights(task.labels, recipe.class_balance)
    weight = None if balance is None else Tensor(balance, device=task.device)

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            scores, labels, weight=weight, label_smoothing=recipe.label_smoothing
        )

    optimizer = optim.SGD(
        model.parameters(),
        recipe.lr,
        momentum=0.9,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    # From a small rate up to recipe.lr and down again to almost nothing (Smith 2019).
    schedule = optim.OneCycleLR(optimizer, recipe.lr, task.steps, cycle_momentum=False)
    return ClassifierTrainer(task, classifier, optimizer, loss, schedule=schedule)


if __name__ == "__main__":
    sys.exit(train_example(sys.argv[1:], __doc__, Design("cnn", network, make_trainer)))
