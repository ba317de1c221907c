"""Schedules whose rate is a formula of the step: steps, powers, cosines, any function."""

import bisect
import math
from collections.abc import Callable, Sequence

from tinygrad_mask.optim.arguments import as_count, as_number
from tinygrad_mask.optim.optimizer import Optimizer
from tinygrad_mask.optim.schedule import Schedule


class StepLR(Schedule):
    """The optimiser's rate, times `gamma` after every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = as_count("StepLR", "step_size", step_size)
        self.gamma = _as_factor("StepLR", "gamma", gamma)
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return `base_lr * gamma ** (step // step_size)`."""
        return self.base_lrs[group] * self.gamma ** (step // self.step_size)


class MultiStepLR(Schedule):
    """The optimiser's rate, times `gamma` at each of the steps `milestones`."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(as_count("MultiStepLR", "milestones", m, 0) for m in milestones)
        self.gamma = _as_factor("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return `base_lr` times `gamma` for each milestone up to this step."""
        return self.base_lrs[group] * self.gamma ** bisect.bisect_right(self.milestones, step)


class ExponentialLR(Schedule):
    """The optimiser's rate, times `gamma` after each step."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = _as_factor("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return `base_lr * gamma ** step`."""
        return self.base_lrs[group] * self.gamma**step


class LambdaLR(Schedule):
    """The optimiser's rate times a function of the step, or one function per parameter group.

    The functions are not part of the state.

    Example:
        >>> optim.LambdaLR(optimizer, lambda epoch: 0.95**epoch)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, Sequence) else None
        if self.lr_lambdas is not None and len(self.lr_lambdas) != len(optimizer.param_groups):
            raise ValueError(
                f"LambdaLR: expected a function or one per parameter group, "
                f"got {len(self.lr_lambdas)} for {len(optimizer.param_groups)} groups"
            )
        self._lr_lambda = lr_lambda
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return `base_lr * lr_lambda(step)`."""
        function = self._lr_lambda if self.lr_lambdas is None else self.lr_lambdas[group]
        if not callable(function):
            raise TypeError(f"LambdaLR: expected lr_lambda to be a function, got {function!r:.80}")
        return self.base_lrs[group] * function(step)


class LinearLR(Schedule):
    """A linear change of the rate, for a warm-up: from `start_factor` times the optimiser's rate
    to `end_factor` times it, over `total_steps` steps. `total_iters` is PyTorch's name of
    `total_steps`.

    Example:
        >>> warm_up = optim.LinearLR(optimizer, start_factor=0.01, total_steps=500)
        >>> decay = optim.CosineLR(optimizer, total_steps=9500)
        >>> schedule = optim.SequentialLR(optimizer, [warm_up, decay], milestones=[500])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_steps: int | None = None,
        *,
        total_iters: int | None = None,
    ) -> None:
        if total_iters is not None:
            if total_steps is not None:
                raise TypeError("LinearLR: expected total_steps or total_iters, got both; omit one")
            total_steps = total_iters
        if total_steps is None:
            total_steps = 5
        self.total_steps = as_count("LinearLR", "total_steps", total_steps)
        self.start_factor = _as_factor("LinearLR", "start_factor", start_factor)
        self.end_factor = _as_factor("LinearLR", "end_factor", end_factor)
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate; from `total_steps` on it stays."""
        progress = min(step / self.total_steps, 1.0)
        factor = self.start_factor + (self.end_factor - self.start_factor) * progress
        return self.base_lrs[group] * factor


class CosineLR(Schedule):
    """Half a cosine from the optimiser's rate to `final_lr` (Loshchilov and Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, total_steps: int, final_lr: float = 0.0) -> None:
        self.total_steps = as_count("CosineLR", "total_steps", total_steps)
        self.final_lr = _as_factor("CosineLR", "final_lr", final_lr)
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate; from `total_steps` on it is `final_lr`."""
        return cosine(self.base_lrs[group], self.final_lr, step / self.total_steps)


def cosine(start: float, end: float, progress: float) -> float:
    """Return the value after a part of half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1))) / 2


def _as_factor(name: str, what: str, value: float) -> float:
    factor = as_number(name, what, value)
    if not factor >= 0:
        raise ValueError(f"{name}: expected {what} >= 0, got {factor}")
    return factor
