"""The emulator's launcher, noting which kernels it was asked for; and what results are held to."""

import numpy as np

from tinygrad_mask.backends.emulator import EmulatorLauncher

ORDERS = [("forward", 0), ("reverse", 0), ("random", 1)]


class Recording(EmulatorLauncher):
    def __init__(self, mode="check", arch="sm_90", order="forward", seed=0):
        super().__init__(mode, arch, order, seed)
        self.kernels = []

    def start(self, file, kernel, *arguments):
        self.kernels.append(kernel)
        super().start(file, kernel, *arguments)


def wide(array):
    return None if array is None else array.astype(np.float64)


def close(result, expected, terms):
    """Compare what is a sum of so many products of numbers around 1 with the same in float64."""
    assert result.shape == expected.shape
    tolerance = 8 * np.finfo(result.dtype).eps * (terms + 2)
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def same_bits(results, others):
    for a, b in zip(results, others, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.tobytes() == b.tobytes()
