"""What to launch of row_sums.cu, for `tinygrad-mask kernels check`."""

from collections.abc import Iterator

import numpy as np

from tinygrad_mask.emulator.check import Launch


def launches(rng: np.random.Generator) -> Iterator[Launch]:
    """Yield launches on matrices narrower, as wide and wider than a block has threads."""
    for rows, columns in ((3, 5), (2, 128), (4, 1000)):
        matrix = rng.standard_normal((rows, columns), dtype=np.float32)
        sums = np.empty(rows, np.float32)
        yield Launch(
            "row_sums",
            grid=rows,
            block=128,
            arguments=[matrix, sums, np.int32(columns)],
            expected={"sums": matrix.sum(axis=1, dtype=np.float64)},
        )
