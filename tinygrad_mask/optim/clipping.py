"""Gradient clipping, between `backward()` and an optimiser's `step()`."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_mask.optim.arguments import as_number, as_tensors
from tinygrad_mask.tensor import Tensor


def clip_grad_norm(parameters: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients so that their joint Euclidean norm is at most `max_norm`.

    `parameters` are tensors or a single one. Returns the norm before (Pascanu et al. 2013,
    algorithm 1). Parameters without a gradient do not count.
    """
    limit = _as_limit("clip_grad_norm", "max_norm", max_norm)
    gradients: list[Any] = [
        p.grad for p in _listed("clip_grad_norm", parameters) if p.grad is not None
    ]
    # Added up where they are: one number is waited for, not one per gradient.
    norm = math.sqrt(float(sum((g.data.astype(np.float64) ** 2).sum() for g in gradients)))
    if norm > limit:
        for gradient in gradients:
            gradient.data *= limit / norm
    return norm


def clip_grad_value(parameters: Tensor | Iterable[Tensor], max_value: float) -> None:
    """Limit every element of every gradient to [-max_value, max_value].

    `parameters` are tensors or a single one.
    """
    limit = _as_limit("clip_grad_value", "max_value", max_value)
    for parameter in _listed("clip_grad_value", parameters):
        if parameter.grad is not None:
            xp = parameter.backend.xp
            clipped = xp.clip(parameter.grad.data, -limit, limit)
            parameter.grad.data = xp.asarray(clipped)  # of shape () it is a scalar


def _listed(name: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else as_tensors(name, parameters)


def _as_limit(name: str, what: str, value: Any) -> float:
    limit = as_number(name, what, value)
    if not limit >= 0:  # NaN, which would clip nothing, is refused too
        raise ValueError(f"{name}: expected {what} >= 0, got {limit}")
    return limit
