"""`Schedule`: what sets the learning rates of an optimiser, step by step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.keywords import ChecksKeywords
from tinygrad_mask.optim.optimizer import Optimizer


class Schedule(ChecksKeywords, ABC):
    """Base of the schedules: `step()` after each step of the optimiser sets its next rate.

    Each parameter group has a rate of its own to start from, the one it had when its first schedule
    was made (or when `optimizer.lr` was set last). A subclass defines `lr_at`.

    Example:
        >>> schedule = optim.StepLR(optimizer, step_size=30)
        >>> for epoch in range(90):
        ...     train_one_epoch(model, optimizer)
        ...     schedule.step()
    """

    has_formula: ClassVar[bool] = True
    """Whether the rates of a step depend on nothing but the step."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.step_count = 0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self._apply()

    def __repr__(self) -> str:
        rates = ", ".join(f"{lr:g}" for lr in self.get_last_lr())
        return f"{type(self).__name__}(step_count={self.step_count}, lr={rates})"

    @abstractmethod
    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the learning rate of a parameter group in a step, counted from 0."""

    def step(self) -> None:
        """Go on to the next step."""
        self.skip_to(self.step_count + 1)

    def skip_to(self, step: int) -> None:
        """Go to a step, as when a run is resumed."""
        self.step_count = step
        self._apply()

    def _apply(self) -> None:
        """Set what this schedule sets to the values of the current step."""
        self._check_groups()
        for k, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self.lr_at(self.step_count, k)

    def _check_groups(self) -> None:
        if len(self.optimizer.param_groups) != len(self.base_lrs):
            raise RuntimeError(
                f"{type(self).__name__}: expected {len(self.base_lrs)} parameter groups, as when "
                f"it was made, got {len(self.optimizer.param_groups)}; make the schedule after "
                "add_param_group()"
            )

    def get_last_lr(self) -> list[float]:
        """Return the current learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    # --- state ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Return the step and the rates to start from, as arrays that a file can hold.

        What the schedule was made with (a number of steps, a factor) is not part of it.
        """
        return {"step_count": np.array(self.step_count), "base_lrs": np.array(self.base_lrs)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`, and set the optimiser's rates accordingly.

        Raises `ValueError`, and changes nothing, if the names or the number of groups do not fit.
        """
        own = self.state_dict()
        if set(own) != set(state) or any(own[k].shape != np.shape(state[k]) for k in own):
            raise ValueError(
                f"{type(self).__name__}: the state is not of such a schedule; expected "
                f"{', '.join(own)} for {len(self.base_lrs)} parameter groups, "
                f"got {', '.join(state)}"
            )
        self._load(state)

    def _load(self, state: Mapping[str, Array]) -> None:
        self.base_lrs = [float(lr) for lr in state["base_lrs"]]
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["initial_lr"] = lr
        self.skip_to(int(state["step_count"]))
