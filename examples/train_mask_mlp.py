"""Train the perceptron of the slides, `y_hat = W2 sigmoid(W1 x)`, with the objective of the slides.

    J = 1/N sum_i 1/2 ||y_hat_i - y_i||^2 + lambda/2 (||W1||_F^2 + ||W2||_F^2)

lambda is --weight-decay. The options are those of train_mask_cnn.py; the objective is in
tinygrad_mask/masks/classifier/training/recipes.py.
"""

import sys

from tinygrad_mask.cli import train_example

if __name__ == "__main__":
    sys.exit(train_example(sys.argv[1:], __doc__, model="mlp"))
