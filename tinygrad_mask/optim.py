"""Optimisers, learning-rate schedules and gradient clipping."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.tensor import Tensor

# --- optimisers -------------------------------------------------------------------------------


class Optimizer(ABC):
    """Base of the optimisers: `step()` moves the parameters against their gradients, in place.

    A parameter without a gradient stays as it is. `lr`, the learning rate, may be changed between
    steps; schedules do.
    """

    _slots: tuple[str, ...] = ()
    """The names of the arrays kept for each parameter."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{type(self).__name__}: expected at least one parameter, got none")
        if len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            raise ValueError(f"{type(self).__name__}: expected each parameter once, got one twice")
        if not (lr >= 0 and weight_decay >= 0):  # NaN is refused too
            raise ValueError(
                f"{type(self).__name__}: expected lr and weight_decay >= 0, "
                f"got {lr} and {weight_decay}"
            )
        self.lr = lr
        self.weight_decay = weight_decay
        self.step_counts = [0] * len(self.parameters)
        self._state: dict[str, list[Array]] = {
            slot: [p.backend.xp.zeros_like(p.data) for p in self.parameters] for slot in self._slots
        }

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Make one step with the gradients that are there."""
        moved = [k for k, p in enumerate(self.parameters) if p.grad is not None]
        for k in moved:
            self.step_counts[k] += 1
            self.parameters[k].version.count += 1
        if moved:
            arrays = [self.parameters[k].data for k in moved]
            gradients = [self.parameters[k].grad.data for k in moved]
            state = {slot: [self._state[slot][k] for k in moved] for slot in self._slots}
            self._update(arrays, gradients, state, [self.step_counts[k] for k in moved])

    @abstractmethod
    def _update(
        self,
        parameters: list[Array],
        gradients: list[Array],
        state: dict[str, list[Array]],
        steps: list[int],
    ) -> None: ...

    def state_dict(self) -> dict[str, Array]:
        """Return each parameter's steps, the rate, and copies of what is kept a parameter."""
        state: dict[str, Array] = {
            "step_counts": np.array(self.step_counts),
            "lr": np.array(self.lr),
        }
        for slot, arrays in self._state.items():
            for k, array in enumerate(arrays):
                state[f"{slot}.{k}"] = self.parameters[k].backend.to_host(array).copy()
        return state

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`; raises `ValueError` where names or shapes do not fit."""
        own = self.state_dict()
        if set(own) != set(state) or any(own[k].shape != np.shape(state[k]) for k in own):
            raise ValueError(
                f"{type(self).__name__}: the state is not of this optimiser and these parameters"
            )
        self.step_counts = [int(count) for count in state["step_counts"]]
        self.lr = float(state["lr"])
        for slot, arrays in self._state.items():
            for k, array in enumerate(arrays):
                array[...] = self.parameters[k].backend.asarray(np.asarray(state[f"{slot}.{k}"]))


class SGD(Optimizer):
    """Stochastic gradient descent: `w <- w - lr * g`, with g the gradient plus weight decay.

    With momentum m a velocity `v <- m v + g` takes the place of g; with Nesterov's it is `g + m v`
    (Sutskever et al. 2013, in the form that PyTorch uses).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if not 0 <= momentum < 1 or (nesterov and not momentum):
            raise ValueError(
                f"SGD: expected 0 <= momentum < 1, and > 0 with Nesterov's, got {momentum}"
            )
        self._slots = ("velocity",) if momentum else ()
        self.momentum, self.nesterov = momentum, nesterov
        super().__init__(parameters, lr, weight_decay)

    def _update(
        self,
        parameters: list[Array],
        gradients: list[Array],
        state: dict[str, list[Array]],
        steps: list[int],
    ) -> None:
        self.parameters[0].backend.sgd_update(
            parameters,
            gradients,
            state.get("velocity"),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1); weight decay is added to the gradient."""

    _slots = ("first_moment", "second_moment")
    _decoupled = False

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{type(self).__name__}: expected 0 <= beta < 1, got {betas}")
        self.betas, self.eps = betas, eps
        super().__init__(parameters, lr, weight_decay)

    def _update(
        self,
        parameters: list[Array],
        gradients: list[Array],
        state: dict[str, list[Array]],
        steps: list[int],
    ) -> None:
        self.parameters[0].backend.adam_update(
            parameters,
            gradients,
            state["first_moment"],
            state["second_moment"],
            steps=steps,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decoupled=self._decoupled,
        )


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    _decoupled = True

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay)


# --- schedules --------------------------------------------------------------------------------


class Schedule(ABC):
    """Base of the schedules: `step()` after each step of the optimiser sets its next rate."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.step_count = 0
        optimizer.lr = self.lr_at(0)

    @abstractmethod
    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""

    def step(self) -> None:
        """Go on to the next step."""
        self.skip_to(self.step_count + 1)

    def skip_to(self, step: int) -> None:
        """Go to a step, as when a run is resumed."""
        self.step_count = step
        self.optimizer.lr = self.lr_at(step)


class StepLR(Schedule):
    """The optimiser's rate, times `gamma` after every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: expected step_size >= 1, got {step_size}")
        self.base_lr, self.step_size, self.gamma = optimizer.lr, step_size, gamma
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        """Return `base_lr * gamma ** (step // step_size)`."""
        return self.base_lr * self.gamma ** (step // self.step_size)


class CosineLR(Schedule):
    """Half a cosine from the optimiser's rate to `final_lr` (Loshchilov and Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, total_steps: int, final_lr: float = 0.0) -> None:
        _check_total(self, total_steps)
        self.base_lr, self.total_steps, self.final_lr = optimizer.lr, total_steps, final_lr
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        """Return the rate; from `total_steps` on it is `final_lr`."""
        return _cosine(self.base_lr, self.final_lr, step / self.total_steps)


class OneCycleLR(Schedule):
    """Half a cosine up to `max_lr` in `pct_start` of the steps, then one down (Smith 2019).

    It starts at `max_lr / div_factor`, and ends that divided by `final_div_factor`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        *,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        _check_total(self, total_steps)
        if not 0 < pct_start < 1:
            raise ValueError(f"OneCycleLR: expected 0 < pct_start < 1, got {pct_start}")
        self.max_lr, self.total_steps = max_lr, total_steps
        self.initial_lr = max_lr / div_factor
        self.final_lr = self.initial_lr / final_div_factor
        self.peak = pct_start * total_steps - 1
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        """Return the rate; the last of the `total_steps` steps has the final one."""
        if step <= self.peak:
            return _cosine(self.initial_lr, self.max_lr, step / self.peak if self.peak > 0 else 1)
        return _cosine(
            self.max_lr, self.final_lr, (step - self.peak) / (self.total_steps - 1 - self.peak)
        )


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1))) / 2


def _check_total(schedule: Schedule, total_steps: int) -> None:
    if total_steps < 1:
        name = type(schedule).__name__
        raise ValueError(f"{name}: expected total_steps >= 1, got {total_steps}")


# --- clipping ---------------------------------------------------------------------------------


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients so that their joint Euclidean norm is at most `max_norm`.

    Returns the norm before (Pascanu et al. 2013, algorithm 1). Parameters without a gradient do
    not count.
    """
    gradients: list[Any] = [p.grad for p in parameters if p.grad is not None]
    # Added up where they are: one number is waited for, not one a gradient.
    norm = math.sqrt(float(sum((g.data.astype(np.float64) ** 2).sum() for g in gradients)))
    if norm > max_norm:
        for gradient in gradients:
            gradient.data *= max_norm / norm
    return norm


def clip_grad_value(parameters: Iterable[Tensor], max_value: float) -> None:
    """Limit every element of every gradient to [-max_value, max_value]."""
    for parameter in parameters:
        if parameter.grad is not None:
            xp = parameter.backend.xp
            clipped = xp.clip(parameter.grad.data, -max_value, max_value)
            parameter.grad.data = xp.asarray(clipped)  # of shape () it is a scalar
