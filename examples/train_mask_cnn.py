"""Train a convolutional network to tell how a face mask is worn.

    python examples/train_mask_cnn.py                       # drawn faces, nothing to download
    python examples/train_mask_cnn.py --data PATH           # photographs; see the README

The network is in tinygrad_mask/masks/classifier/models.py, the loop that trains it in training.py
beside it, and what leads from photographs to the report in pipeline.py.
"""

import sys

from tinygrad_mask.cli import train_example

if __name__ == "__main__":
    sys.exit(train_example(sys.argv[1:], __doc__, model="cnn"))
