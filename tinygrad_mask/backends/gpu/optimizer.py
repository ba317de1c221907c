"""Launches of `optimizer.cu`: the updates of all parameters, one launch a dtype."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_mask.backends.interface import Array
from tinygrad_mask.backends.launcher import VECTOR_BYTES, Launcher, c_type, ceil_div

_FILE = "optimizer.cu"
_THREADS = 256
_PACKS_A_THREAD = 4

Group = list[tuple[Array, ...]]
"""Parameters of one dtype, each with its gradient and what else is kept for it."""


def sgd_update(
    launcher: Launcher,
    parameters: Sequence[Array],
    gradients: Sequence[Array],
    velocities: Sequence[Array] | None,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """One step of stochastic gradient descent, in place on parameters and velocities."""
    companions = [gradients] if velocities is None else [gradients, velocities]
    for positions in _groups(parameters):
        arrays = [(parameters[k], *(c[k] for c in companions)) for k in positions]
        number = parameters[positions[0]].dtype.type
        settings = [number(lr), number(momentum), np.bool_(nesterov), number(weight_decay)]
        _launch(launcher, "sgd_update", arrays, [(0.0, 0.0)] * len(arrays), settings)


def adam_update(
    launcher: Launcher,
    parameters: Sequence[Array],
    gradients: Sequence[Array],
    first_moments: Sequence[Array],
    second_moments: Sequence[Array],
    *,
    steps: Sequence[int],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """One step of Adam (or AdamW, where `decoupled`), in place."""
    beta1, beta2 = betas
    companions = gradients, first_moments, second_moments
    for positions in _groups(parameters):
        arrays = [(parameters[k], *(c[k] for c in companions)) for k in positions]
        rates = [(lr / (1 - beta1 ** steps[k]), 1 / (1 - beta2 ** steps[k])) for k in positions]
        keep, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
        numbers = [beta1, beta2, 1 - beta1, 1 - beta2, eps, keep, decay]
        settings = list(map(parameters[positions[0]].dtype.type, numbers))
        _launch(launcher, "adam_update", arrays, rates, settings)


def _groups(parameters: Sequence[Array]) -> list[list[int]]:
    """The positions of the parameters that are not empty, those of one dtype together."""
    groups: dict[Any, list[int]] = {}
    for k, parameter in enumerate(parameters):
        if parameter.size:
            groups.setdefault(parameter.dtype, []).append(k)
    return list(groups.values())


def _launch(
    launcher: Launcher,
    kernel: str,
    group: Group,
    rates: list[tuple[float, float]],
    settings: list[Any],
) -> None:
    """Launch an update of a group.

    Its table, which has the fields of `Entry`, all of them 8 bytes, is copied to the device only
    when something in it has changed: memory pools give gradients the same addresses each step.
    """
    first = group[0][0]
    kind = c_type(first)
    stretch = _THREADS * _PACKS_A_THREAD * (VECTOR_BYTES // first.dtype.itemsize)
    rows, block = [], 0
    for arrays, rate in zip(group, rates, strict=True):
        shape, size = arrays[0].shape, arrays[0].size
        for array in arrays:
            if array.shape != shape:
                raise ValueError(
                    f"{kernel}: expected shape {shape}, that of the parameter, got {array.shape}"
                )
        c_type(first, *arrays)
        rows.append((tuple(map(launcher.address, arrays)), size, block, rate))
        block += ceil_div(size, stretch)

    def table() -> Array:
        entries = np.zeros((len(group), 8), np.int64)
        for entry, (addresses, size, first_block, rate) in zip(entries, rows, strict=True):
            entry[: len(addresses)] = addresses
            entry[4:6] = size, first_block
            entry[6:].view(np.float64)[:] = rate
        return entries

    launcher.launch(
        _FILE,
        f"{kernel}<{kind}>",
        (block, 1, 1),
        (_THREADS, 1, 1),
        [launcher.constant((kernel, *rows), table), np.int32(len(group)), *settings],
        reachable=[array for arrays in group for array in arrays],
    )
