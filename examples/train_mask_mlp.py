"""Train a perceptron to tell how a face mask is worn, as the slides of a course project define it.

    z = W1 x,   h = sigmoid(z),   y_hat = W2 h
    J = 1/N sum_i 1/2 ||y_hat_i - y_i||^2 + lambda/2 (||W1||_F^2 + ||W2||_F^2)

x are the pixels of a face, y its class as a one-hot vector, and lambda is --weight-decay. The
weights take mini-batch gradient descent steps W <- W - eta dJ/dW, where eta is --lr.

    python examples/train_mask_mlp.py                       # drawn faces, nothing to download
    python examples/train_mask_mlp.py --data PATH           # photographs; see the README

It takes the options of train_mask_cnn.py, which says what the package does besides. The gradients
that the engine computes here are derived by hand in 02_perceptron_by_hand.py.
"""

import sys

import numpy as np

from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask import functions as F
from tinygrad_mask.cli import train_example
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.runs.config import Design
from tinygrad_mask.masks.classifier.training.trainer import ClassifierTrainer, Task

HIDDEN = 256
CLASSES = 3  # properly worn, improperly worn, no mask


def network(size: int, rng: np.random.Generator) -> nn.Sequential:
    """Map crops (N, size, size, 3) to y_hat, (N, 3), without biases."""
    glorot = nn.init.glorot_uniform  # keeps the variance of a sigmoid's inputs and gradients
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(size * size * 3, HIDDEN, bias=False, init=glorot, rng=rng),
        nn.Sigmoid(),
        nn.Linear(HIDDEN, CLASSES, bias=False, init=glorot, rng=rng),
    )


def make_trainer(task: Task, classifier: Classifier) -> ClassifierTrainer:
    """Return what trains the network: the slides' objective and plain gradient descent.

    `task.recipe` has the options --epochs, --batch-size, --lr and --weight-decay. The trainer is a
    `tinygrad_mask.training.Trainer` whose loop is, in essence,

        for epoch in range(recipe.epochs):
            for faces, labels in batches:      # each epoch in another order
                J = objective(model(faces), labels)
                optimizer.zero_grad()
                J.backward()
                optimizer.step()
            # ... and judge the model on faces that it has not seen.
    """
    model, recipe = classifier.model.to(task.device), task.recipe
    classes = Tensor(np.arange(CLASSES), device=task.device)

    def objective(y_hat: Tensor, labels: Tensor) -> Tensor:
        y = (labels.reshape(-1, 1) == classes).astype(np.float32)  # one-hot, (N, 3)
        total = F.squared_error(y_hat, y)  # 1/N sum_i 1/2 ||y_hat_i - y_i||^2
        for weight in model.parameters():
            total = total + (recipe.weight_decay / 2) * (weight * weight).sum()
        return total

    optimizer = optim.SGD(model.parameters(), recipe.lr)
    return ClassifierTrainer(task, classifier, optimizer, objective)


if __name__ == "__main__":
    sys.exit(train_example(sys.argv[1:], __doc__, Design("mlp", network, make_trainer)))
