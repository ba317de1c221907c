"""Data sets and the loader that turns them into batches, in a seeded order and ahead of time.

A batch holds what the items hold: NumPy arrays of an `ArrayDataset`, tensors of a `TensorDataset`.
Threads fetch the items, not processes, because what takes the time (reading files, decoding images,
NumPy on whole arrays) releases the interpreter's lock.
"""

import copy
import math
import operator
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.equivalents import DATA, no_attribute
from tinygrad_mask.functions import stack
from tinygrad_mask.keywords import ChecksKeywords, checks_keywords
from tinygrad_mask.random import as_generator
from tinygrad_mask.tensor import Tensor

Item = TypeVar("Item", covariant=True)


class Dataset(Protocol[Item]):
    """A sized collection of items, numbered from 0.

    A `DataLoader` with workers calls `__getitem__` from several threads at once. An item that
    depends on its index alone is the same in every run, whatever the number of workers.
    """

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitem__(self, index: int, /) -> Item:
        """Return one item, `0 <= index < len(self)`."""


class Rows:
    """Some rows of an array, copied only when asked for: a part of a memory-mapped file, say.

    Indexing with a number gives a row, with a slice or an array of numbers several.
    """

    def __init__(self, array: NDArray[Any], positions: NDArray[np.int64]) -> None:
        """Take rows `positions`, shape `(n,)`, of an array `(m, ...)`."""
        self.array, self.positions = array, positions
        self.shape = (len(positions), *array.shape[1:])
        self.ndim = array.ndim

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.positions)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Return a copy of one row or several."""
        return np.array(self.array[self.positions[index]])


class ArrayDataset:
    """Arrays side by side: item i is the tuple of their rows i (views, not copies)."""

    def __init__(self, *arrays: NDArray[Any] | Rows) -> None:
        """Take arrays of shapes `(n, ...)`, the same n in all; raises `ValueError` for others."""
        if not arrays or any(array.ndim == 0 for array in arrays):
            shapes = ", ".join(str(array.shape) for array in arrays) or "none"
            raise ValueError(f"ArrayDataset: expected arrays of at least one axis, got {shapes}")
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1:
            raise ValueError(f"ArrayDataset: expected arrays of equal lengths, got {lengths}")
        self.arrays = arrays

    def __repr__(self) -> str:
        return _described(self, *(array.shape for array in self.arrays))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return row `index` of every array."""
        return tuple(array[index] for array in self.arrays)


class TensorDataset:
    """Tensors with the same number of rows: item i is the tuple of their rows i.

    A `DataLoader` stacks the rows to tensors of `(batch_size, ...)`, on the tensors' device.
    """

    def __init__(self, *tensors: Tensor) -> None:
        """Take tensors of shapes `(n, ...)`, with the same n in all.

        Raises `TypeError` for anything but tensors, and `ValueError` for tensors that do not fit.
        """
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"TensorDataset: expected tensors, got {type(tensor).__name__}; "
                    "wrap it in Tensor(...), or use ArrayDataset for arrays"
                )
        if not tensors or any(tensor.ndim == 0 for tensor in tensors):
            shapes = ", ".join(str(tensor.shape) for tensor in tensors) or "none"
            raise ValueError(f"TensorDataset: expected tensors of at least one axis, got {shapes}")
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"TensorDataset: expected tensors of equal lengths, got {lengths}")
        self.tensors = tensors

    def __repr__(self) -> str:
        return _described(self, *(tensor.shape for tensor in self.tensors))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return row `index` of every tensor."""
        return tuple(tensor[index] for tensor in self.tensors)


class Subset:
    """Some items of a data set: item i is the data set's item `indices[i]`."""

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int] | NDArray[np.int64]) -> None:
        """Take items by their indices, in this order; an index may occur more than once.

        Raises `IndexError` for an index that is not one of the data set's, from 0 on.
        """
        self.dataset = dataset
        self.indices = [operator.index(index) for index in indices]
        for index in self.indices:
            if not 0 <= index < len(dataset):
                raise IndexError(
                    f"Subset: expected indices from 0 to {len(dataset) - 1}, got {index}"
                )

    def __repr__(self) -> str:
        return _described(self, f"{len(self)} of {len(self.dataset)} items")

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        """Return item `index` of the subset."""
        return self.dataset[self.indices[index]]


