"""One schedule after the other: a warm-up, then a decay."""

from collections.abc import Mapping, Sequence

from tinygrad_mask.backends import Array
from tinygrad_mask.optim.arguments import as_count
from tinygrad_mask.optim.optimizer import Optimizer
from tinygrad_mask.optim.schedule import Schedule


class SequentialLR(Schedule):
    """Schedules one after the other; `milestones` are the steps at which the next one takes over.

    Each begins with its own step 0, from the rates that the optimiser had before the first of them
    was made. See the example of `LinearLR`.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]
    ) -> None:
        self.schedulers = list(schedulers)
        self.milestones = [as_count("SequentialLR", "milestones", m) for m in milestones]
        if not self.schedulers or len(self.milestones) != len(self.schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected one milestone between two schedules, got "
                f"{len(self.milestones)} for {len(self.schedulers)} schedules"
            )
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"SequentialLR: expected rising milestones, got {self.milestones}")
        for schedule in self.schedulers:
            if getattr(schedule, "optimizer", None) is not optimizer:
                raise ValueError(
                    f"SequentialLR: expected schedules of its own optimiser, "
                    f"got a {type(schedule).__name__} of another"
                )
            if not schedule.has_formula:
                raise ValueError(
                    f"SequentialLR: expected schedules that need the step alone, "
                    f"got a {type(schedule).__name__}"
                )
        super().__init__(optimizer)

    def _active(self, step: int) -> tuple[Schedule, int]:
        """The schedule of a step, and which of its own steps that is."""
        k = sum(step >= milestone for milestone in self.milestones)
        return self.schedulers[k], step - (self.milestones[k - 1] if k else 0)

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate that the schedule of this step has then."""
        schedule, own_step = self._active(step)
        return schedule.lr_at(own_step, group)

    def _apply(self) -> None:
        schedule, own_step = self._active(self.step_count)
        schedule.skip_to(own_step)

    def state_dict(self) -> dict[str, Array]:
        """Return the step, and the states of the schedules under their positions: `0.base_lrs`."""
        state = super().state_dict()
        for k, schedule in enumerate(self.schedulers):
            state |= {f"{k}.{name}": array for name, array in schedule.state_dict().items()}
        return state

    def _load(self, state: Mapping[str, Array]) -> None:
        for k, schedule in enumerate(self.schedulers):
            prefix = f"{k}."
            own = {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}
            schedule.load_state_dict(own)
        super()._load(state)
