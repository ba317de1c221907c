"""Train a convolutional network to tell how a face mask is worn.

    python examples/train_mask_cnn.py                       # drawn faces, nothing to download
    python examples/train_mask_cnn.py --data PATH           # photographs; see the README

In tinygrad_mask/masks/classifier, network/architecture.py has the network, training/trainer.py the
loop, and runs/pipeline.py leads from photographs to the report.
"""

import sys

from tinygrad_mask.cli import train_example

if __name__ == "__main__":
    sys.exit(train_example(sys.argv[1:], __doc__, model="cnn"))