def _described(what: object, *parts: object) -> str:
    return f"{type(what).__name__}({', '.join(map(str, parts))})"


@checks_keywords
def random_split(
    dataset: Dataset[Any],
    lengths: Sequence[int] | Sequence[float],
    *,
    rng: np.random.Generator | None = None,
) -> list[Subset]:
    """Divide a data set at random into subsets without common items.

    `lengths` are the sizes of the subsets, whole numbers whose sum is `len(dataset)`, or shares
    whose sum is 1: each subset then gets its share rounded down, and the items that are left go to
    the first subsets, one each. `rng` draws the order; without it the default generator does.

    Raises `ValueError` for lengths that do not add up.

    Example:
        >>> data = ArrayDataset(np.arange(10))
        >>> train, test = random_split(data, [0.8, 0.2], rng=np.random.default_rng(0))
        >>> len(train), len(test)
        (8, 2)
    """
    total = len(dataset)
    shares = list(lengths)
    if not shares or any(not 0 <= share < math.inf for share in shares):
        raise ValueError(f"random_split: expected lengths or shares of at least 0, got {shares}")
    if all(isinstance(share, int | np.integer) for share in shares) and sum(shares) == total:
        sizes = [int(share) for share in shares]
    elif math.isclose(sum(shares), 1, abs_tol=1e-9):
        sizes = [math.floor(total * share) for share in shares]
        for k in range(total - sum(sizes)):
            sizes[k % len(sizes)] += 1
    else:
        raise ValueError(
            f"random_split: expected lengths that add up to {total}, or shares that add up to 1, "
            f"got {shares}"
        )
    order = as_generator("random_split", rng).permutation(total)
    ends = accumulate(sizes)
    return [Subset(dataset, order[end - n : end]) for n, end in zip(sizes, ends, strict=True)]


def default_collate(items: Sequence[Any]) -> Any:
    """Turn items into a batch: what has shape s in each of the n items becomes an array `(n, *s)`.

    Items are arrays, tensors, numbers, booleans or strings, or tuples or mappings of such, nested
    as deep as wanted; the batch is built the same way (a mapping becomes a `dict`). Tensors become
    a tensor, everything else an array; Python numbers become int64 and float64. The arrays of a
    batch are new: writing into them leaves the data set alone.

    Raises `ValueError` where the items differ in structure, shape or dtype, or are none of these.
    """
    if len(items) == 0:
        raise ValueError("default_collate: expected at least one item, got none")
    return _collate(items, "item")


def _collate(items: Sequence[Any], where: str) -> Any:
    first = items[0]
    if isinstance(first, Mapping):
        _same([set(i) if isinstance(i, Mapping) else type(i) for i in items], "keys", where)
        return {key: _collate([i[key] for i in items], f"{where}[{key!r}]") for key in first}
    if isinstance(first, tuple):
        n = _same([len(i) if isinstance(i, tuple) else type(i) for i in items], "length", where)
        return tuple(_collate([i[k] for i in items], f"{where}[{k}]") for k in range(n))
    if isinstance(first, Tensor):
        _same([type(item) for item in items], "type", where)
        _same([item.shape for item in items], "shape", where)
        _same([item.dtype for item in items], "dtype", where)
        return stack(items)
    for item in items:
        if not isinstance(item, np.ndarray | np.generic | int | float | complex | str):
            raise ValueError(
                "default_collate: expected arrays, tensors, numbers or strings, or tuples or "
                f"mappings of them, got {type(item).__name__} for {where}; pass `collate` to "
                "batch it"
            )
    arrays = [np.asarray(item) for item in items]
    _same([array.shape for array in arrays], "shape", where)
    if arrays[0].dtype.kind != "U":
        _same([array.dtype for array in arrays], "dtype", where)
    return np.stack(arrays)


