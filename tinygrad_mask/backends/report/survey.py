"""Which instances of the kernels there are: those that the launch code asks for.

Templates have no end of instances; what counts are those that some problem is computed with. So the
launch code is run over problems of all kinds, with a launcher that only notes what it is asked
for. A kernel that no problem here leads to is missing from the report; a test sees to that.
"""

import functools
import itertools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.interface import Resize, Window
from tinygrad_mask.backends.report.launchers import Instance, RecordingLauncher
from tinygrad_mask.backends.report.network import Operation

_TYPES = (np.float32, np.float64)


def survey(arch: str, *, double: bool = True) -> list[Instance]:
    """Return the instances of kernels that some problem is computed with, sorted.

    `arch` is the architecture that the launch code is told, "sm_90". Without `double` those for
    float64 are left out.
    """
    key = operator.attrgetter("file", "kernel", "threads", "shared_bytes")
    return sorted((i for i in _survey(arch) if double or not i.is_double), key=key)


@functools.cache
def _survey(arch: str) -> frozenset[Instance]:
    launcher = RecordingLauncher(arch)
    backend = GpuBackend("emulator", launcher)
    for dtype in _TYPES:
        for problems in (_convolutions, _products, _pooling, _images, _activations, _others):
            for _ in problems(backend, dtype):
                pass
    return frozenset(launcher.instances)


def launched(operation: Operation, arch: str) -> set[Instance]:
    """Return the instances that an operation launches."""
    launcher = RecordingLauncher(arch)
    operation.call(GpuBackend("emulator", launcher), operation.zeros())
    return launcher.instances


def _empty(dtype: Any, *shape: int) -> Any:
    return np.empty(shape, dtype)


def _convolutions(backend: GpuBackend, dtype: Any) -> Iterator[None]:
    """Of few pixels and of many, of one channel and of many, with and without groups."""
    odd, even = (1, 2, 3, 5), (4, 8, 32, 64, 128, 320)
    images, strides = ((1, 8), (8, 32), (32, 64)), (1, 2)
    shapes = itertools.chain(
        itertools.product(odd + even, even, (1,), images, strides),
        itertools.product(odd + even, odd, (1,), images[:2], (1,)),
        itertools.product((4, 12, 32), (4, 12, 32), (2, 4, 12, 32), images[:2], strides),
    )
    for c, o, groups, (n, side), stride in shapes:
        if c % groups or o % groups:
            continue
        window = Window((3, 3), (stride, stride), ((1, 1), (1, 1)))
        p, q = window.output_size(side, side)
        x, y = _empty(dtype, n, side, side, c), _empty(dtype, n, p, q, o)
        weight, bias = _empty(dtype, 3, 3, c // groups, o), _empty(dtype, o)
        backend.conv2d(x, weight, bias, window, groups, "relu")
        for gate in (("none", None), ("relu", y)):
            backend.conv2d_grad_input(y, weight, x.shape, window, groups, *gate)
            backend.conv2d_grad_weight(y, x, weight.shape, window, groups, *gate)
        yield


def _products(backend: GpuBackend, dtype: Any) -> Iterator[None]:
    rows, sizes = (3, 4, 256, 8192, 131072), (1, 3, 4, 17, 32, 64, 320, 4096)
    for m, k, n in itertools.product(rows, sizes, sizes):
        if max(m * k, m * n) > 2**26:
            continue
        x, y, z = _empty(dtype, m, k), _empty(dtype, k, n), _empty(dtype, m, n)
        backend.matmul(x, y)
        backend.matmul(_empty(dtype, k, m).T, y)
        backend.matmul(x, _empty(dtype, n, k).T)
        backend.linear(x, y, _empty(dtype, n), "relu")
        backend.linear_grad(z, x, y, "none", None, (True, True, True))
        backend.linear_grad(z, x, y, "relu", z, (True, True, True))
        yield


def _pooling(backend: GpuBackend, dtype: Any) -> Iterator[None]:
    for channels, size in itertools.product((1, 2, 3, 4, 32), (2, 3, 17)):
        window = Window((size, size), (2, 2), ((1, 1), (1, 1)))
        x = _empty(dtype, 2, 32, 32, channels)
        y, taps = backend.max_pool2d(x, window)
        backend.max_pool2d_grad(y, taps, x.shape, window)
        backend.avg_pool2d(x, window, True)
        backend.avg_pool2d_grad(y, x.shape, window, True)
        yield


def _images(backend: GpuBackend, dtype: Any) -> Iterator[None]:
    """Group normalisation and resizing."""
    for channels, groups in ((12, 3), (32, 1)):
        x, kept = _empty(dtype, 2, 300, channels), _empty(dtype, channels)
        statistics = _empty(dtype, 2, groups)
        for weight in (kept, None):
            backend.group_norm(x, weight, weight, groups, 1e-5)
            backend.group_norm_grad(x, x, weight, statistics, statistics)
        yield
    for channels, linear in itertools.product((1, 2, 3, 4, 32), (False, True)):
        resize = Resize((9, 4), (5 / 9, 7 / 4), linear)
        x, y = _empty(dtype, 2, 5, 7, channels), _empty(dtype, 2, 9, 4, channels)
        backend.interpolate(x, resize)
        backend.interpolate_grad(y, x.shape, resize)
        yield


def _activations(backend: GpuBackend, dtype: Any) -> Iterator[None]:
    x = _empty(dtype, 1000)
    for name in ("sigmoid", "tanh", "relu", "silu"):
        getattr(backend, name)(x)
        getattr(backend, f"{name}_grad")(x, x)
        yield
    backend.leaky_relu(x, 0.1)
    backend.leaky_relu_grad(x, x, 0.1)
    yield


def _others(backend: GpuBackend, dtype: Any) -> Iterator[None]:
    """Normalisation, resizing, loss, scattering and updates."""
    for rows, channels in itertools.product((8, 100_000), (1, 2, 3, 4, 32)):
        x, kept = _empty(dtype, rows, channels), _empty(dtype, channels)
        backend.batch_norm_statistics(x)
        backend.batch_norm(x, kept, kept, kept, kept)
        backend.batch_norm_grad(x, x, kept, kept, kept, True)
        images = _empty(dtype, 2, rows, channels)
        _, mean, inverse_std = backend.group_norm(images, kept, kept, 1, 1e-5)
        backend.group_norm_grad(images, images, kept, mean, inverse_std)
        yield
    for channels, linear in itertools.product((1, 2, 3, 4, 32), (False, True)):
        resize = Resize((8, 8), (0.5, 0.5), linear)
        x = _empty(dtype, 1, 4, 4, channels)
        backend.interpolate_grad(backend.interpolate(x, resize), x.shape, resize)
        yield
    for classes in (3, 1000):
        target = np.zeros(8, np.int64)
        backend.cross_entropy(_empty(dtype, 8, classes), target, None, 0.0)
        backend.cross_entropy(_empty(dtype, 8, classes), target, _empty(dtype, classes), 0.1)
        yield
    backend.scatter_add(_empty(dtype, 4), (8,), np.arange(4))
    p, g, first, second = ([_empty(dtype, 8)] for _ in range(4))
    for velocities in (None, first):
        backend.sgd_update(p, g, velocities, lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0)
    for decoupled in (False, True):
        backend.adam_update(
            p,
            g,
            first,
            second,
            steps=[1],
            lr=1.0,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=0.0,
            decoupled=decoupled,
        )
    yield
