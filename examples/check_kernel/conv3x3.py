"""What to launch of conv3x3.cu, for `tinygrad-mask kernels check`."""

from collections.abc import Iterator

import numpy as np

from tinygrad_mask.emulator.check import Launch


def launches(rng: np.random.Generator) -> Iterator[Launch]:
    """Yield launches whose images and channels fill the tiles, and some that leave a rest."""
    for n, height, width, channels, outputs in ((1, 8, 16, 8, 16), (2, 9, 11, 6, 20)):
        x = rng.standard_normal((n, height, width, channels), dtype=np.float32)
        weight = rng.standard_normal((3, 3, channels, outputs), dtype=np.float32)
        y = np.empty((n, height, width, outputs), np.float32)
        yield Launch(
            "conv3x3",
            grid=(-(-height // 8) * -(-width // 8), -(-outputs // 16), n),
            block=128,
            arguments=[x, weight, y, *np.array([height, width, channels, outputs], np.int32)],
            expected={"y": convolution(x, weight)},
            atol=1e-4,
        )


def convolution(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the same in float64, tap by tap."""
    _, height, width, _ = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + height, j : j + width] @ weight[i, j] for i in range(3) for j in range(3)
    )
