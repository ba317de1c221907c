"""What a `Trainer` does with the other ranks, if there are any; see `distributed`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.backends import Array
from tinygrad_mask.data import DataLoader
from tinygrad_mask.distributed import (
    DistributedSampler,
    GradientReducer,
    Group,
    broadcast_state,
    part_of,
    running_statistics,
)
from tinygrad_mask.nn import Module
from tinygrad_mask.optim import Optimizer


class ParallelSteps:
    """The steps of a run that several ranks make together.

    On its way with the gradients goes what all ranks must agree on: how many examples there were,
    the sums of the loss and of the measures, and whether a rank was asked to stop. `stop` says
    whether one was.
    """

    def __init__(self, model: Module, optimizer: Optimizer, group: Group) -> None:
        self.model, self.group = model, group
        self.stop = False
        self._asked: Callable[[], bool] = lambda: False
        self._reducer = GradientReducer(
            optimizer.parameters, group=group, averaged=running_statistics(model)
        )

    def begin(self, asked: Callable[[], bool]) -> Callable[[], bool]:
        """Begin a run: all ranks get the weights of rank 0.

        Returns what tells whether any rank was asked to stop, as `asked` tells of this one; all
        ranks get the same answer between the same two steps.
        """
        broadcast_state(self.model, self.group)
        self._asked, self.stop = asked, False
        return lambda: self.stop

    def backward(self, loss: Any, outcome: Array, weight: int, count: int) -> None:
        """Compute the mean gradients of all ranks; `outcome` is that of `count` examples here."""
        with self._reducer.reducing(weight, self._report(outcome, weight, count)):
            loss.backward()
        self._take_report()

    def reduce(self, outcome: Array, weight: int, count: int) -> None:
        """The same for gradients that are there."""
        self._reducer.reduce(weight, self._report(outcome, weight, count))
        self._take_report()

    def outcome(self) -> tuple[NDArray[np.float64], int]:
        """Return the outcome of the last step over all ranks, and the number of its examples."""
        total = max(self._reducer.total, 1)
        report = self._reducer.report[:-1].copy()
        report[0] /= total
        return report, total

    def _report(self, outcome: Array, weight: int, count: int) -> NDArray[np.float64]:
        loss, *sums = outcome.tolist()
        share = weight / count
        return np.array([loss * weight, *(s * share for s in sums), float(self._asked())])

    def _take_report(self) -> None:
        self.stop = bool(self._reducer.report[-1])


def batches_of_rank(batches: Any, group: Group) -> tuple[Any, bool]:
    """Return what makes this rank's batches, and whether they have to be cut out of whole ones.

    A `DataLoader`, and whatever has a method `share(rank, size)`, fetches this rank's part of each
    batch only. A loader with a `DistributedSampler` has it already.
    """
    if group.size == 1:
        return batches, False
    if isinstance(batches, DataLoader) and isinstance(batches.sampler, DistributedSampler):
        return batches, False
    if hasattr(batches, "share"):
        return batches.share(group.rank, group.size), False
    return batches, True


def with_weights(
    steps: Iterator[Any],
    first: int,
    source: Any,
    cut: bool,
    group: Group,
    arrays: Callable[[Any], list[Array]],
) -> Iterator[tuple[int, list[Array]]]:
    """Yield the arrays of each batch of this rank, and how many of its examples count.

    That is none if the batch has fewer examples than there are ranks and this one has to do
    without: it takes part in the step with the first of them.
    """
    examples = getattr(source, "examples", None) if isinstance(source, DataLoader) else None
    for step, batch in enumerate(steps, first):
        items = arrays(batch)
        length = length_of(items[0])
        if cut:
            part = part_of(length, group.rank, group.size)
            weight = part.stop - part.start
            yield weight, [item[part] if weight else item[:1] for item in items]
        else:
            weight = length
            if group.size > 1 and examples is not None:
                weight = min(examples(step), length)
            yield weight, items


def length_of(array: Array) -> int:
    """Return the number of examples of an array."""
    return len(array) if array.ndim else 1
