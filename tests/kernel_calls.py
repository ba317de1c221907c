"""A small call of every kernel of the interface, for tests that go through all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_mask.backends import Backend, Resize, Window

# Overlaps along one axis, leaves rows out along the other, and jumps over pixels along both.
WINDOW = Window((3, 2), (3, 1), ((1, 0), (0, 1)), (2, 2))


def call(backend: Backend, method: str, dtype: Any) -> list[np.ndarray]:
    """Call a kernel with arguments that are the same each time; return all that it computed."""
    arguments, options = CALLS[method](np.random.default_rng(0), dtype)
    written = method.endswith("_update")
    arguments = [_put(backend, argument, written) for argument in arguments]
    with backend.computing():
        results = getattr(backend, method)(*arguments, **options)
    if written:
        results = [array for arrays in arguments if arrays is not None for array in arrays]
    results = results if isinstance(results, tuple | list) else (results,)
    return [backend.to_host(result) for result in results]


def _put(backend: Backend, value: Any, copied: bool) -> Any:
    if isinstance(value, list):
        return [_put(backend, v, copied) for v in value]
    if isinstance(value, np.ndarray):
        return backend.asarray(value.copy() if copied else value)
    return value


CALLS: dict[str, Callable[[np.random.Generator, Any], tuple[list[Any], dict[str, Any]]]] = {}


def _register(*methods: str) -> Callable[[Any], Any]:
    """Register `build(normal, rng, method)`, which gives the arguments and keyword arguments."""

    def register(build: Any) -> Any:
        for method in methods:

            def arguments(rng: np.random.Generator, dtype: Any, method: str = method) -> Any:
                def normal(*shape: int) -> np.ndarray:
                    return rng.standard_normal(shape).astype(dtype)

                built = build(normal, rng, method)
                return built if isinstance(built, tuple) else (built, {})

            CALLS[method] = arguments
        return build

    return register


@_register("matmul")
def _matmul(normal, rng, method):
    return [normal(2, 9, 17), normal(2, 17, 8)]


@_register("linear")
def _linear(normal, rng, method):
    return [normal(9, 17), normal(17, 8), normal(8), "sigmoid"]


@_register("linear_grad")
def _linear_grad(normal, rng, method):
    y = np.tanh(normal(9, 8))
    return [normal(9, 8), normal(9, 17), normal(17, 8), "tanh", y, (True, True, True)]


@_register("conv2d")
def _conv2d(normal, rng, method):
    window = Window((3, 3), (1, 2), ((1, 1), (1, 1)))
    return [normal(2, 6, 7, 4), normal(3, 3, 4, 8), normal(8), window, 1, "relu"]


@_register("conv2d_grad_input")
def _conv2d_grad_input(normal, rng, method):
    window = Window((3, 3), (1, 2), ((1, 1), (1, 1)))
    y = np.maximum(normal(2, 6, 4, 8), 0)
    return [normal(2, 6, 4, 8), normal(3, 3, 4, 8), (2, 6, 7, 4), window, 1, "relu", y]


@_register("conv2d_grad_weight")
def _conv2d_grad_weight(normal, rng, method):
    window = Window((3, 3), (1, 2), ((1, 1), (1, 1)))
    y = np.maximum(normal(2, 6, 4, 8), 0)
    return [normal(2, 6, 4, 8), normal(2, 6, 7, 4), (3, 3, 4, 8), window, 1, "relu", y]


@_register("max_pool2d")
def _max_pool2d(normal, rng, method):
    return [normal(2, 9, 6, 8), WINDOW]


@_register("max_pool2d_grad")
def _max_pool2d_grad(normal, rng, method):
    taps = rng.integers(0, 6, (2, 2, 5, 8)).astype(np.uint8)
    return [normal(2, 2, 5, 8), taps, (2, 9, 6, 8), WINDOW]


@_register("avg_pool2d")
def _avg_pool2d(normal, rng, method):
    return [normal(2, 9, 6, 3), WINDOW, False]


@_register("avg_pool2d_grad")
def _avg_pool2d_grad(normal, rng, method):
    return [normal(2, 2, 5, 8), (2, 9, 6, 8), WINDOW, True]


@_register("sigmoid", "tanh", "relu", "silu")
def _activation(normal, rng, method):
    return [normal(3, 701)]


@_register("sigmoid_grad", "tanh_grad", "relu_grad", "silu_grad")
def _activation_grad(normal, rng, method):
    return [normal(3, 701), normal(3, 701)]


@_register("leaky_relu")
def _leaky_relu(normal, rng, method):
    return [normal(3, 701), 0.1]


@_register("leaky_relu_grad")
def _leaky_relu_grad(normal, rng, method):
    return [normal(3, 701), normal(3, 701), 0.1]


@_register("batch_norm_statistics")
def _batch_norm_statistics(normal, rng, method):
    return [normal(2, 300, 12)]


@_register("batch_norm")
def _batch_norm(normal, rng, method):
    return [normal(5, 7, 12), *(normal(12) for _ in range(4))]


@_register("batch_norm_grad")
def _batch_norm_grad(normal, rng, method):
    return [normal(600, 12), normal(600, 12), *(normal(12) for _ in range(3)), True]


@_register("group_norm")
def _group_norm(normal, rng, method):
    return [normal(2, 300, 12), normal(12), normal(12), 3, 1e-5]


@_register("group_norm_grad")
def _group_norm_grad(normal, rng, method):
    arrays = [normal(2, 300, 12), normal(2, 300, 12), normal(12)]
    return [*arrays, normal(2, 3), np.abs(normal(2, 3))]


@_register("interpolate")
def _interpolate(normal, rng, method):
    return [normal(2, 5, 7, 8), Resize((9, 4), (5 / 9, 7 / 4), True)]


@_register("interpolate_grad")
def _interpolate_grad(normal, rng, method):
    resize = Resize((9, 4), (5 / 9, 7 / 4), True)
    return [normal(2, 9, 4, 8), (2, 5, 7, 8), resize]


@_register("cross_entropy")
def _cross_entropy(normal, rng, method):
    return [normal(19, 40), rng.integers(0, 40, 19), np.abs(normal(40)) + 1, 0.1]


@_register("scatter_add")
def _scatter_add(normal, rng, method):
    return [normal(600, 3), (5, 3), rng.integers(0, 5, 600)]


@_register("sgd_update")
def _sgd_update(normal, rng, method):
    shapes = [(3, 5), (9000,), (1,)]
    lists = [[normal(*shape) for shape in shapes] for _ in range(3)]
    return lists, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


@_register("adam_update")
def _adam_update(normal, rng, method):
    shapes = [(3, 5), (9000,), (1,)]
    lists = [[abs(normal(*shape)) for shape in shapes] for _ in range(4)]
    options = {"steps": [1, 2, 3], "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}
    return lists, {**options, "weight_decay": 0.01, "decoupled": False}
