"""`python -m tinygrad_mask` is the command `tinygrad-mask`."""

import sys

from tinygrad_mask.cli import main

sys.exit(main())
