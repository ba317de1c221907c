"""Which examples a rank trains on."""

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np

from tinygrad_mask.data import DataLoader
from tinygrad_mask.distributed.group import Group
from tinygrad_mask.distributed.world import world


class DistributedSampler:
    """The indices of this rank's items: every `size`-th one of a common order.

    All ranks get the same number of indices, because all must make the same number of steps: the
    first ones are repeated, or with `drop_last` the last ones left out. `share` needs neither.

    Args:
        dataset: anything with a length.
        shuffle: whether each epoch has an order of its own.
        seed: from which the orders come; the same on all ranks.
        drop_last: whether to leave out what cannot be divided among the ranks.
        group: the ranks; all of them if None.

    Example:
        >>> loader = DataLoader(dataset, batch_size=32, sampler=DistributedSampler(dataset))
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        group: Group | None = None,
    ) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.group = world() if group is None else group
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; a `DataLoader` does."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of indices of this rank."""
        count, size = len(self.dataset), self.group.size
        return count // size if self.drop_last else -(-count // size)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank's items."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            sequence = np.random.SeedSequence(self.seed, spawn_key=(self.epoch,))
            order = np.random.default_rng(sequence).permutation(order)
        whole = np.resize(order, len(self) * self.group.size)
        yield from whole[self.group.rank :: self.group.size].tolist()


def share(loader: DataLoader, group: Group | None = None) -> DataLoader:
    """Return a loader of this rank's part of every batch of a loader.

    The order and the batches are those of one process; each rank takes a part of each batch, equal
    up to one item, and fetches no others. So N ranks do together what one process does alone.
    A rank for which a small last batch has no item gets the first one of it: see
    `DataLoader.examples`.
    """
    group = world() if group is None else group
    return loader if group.size == 1 else loader.share(group.rank, group.size)


def part_of(count: int, rank: int, size: int) -> slice:
    """Return which of `count` items in a row are a rank's; the parts are equal up to one item."""
    return slice(count * rank // size, count * (rank + 1) // size)


def deal(items: Any, group: Group | None = None) -> Any:
    """Return this rank's items of a list: every `size`-th one, so that all kinds are dealt."""
    group = world() if group is None else group
    return items[group.rank :: group.size]
