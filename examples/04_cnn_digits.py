"""A convolutional network that reads handwritten digits, with all of its training loop in sight.

    python examples/04_cnn_digits.py

Compared with 03_mlp_digits.py: convolutions see that neighbouring pixels belong together, a
`DataLoader` makes the batches, batch normalisation and dropout behave differently in training and
in evaluation, a schedule changes the learning rate, and the trained weights are saved and loaded.

`tinygrad_mask.training.Trainer` is this loop with what a long run needs besides: checkpoints,
resuming to the bit, Ctrl-C, averaged weights. train_mask_cnn.py uses it. The next step is
05_custom_function.py.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import tinygrad_mask as tg
from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask import functions as F
from tinygrad_mask.data import ArrayDataset, DataLoader

try:
    from sklearn.datasets import load_digits
except ImportError:
    sys.exit("04_cnn_digits.py needs scikit-learn for its data: pip install scikit-learn")

EPOCHS = 10

digits = load_digits()
# Pictures are (N, height, width, channels): NHWC, the layout of Keras and of most image files.
images = (digits.images[..., None] / 16).astype(np.float32)  # (1797, 8, 8, 1)
labels = digits.target
train = DataLoader(ArrayDataset(images[:1400], labels[:1400]), batch_size=50, shuffle=True, seed=0)
test = DataLoader(ArrayDataset(images[1400:], labels[1400:]), batch_size=200)


def network() -> nn.Sequential:
    """Return a new network; the shapes describe a batch of N pictures."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding="same", bias=False),  # (N, 8, 8, 16)
        nn.BatchNorm(16),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 4, 4, 16)
        nn.Conv2d(16, 32, 3, padding="same", bias=False),  # (N, 4, 4, 32)
        nn.BatchNorm(32),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 2, 2, 32)
        nn.Flatten(),  # (N, 128)
        nn.Dropout(0.2),
        nn.Linear(128, 10),  # (N, 10)
    )


def evaluate(model: nn.Module) -> float:
    """Return the share of the test pictures that the model reads correctly."""
    model.eval()  # no dropout; batch normalisation uses the statistics it has learnt
    right = 0
    with tg.no_grad():
        for pictures, truth in test:
            right += (model(Tensor(pictures)).numpy().argmax(axis=1) == truth).sum()
    return right / len(test.dataset)


tg.manual_seed(0)  # initial weights and dropout
model = network()
optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
schedule = optim.CosineLR(optimizer, total_steps=EPOCHS * len(train))

for epoch in range(1, EPOCHS + 1):
    model.train()
    total = 0.0
    for pictures, truth in train:
        scores = model(Tensor(pictures))
        loss = F.cross_entropy(scores, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(truth)
    print(
        f"epoch {epoch:2}: loss {total / len(train.dataset):.4f}, "
        f"{evaluate(model):.1%} of unseen digits right, next learning rate {optimizer.lr:.5f}"
    )

# The state of a model is a dictionary of arrays; a safetensors file holds nothing but arrays.
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.safetensors"
    tg.save(model.state_dict(), path)
    arrays = tg.load(path)
    print(f"\nsaved {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} kB")
    loaded = network()
    loaded.load_state_dict(arrays)
    print(f"loaded into a new network: {evaluate(loaded):.1%} right")
