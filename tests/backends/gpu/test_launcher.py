"""What no kernel can be launched with is refused before it starts."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_mask.backends import Window
from tinygrad_mask.backends.gpu import activation, normalisation, optimizer, pooling
from tinygrad_mask.backends.launcher import (
    Launcher,
    c_type,
    ceil_div,
    int32,
    kernel_folder,
    kernel_headers,
    kernel_source,
)

PAIR = np.dtype([("a", np.int32), ("b", np.int64)], align=True)


class Recorder(Launcher):
    """Notes launches, and starts none."""

    xp = np
    capability = (9, 0)

    def __init__(self):
        super().__init__()
        self.launches = []

    def asarray(self, host):
        return host

    def address(self, array):
        return array.__array_interface__["data"][0]

    def start(self, file, kernel, grid, block, arguments, shared_bytes, reachable):
        self.launches.append((file, kernel, grid, block, arguments))


def launch(*arguments, grid=(1, 1, 1), block=(32, 1, 1), **options):
    recorder = Recorder()
    recorder.launch("some.cu", "kernel<float>", grid, block, arguments, **options)
    return recorder.launches


def test_what_kernels_take_is_handed_on():
    arguments = [
        np.zeros((2, 3), np.float32),
        np.zeros((), np.float32),
        np.zeros((0, 3)),
        None,
        np.int32(1),
        np.bool_(True),
        np.array((1, 2), PAIR),
        np.array((1, 2), PAIR)[()],
    ]
    [(file, kernel, grid, block, handed_on)] = launch(*arguments, reachable=[np.zeros(3)])
    assert (file, kernel, grid, block) == ("some.cu", "kernel<float>", (1, 1, 1), (32, 1, 1))
    assert all(a is b for a, b in zip(arguments, handed_on, strict=True))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"grid": (0, 1, 1)}, "expected 1 to .* blocks"),
        ({"grid": (2**31, 1, 1)}, "expected 1 to .* blocks"),
        ({"grid": (1, 2**16, 1)}, "expected 1 to .* blocks"),
        ({"grid": (1, 1, 2**16)}, "expected 1 to .* blocks"),
        ({"grid": (1, 1)}, "expected 1 to .* blocks"),
        ({"block": (1, 0, 1)}, "expected 1 to .* threads"),
        ({"block": (1, 1, 65)}, "expected 1 to .* threads"),
        ({"block": (64, 32, 1)}, "at most 1024 threads a block"),
        ({"shared_bytes": -1}, "bytes of shared memory"),
        ({"shared_bytes": 2**18}, "bytes of shared memory"),
    ],
)
def test_sizes_that_no_gpu_has_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        launch(**sizes)


@pytest.mark.parametrize("argument", [1, 1.0, True, "x", [1.0], object()])
def test_arguments_without_a_width_are_refused(argument):
    with pytest.raises(TypeError, match="argument 1: expected an array"):
        launch(None, argument)


def test_arrays_that_do_not_lie_as_a_kernel_reads_them_are_refused():
    strided = np.zeros((4, 4))[:, ::2]
    within_an_element = np.zeros(17, np.uint8)[1:].view(np.float64)
    with pytest.raises(ValueError, match="argument 0: expected an array in C order"):
        launch(strided)
    with pytest.raises(ValueError, match="reachable array 0: expected an array in C order"):
        launch(reachable=[strided])
    with pytest.raises(ValueError, match="no multiple of 8"):
        launch(within_an_element)


def test_the_type_of_the_elements():
    single, double = np.zeros(2, np.float32), np.zeros(2)
    assert c_type(single, None, single) == "float"
    assert c_type(double) == "double"
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        c_type(np.zeros(2, np.int64))
    with pytest.raises(TypeError, match="one dtype, got float32 and float64"):
        c_type(single, double)


def test_numbers_of_32_bits():
    assert int32(2**31 - 1).dtype == np.int32
    for value in (2**31, -(2**31) - 1):
        with pytest.raises(ValueError, match="32 bits"):
            int32(value)


@pytest.mark.parametrize(("a", "b", "expected"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2)])
def test_division_rounded_up(a, b, expected):
    assert ceil_div(a, b) == expected


def test_whether_arrays_begin_at_whole_packs():
    memory = np.zeros(64, np.uint8)
    begin = -memory.__array_interface__["data"][0] % 16
    recorder = Recorder()
    assert recorder.aligned(memory[begin:], None)
    assert not recorder.aligned(memory[begin:], memory[begin + 4 :])
    assert recorder.aligned(memory[begin + 4 :], to=4)


def test_the_sources_are_there_and_include_nothing_else():
    names = {path.name for path in kernel_folder().iterdir()}
    for name in names:
        includes = re.findall(r'#include\s+["<](.*)[">]', kernel_source(name))
        assert set(includes) <= set(kernel_headers())


# --- arrays that are larger than a number of 32 bits can say --------------------------------------


def huge(*shape, dtype=np.float32):
    """An array that takes no memory, whatever its shape."""
    return np.broadcast_to(np.zeros((), dtype), shape)


class HugeArrays(Recorder):
    """Takes such arrays, and makes them."""

    xp = SimpleNamespace(ndarray=np.ndarray, empty=lambda shape, dtype: huge(*shape, dtype=dtype))

    def address(self, array):
        return 0

    def _refusal(self, array):
        assert isinstance(array, np.ndarray)


def test_elementwise_kernels_count_in_64_bits():
    launcher = HugeArrays()
    activation.activation(launcher, "relu", huge(2**33))
    [(_, _, grid, _, arguments)] = launcher.launches
    assert grid == (2**33 // 1024, 1, 1)
    assert (arguments[2], arguments[2].dtype) == (2**33, np.int64)


def test_optimisers_count_in_64_bits():
    launcher = HugeArrays()
    arrays = [huge(2**32), huge(3)]
    rates = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    optimizer.sgd_update(launcher, arrays, arrays, None, **rates)
    [(_, _, grid, _, arguments)] = launcher.launches
    assert grid == (2**20 + 1, 1, 1)
    assert arguments[0][:, 4:6].tolist() == [[2**32, 0], [3, 2**20]]


def test_batch_norm_counts_in_64_bits():
    launcher = HugeArrays()
    normalisation.batch_norm(launcher, huge(2**33, 4), *(huge(4) for _ in range(4)))
    [(_, _, grid, block, arguments)] = launcher.launches
    assert arguments[0] == 2**33
    assert grid[0] * block[1] * 8 == 2**33


def test_pooling_counts_elements_in_64_bits_and_refuses_more_pixels_than_it_can_number():
    launcher, window = HugeArrays(), Window((2, 2), (2, 2))
    pooling.avg_pool2d(launcher, huge(2**14, 2**8, 2**8, 8), window, True)
    [(_, _, grid, block, _)] = launcher.launches
    assert (grid[0] * block[1], block[0] * 4) == (2**28, 8)
    with pytest.raises(ValueError, match=r"fewer than 2\^31 pixels"):
        pooling.avg_pool2d(launcher, huge(2**15, 2**8, 2**8, 1), window, True)