def _same(values: list[Any], what: str, where: str) -> Any:
    """Return the value that all items of a batch have; raise where one has another."""
    for i, value in enumerate(values):
        if value != values[0]:
            raise ValueError(
                f"default_collate: the {what} of {where} must be the same throughout a batch, "
                f"got {values[0]} first and {value} for item {i} of it"
            )
    return values[0]


class DataLoader(ChecksKeywords):
    """Iterates over a data set in batches; each iteration is an epoch.

    `epoch` is the number of the epoch that the next iteration begins (0 at first) and may be set: a
    resumed run goes on in the order that an unbroken one would have had.

    An exception from an item is raised at its batch, as it was, after all batches before it. An
    iteration that is given up early drops what it had ahead, and its threads end with it. Several
    iterations may run at once.

    A data set without items gives no batches.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        *,
        seed: int = 0,
        drop_last: bool = False,
        workers: int = 0,
        prefetch: int = 2,
        collate: Callable[[list[Any]], Any] = default_collate,
        num_workers: int | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        """Fetch nothing yet.

        Args:
            dataset: where the items come from: anything with `len()` and `[index]`.
            batch_size: items per batch, at least 1; the last batch of an epoch may be smaller.
            shuffle: whether every epoch goes through the items in an order of its own.
            sampler: the indices of the items of an epoch, in their order; iterated over at the
                start of every epoch, so a list gives each epoch the same order. Not with `shuffle`.
            seed: from which the orders come. That of epoch e depends on `seed`, e and the number of
                items alone.
            drop_last: whether to leave out a last batch that is smaller.
            workers: threads that fetch items; with 0 the consumer fetches each batch itself. The
                batches and their order are the same for any number.
            prefetch: how many batches the workers may be ahead of the one that the consumer waits
                for or holds, at least 0; it bounds the memory.
            collate: makes a batch of a list of items; runs in the consumer's thread.
            num_workers: PyTorch's name for `workers`.
            collate_fn: PyTorch's name for `collate`.

        Raises:
            TypeError: `dataset` is a tuple of arrays or no data set, or an option was given under
                both of its names.
            ValueError: a number is out of its bounds, or `shuffle` comes with a `sampler`.
        """
        _check_dataset(dataset)
        if num_workers is not None:
            if workers:
                raise TypeError("DataLoader: expected workers or num_workers, got both")
            workers = num_workers
        if collate_fn is not None:
            if collate is not default_collate:
                raise TypeError("DataLoader: expected collate or collate_fn, got both")
            collate = collate_fn
        if shuffle and sampler is not None:
            raise ValueError(
                "DataLoader: expected shuffle or a sampler, got both; a sampler sets the order"
            )
        _check_at_least("batch_size", batch_size, 1)
        _check_at_least("seed", seed, 0)
        _check_at_least("workers", workers, 0)
        _check_at_least("prefetch", prefetch, 0)
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sampler = sampler
        self.seed = seed
        self.drop_last = drop_last
        self.workers = workers
        self.prefetch = prefetch
        self.collate = collate
        self.epoch = 0
        self._part: tuple[int, int] | None = None  # the rank and the number of ranks

    def share(self, rank: int, size: int) -> "DataLoader":
        """Return a loader of one of `size` ranks' parts of every batch; see `distributed.share`."""
        if not 0 <= rank < size:
            raise ValueError(f"DataLoader: expected 0 <= rank < {size}, got {rank}")
        loader = copy.copy(self)
        loader._part = (rank, size)
        return loader

    def examples(self, step: int) -> int:
        """Return how many items the batch of a step has, 0 for one that stands in for none.

        A rank whose part of a small batch is empty gets the first item of it all the same, because
        all ranks have to make the same steps.
        """
        count = len(self.dataset) if self.sampler is None else len(self.sampler)  # type: ignore
        whole = max(min(self.batch_size, count - step * self.batch_size), 0)
        return len(self._of_rank(range(whole)))

    def _of_rank(self, batch: Any) -> Any:
        """Return this rank's part of a batch, which may be empty."""
        if self._part is None:
            return batch
        rank, size = self._part
        return batch[len(batch) * rank // size : len(batch) * (rank + 1) // size]

    def __repr__(self) -> str:
        items = f"{type(self.dataset).__name__} of {len(self.dataset)} items"
        return _described(self, items, f"batch_size={self.batch_size}", f"shuffle={self.shuffle}")

    def __len__(self) -> int:
        """Return the number of batches in an epoch.

        Raises `TypeError` if a sampler without a length determines it.
        """
        if self.sampler is None:
            return self._batches(len(self.dataset))
        if not isinstance(self.sampler, Sized):
            raise TypeError(
                f"DataLoader: expected a sampler with a length, got {type(self.sampler).__name__}; "
                "its number of batches is not known before an epoch"
            )
        return self._batches(len(self.sampler))

    def _batches(self, items: int) -> int:
        return items // self.batch_size if self.drop_last else -(-items // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch and return an iterator over its batches."""
        order = self._order(self.epoch)
        self.epoch += 1
        size = self.batch_size
        end = self._batches(len(order)) * size
        whole = (order[i : i + size].tolist() for i in range(0, end, size))
        batches = whole
        if self._part is not None:
            batches = (self._of_rank(batch) or batch[:1] for batch in whole)
        return self._fetch_ahead(batches) if self.workers else self._fetch(batches)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The indices of the items of an epoch, in their order."""
        if self.sampler is not None:
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            # A negative index would be an item too, counted from the end.
            return np.array(Subset(self.dataset, list(self.sampler)).indices, dtype=np.int64)
        if not self.shuffle:
            return np.arange(len(self.dataset))
        # The key, and not [seed, epoch], because [seed, 0] would be the stream of `seed` itself,
        # from which others may draw.
        sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
        return np.random.default_rng(sequence).permutation(len(self.dataset))

    def _fetch(self, batches: Iterable[list[int]]) -> Iterator[Any]:
        for batch in batches:
            yield self.collate([self.dataset[i] for i in batch])

    def _fetch_ahead(self, batches: Iterator[list[int]]) -> Iterator[Any]:
        pending: deque[list[Future[Any]]] = deque()
        own_threads: set[int] = set()
        pool = ThreadPoolExecutor(
            self.workers,
            thread_name_prefix="DataLoader",
            initializer=lambda: own_threads.add(threading.get_ident()),
        )
        try:
            while True:
                for batch in islice(batches, self.prefetch + 1 - len(pending)):
                    pending.append([pool.submit(self.dataset.__getitem__, i) for i in batch])
                if not pending:
                    return
                # In one expression, so that nothing but the consumer holds on to the items.
                yield self.collate([future.result() for future in pending.popleft()])
        finally:
            # The cycle collector may close this generator from any thread, and so from a worker,
            # which cannot wait for itself.
            pool.shutdown(wait=threading.get_ident() not in own_threads, cancel_futures=True)


def _check_dataset(dataset: Any) -> None:
    arrays = np.ndarray | Tensor
    if isinstance(dataset, tuple) and dataset and all(isinstance(a, arrays) for a in dataset):
        kind = "TensorDataset" if isinstance(dataset[0], Tensor) else "ArrayDataset"
        raise TypeError(
            f"DataLoader: expected a data set, got a tuple of {len(dataset)} arrays; "
            f"pass {kind}(X, y) of them"
        )
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            f"DataLoader: expected a data set with a length and items by index, "
            f"got {type(dataset).__name__}; make a list of it first"
        )


def _check_at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"DataLoader: {name} must be an integer >= {least}, got {value!r}")


if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name):
        raise no_attribute(__name__, name, DATA.get(name))
