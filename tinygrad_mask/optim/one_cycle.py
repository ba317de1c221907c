"""One cycle of the learning rate, up and down, and of the momentum, down and up."""

from typing import Any

from tinygrad_mask.optim.arguments import as_count, as_number
from tinygrad_mask.optim.decay import cosine
from tinygrad_mask.optim.optimizer import Optimizer, ParamGroup
from tinygrad_mask.optim.schedule import Schedule


class OneCycleLR(Schedule):
    """Half a cosine up to `max_lr` in `pct_start` of the steps, then one down (Smith 2019).

    The rate starts at `max_lr / div_factor`, and ends at that divided by `final_div_factor`. With
    `cycle_momentum` the momentum goes the other way: from `max_momentum` down to `base_momentum`
    while the rate rises, and back. It is the momentum of SGD and RMSprop, and the first of Adam's
    betas; an optimiser whose momentum is 0 stays without.

    Args:
        optimizer: its rates are replaced.
        max_lr: the highest rate.
        total_steps: the number of steps; or else `epochs` times `steps_per_epoch`.
        epochs: the number of epochs.
        steps_per_epoch: the number of steps of each of them.
        pct_start: the part of the steps in which the rate rises.
        cycle_momentum: whether the momentum is cycled.
        base_momentum: the lowest momentum.
        max_momentum: the highest momentum.
        div_factor: `max_lr` over the first rate.
        final_div_factor: the first rate over the last.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int | None = None,
        *,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        name = "OneCycleLR"
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    f"{name}: expected total_steps, or epochs and steps_per_epoch, got neither"
                )
            total_steps = as_count(name, "epochs", epochs) * as_count(
                name, "steps_per_epoch", steps_per_epoch
            )
        self.total_steps = as_count(name, "total_steps", total_steps)
        pct_start = as_number(name, "pct_start", pct_start)
        if not 0 < pct_start < 1:
            raise ValueError(f"{name}: expected 0 < pct_start < 1, got {pct_start}")
        self.max_lr = as_number(name, "max_lr", max_lr)
        if not self.max_lr >= 0:
            raise ValueError(f"{name}: expected max_lr >= 0, got {max_lr}")
        if not 0 <= base_momentum <= max_momentum < 1:
            raise ValueError(
                f"{name}: expected 0 <= base_momentum <= max_momentum < 1, "
                f"got {base_momentum} and {max_momentum}"
            )
        factors = (
            as_number(name, "div_factor", div_factor),
            as_number(name, "final_div_factor", final_div_factor),
        )
        if not all(factor > 0 for factor in factors):
            raise ValueError(
                f"{name}: expected div_factor and final_div_factor > 0, got {div_factor} and "
                f"{final_div_factor}"
            )
        self.initial_lr = self.max_lr / factors[0]
        self.final_lr = self.initial_lr / factors[1]
        self.peak = pct_start * self.total_steps - 1
        self.cycle_momentum = bool(cycle_momentum)
        self.base_momentum, self.max_momentum = float(base_momentum), float(max_momentum)
        super().__init__(optimizer)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate; the last of the `total_steps` steps has the final one."""
        return self._between(self.initial_lr, self.max_lr, self.final_lr, step)

    def momentum_at(self, step: int) -> float:
        """Return the momentum of a step."""
        return self._between(self.max_momentum, self.base_momentum, self.max_momentum, step)

    def _between(self, first: float, peak: float, last: float, step: int) -> float:
        if step <= self.peak:
            return cosine(first, peak, step / self.peak if self.peak > 0 else 1)
        return cosine(peak, last, (step - self.peak) / (self.total_steps - 1 - self.peak))

    def _apply(self) -> None:
        super()._apply()
        if self.cycle_momentum:
            momentum = self.momentum_at(self.step_count)
            for group in self.optimizer.param_groups:
                _set_momentum(group, momentum)


def _set_momentum(group: ParamGroup, momentum: float) -> None:
    betas: Any = group.get("betas")
    if betas is not None:
        group["betas"] = (momentum, *betas[1:])
    elif group.get("momentum"):
        group["momentum"] = momentum
