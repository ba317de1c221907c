"""Initial weights: arrays drawn so that the signal keeps its size from layer to layer.

Shapes are (..., inputs, outputs), as weights of linear layers and convolutions (HWIO) are; fan-in
is the number of inputs of one output (times the window), fan-out that of outputs of one input.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from tinygrad_mask.backends import Array

Initialiser: TypeAlias = Callable[[tuple[int, ...], np.random.Generator], Array]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return fan-in and fan-out of a weight of shape (..., inputs, outputs)."""
    if len(shape) < 2:
        raise ValueError(f"fans: expected a shape of at least two axes, got {shape}")
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), float32: for sigmoid and tanh (Glorot 2010)."""
    limit = math.sqrt(6 / max(sum(fans(shape)), 1))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def glorot_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Normal of variance 2 / (fan_in + fan_out), float32: for sigmoid and tanh (Glorot 2010)."""
    return _normal(shape, rng, 2 / max(sum(fans(shape)), 1))


def he_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Uniform in +-sqrt(6 / fan_in), float32: for relu (He et al. 2015)."""
    limit = math.sqrt(6 / max(fans(shape)[0], 1))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Normal of variance 2 / fan_in, float32: for relu (He et al. 2015)."""
    return _normal(shape, rng, 2 / max(fans(shape)[0], 1))


def _normal(shape: tuple[int, ...], rng: np.random.Generator, variance: float) -> Array:
    return (rng.standard_normal(shape) * math.sqrt(variance)).astype(np.float32)
