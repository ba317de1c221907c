"""A network of layers that reads handwritten digits.

    python examples/03_mlp_digits.py

The digits are scikit-learn's: 1,797 pictures of 8 x 8 pixels. Instead of matrices and formulas, as
in 02_perceptron_by_hand.py, this program uses layers, a loss and an optimiser. The next step is
04_cnn_digits.py.
"""

import sys

import numpy as np

import tinygrad_mask as tg
from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask import functions as F

try:
    from sklearn.datasets import load_digits
except ImportError:
    sys.exit("03_mlp_digits.py needs scikit-learn for its data: pip install scikit-learn")

digits = load_digits()
x = (digits.images.reshape(-1, 64) / 16).astype(np.float32)  # (1797, 64), from 0 to 1
y = digits.target  # (1797,), the digit
x_train, y_train, x_test, y_test = x[:1400], y[:1400], x[1400:], y[1400:]

print("A picture of the data, and its label:")
for row in digits.images[1]:
    print("   ", "".join(" .:-=+*#%@"[min(int(value / 1.7), 9)] * 2 for value in row))
print(f"    {y[1]}\n")

# A layer keeps its weights and is called like a function. 64 pixels become 64 hidden numbers and
# then 10 scores; the answer is the digit with the highest score.
tg.manual_seed(0)  # the initial weights
model = nn.Sequential(
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
)
print(model, end="\n\n")

optimizer = optim.Adam(model.parameters(), lr=0.005)
rng = np.random.default_rng(0)
for epoch in range(1, 16):
    losses = []
    for batch in np.array_split(rng.permutation(len(x_train)), 22):
        scores = model(Tensor(x_train[batch]))  # (64, 10)
        loss = F.cross_entropy(scores, y_train[batch])
        optimizer.zero_grad()  # forget the gradients of the last step
        loss.backward()  # compute the gradients of this batch
        optimizer.step()  # move every weight a little against its gradient
        losses.append(loss.item())
    if epoch in (1, 5, 10, 15):
        with tg.no_grad():  # nothing to record: only answers are wanted
            answers = model(Tensor(x_test)).numpy().argmax(axis=1)
        accuracy = (answers == y_test).mean()
        print(f"epoch {epoch:2}: loss {np.mean(losses):.4f}, {accuracy:.1%} of unseen digits right")

wrong = np.flatnonzero(answers != y_test)
print(f"\n{len(wrong)} of {len(y_test)} wrong. The first of them:")
for k in wrong[:3]:
    probabilities = F.softmax(model(Tensor(x_test[k : k + 1])), axis=1).numpy()[0]
    print(f"    a {y_test[k]} taken for a {answers[k]}, {probabilities[answers[k]]:.0%} sure")
