"""The entries of the compiled kernels, each with a call of it that works."""

import numpy as np
import pytest

from tinygrad_mask.backends.cpu import CpuBackend
from tinygrad_mask.backends.cpu_kernels import available_instruction_sets

KERNELS = {name: CpuBackend(name).kernels for name in available_instruction_sets()}

needs_kernels = pytest.mark.skipif(not KERNELS, reason="no kernels were compiled here")
each_set = pytest.mark.parametrize("kernels", KERNELS.values(), ids=KERNELS.keys())

REFUSALS = (ValueError, TypeError, MemoryError, OverflowError)

PAIR, PADDING = (1, 1), ((1, 1), (1, 1))
OUTPUTS = ("c", "y", "taps", "gradient", "mean", "variance", "grad_weight", "grad_bias")


def array(*shape):
    return np.full(shape, 0.5, np.float32)


def calls():
    """For each entry the arguments of a call that works, by name and in their order.

    Made anew each time, since the kernels write into them.
    """
    n, h, w, c, o = 2, 5, 6, 4, 8
    window = {"size": (3, 3), "stride": PAIR, "padding": PADDING, "dilation": PAIR}
    convolution = {
        "stride": PAIR,
        "padding": PADDING,
        "dilation": PAIR,
        "groups": 2,
        "activation": "tanh",
    }
    x, weight, y, z = (n, h, w, c), (3, 3, c // 2, o), (n, h, w, o), (n, h, w, c)
    taps = np.zeros(z, np.uint8)
    row = (c,)
    return {
        "matmul": {
            "a": array(3, 4),
            "b": array(4, 5),
            "b_transposed": False,
            "bias": array(5),
            "activation": "relu",
            "c": array(3, 5),
        },
        "matmul_transposed": {"a": array(4, 3), "b": array(4, 5), "c": array(3, 5)},
        "conv2d": {
            "x": array(*x),
            "weight": array(*weight),
            "bias": array(o),
            "y": array(*y),
            **convolution,
        },
        "conv2d_grad_input": {
            "grad_output": array(*y),
            "y": array(*y),
            "weight": array(*weight),
            "grad_input": array(*x),
            **convolution,
        },
        "conv2d_grad_weight": {
            "grad_output": array(*y),
            "y": array(*y),
            "x": array(*x),
            "grad_weight": array(*weight),
            "grad_bias": array(o),
            **convolution,
        },
        "max_pool2d": {"x": array(*x), "y": array(*z), "taps": taps, **window},
        "max_pool2d_grad": {
            "grad_output": array(*z),
            "taps": taps,
            "grad_input": array(*x),
            **window,
        },
        "avg_pool2d": {"x": array(*x), "y": array(*z), **window, "count_padding": True},
        "avg_pool2d_grad": {
            "grad_output": array(*z),
            "grad_input": array(*x),
            **window,
            "count_padding": True,
        },
        "activation": {"name": "silu", "x": array(3, 5), "y": array(3, 5), "slope": 0.1},
        "activation_grad": {
            "name": "silu",
            "grad_output": array(3, 5),
            "kept": array(3, 5),
            "grad_input": array(3, 5),
            "slope": 0.1,
        },
        "batch_norm": {
            "x": array(5, 4),
            "weight": array(*row),
            "bias": array(*row),
            "mean": array(*row),
            "inverse_std": array(*row),
            "y": array(5, 4),
        },
        "sum_axis": {"x": array(2, 5, 4), "y": array(2, 4)},
        "batch_norm_statistics": {"x": array(5, 4), "mean": array(*row), "variance": array(*row)},
        "batch_norm_grad": {
            "grad_output": array(5, 4),
            "x": array(5, 4),
            "weight": array(*row),
            "mean": array(*row),
            "inverse_std": array(*row),
            "training": True,
            "grad_input": array(5, 4),
            "grad_weight": array(*row),
            "grad_bias": array(*row),
        },
        "group_norm": {
            "x": array(2, 5, 4),
            "weight": array(*row),
            "bias": array(*row),
            "eps": 1e-5,
            "y": array(2, 5, 4),
            "mean": array(2, 2),
            "inverse_std": array(2, 2),
        },
        "group_norm_grad": {
            "grad_output": array(2, 5, 4),
            "x": array(2, 5, 4),
            "weight": array(*row),
            "mean": array(2, 2),
            "inverse_std": array(2, 2),
            "grad_input": array(2, 5, 4),
            "grad_weight": array(*row),
            "grad_bias": array(*row),
        },
        "interpolate": {
            "x": array(*x),
            "y": array(n, 7, 3, c),
            "steps": (5 / 7, 2.0),
            "linear": True,
            "align_corners": False,
        },
        "interpolate_grad": {
            "grad_output": array(n, 7, 3, c),
            "grad_input": array(*x),
            "steps": (5 / 7, 2.0),
            "linear": True,
            "align_corners": False,
        },
        "cross_entropy": {
            "logits": array(3, 4),
            "target": np.array([0, 3, 1]),
            "weight": array(4),
            "label_smoothing": 0.1,
            "gradient": array(3, 4),
        },
        "sgd_update": {
            "parameter": [array(3, 4), array(0)],
            "gradient": [array(3, 4), array(0)],
            "velocity": [array(3, 4), array(0)],
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
        },
        "adam_update": {
            "parameter": [array(3, 4), array(0)],
            "gradient": [array(3, 4), array(0)],
            "first_moment": [array(3, 4), array(0)],
            "second_moment": [array(3, 4), array(0)],
            "steps": [1, 2],
            "lr": 0.1,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
            "weight_decay": 0.1,
            "decoupled": True,
        },
    }


MACHINE = {
    "Program",  # a class; tests/test_compiler.py tries what it refuses
    "set_num_threads",
    "set_winograd",
    "runnable",
    "vector_bytes",
    "memory_use",
    "set_allocator",
}


def first_array(value):
    return value[0] if isinstance(value, list) else value


def is_output(entry, name):
    """Whether an entry writes into the argument of this name."""
    if entry in ("sgd_update", "adam_update"):
        return name in ("parameter", "velocity", "first_moment", "second_moment")
    written = {
        "conv2d_grad_input": ("grad_input",),
        "conv2d_grad_weight": ("grad_weight", "grad_bias"),
        "max_pool2d_grad": ("grad_input",),
        "batch_norm": ("y",),
        "batch_norm_grad": ("grad_input", "grad_weight", "grad_bias"),
        "group_norm": ("y", "mean", "inverse_std"),
        "group_norm_grad": ("grad_input", "grad_weight", "grad_bias"),
        "interpolate_grad": ("grad_input",),
        "activation_grad": ("grad_input",),
        "avg_pool2d_grad": ("grad_input",),
    }
    return name in written.get(entry, OUTPUTS)


def array_arguments():
    """Each entry with each of its arguments that is an array, or a list of them."""
    return [
        (entry, name)
        for entry, arguments in calls().items()
        for name, value in arguments.items()
        if isinstance(first_array(value), np.ndarray)
    ]


def replaced(value, change):
    """The argument with its (first) array changed."""
    return [change(value[0]), *value[1:]] if isinstance(value, list) else change(value)


ENTRIES_WITH = {
    name: [entry for entry, arguments in calls().items() if name in arguments]
    for name in ("stride", "dilation", "padding", "size", "groups", "activation", "name")
}


def entries_with(name):
    return pytest.mark.parametrize("entry", ENTRIES_WITH[name])
