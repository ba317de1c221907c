"""A schedule that reacts to a measured value: lower the rate when it stops improving."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.optim.arguments import as_count, as_number
from tinygrad_mask.optim.optimizer import Optimizer
from tinygrad_mask.optim.schedule import Schedule


class ReduceLROnPlateau(Schedule):
    """Multiplies the rate by `factor` when a value has not improved for `patience` steps.

    A step is usually an epoch: `schedule.step(validation_loss)`.

    Args:
        optimizer: the optimiser.
        mode: `min` for a value that should fall, as a loss does, `max` for one that should rise.
        factor: below 1.
        patience: how many steps without improvement are tolerated.
        threshold: how much counts as an improvement; see `threshold_mode`.
        threshold_mode: `rel` for a part of the best value so far, `abs` for a difference.
        cooldown: for how many steps after a reduction none is counted.
        min_lr: the rate is not reduced below.
        eps: a reduction by less is left out.

    Example:
        >>> schedule = optim.ReduceLROnPlateau(optimizer, "max", patience=3)
        >>> schedule.step(accuracy)
    """

    has_formula: ClassVar[bool] = False

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        if mode not in ("min", "max"):
            raise ValueError(f"{name}: expected mode 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"{name}: expected threshold_mode 'rel' or 'abs', got {threshold_mode!r}"
            )
        self.mode, self.threshold_mode = mode, threshold_mode
        self.factor = as_number(name, "factor", factor)
        if not 0 <= self.factor < 1:
            raise ValueError(f"{name}: expected 0 <= factor < 1, got {factor}")
        self.patience = as_count(name, "patience", patience, 0)
        self.cooldown = as_count(name, "cooldown", cooldown, 0)
        self.threshold = as_number(name, "threshold", threshold)
        self.min_lr, self.eps = as_number(name, "min_lr", min_lr), as_number(name, "eps", eps)
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps = 0
        self.cooling = 0
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate of the current step; no other is known."""
        if step != self.step_count:
            raise RuntimeError(
                f"ReduceLROnPlateau: expected the current step {self.step_count}, got {step}; the "
                "rates of others depend on the values measured"
            )
        return self.optimizer.param_groups[group]["lr"]

    def skip_to(self, step: int) -> None:
        """Raise `RuntimeError`: where the schedule stands is in its state."""
        raise RuntimeError(
            "ReduceLROnPlateau: expected load_state_dict() to resume; the rate at a step depends "
            "on the values measured before"
        )

    def step(self, value: Any = None) -> None:
        """Take note of the value measured after a step, and reduce the rate if it is time."""
        if value is None:
            raise TypeError(
                "ReduceLROnPlateau: expected the measured value, got nothing; "
                "call step(validation_loss)"
            )
        number = float(value)
        self._check_groups()
        self.step_count += 1
        if self._improved(number):
            self.best, self.bad_steps = number, 0
        else:
            self.bad_steps += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad_steps = 0
        if self.bad_steps > self.patience:
            self._reduce()
            self.cooling, self.bad_steps = self.cooldown, 0

    def _improved(self, value: float) -> bool:
        # A part of the best value as it is, not of its size: PyTorch's rule, for negative ones too.
        if self.mode == "min":
            part, difference = self.best * (1 - self.threshold), self.best - self.threshold
            return value < (part if self.threshold_mode == "rel" else difference)
        part, difference = self.best * (1 + self.threshold), self.best + self.threshold
        return value > (part if self.threshold_mode == "rel" else difference)

    def _reduce(self) -> None:
        for group in self.optimizer.param_groups:
            lower = max(group["lr"] * self.factor, self.min_lr)
            if group["lr"] - lower > self.eps:
                group["lr"] = lower

    def state_dict(self) -> dict[str, Array]:
        """Return the current rates, the best value so far, and what is counted."""
        numbers = {"best": self.best, "bad_steps": self.bad_steps, "cooling": self.cooling}
        state = {name: np.array(number) for name, number in numbers.items()}
        return super().state_dict() | state | {"lrs": np.array(self.get_last_lr())}

    def _load(self, state: Mapping[str, Array]) -> None:
        self.step_count = int(state["step_count"])
        self.base_lrs = [float(lr) for lr in state["base_lrs"]]
        self.best = float(state["best"])
        self.bad_steps, self.cooling = int(state["bad_steps"]), int(state["cooling"])
        for group, lr in zip(self.optimizer.param_groups, state["lrs"], strict=True):
            group["lr"] = float(lr)
