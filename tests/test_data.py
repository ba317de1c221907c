import gc
import threading
import time
import traceback
import weakref
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinygrad_mask import Tensor, manual_seed
from tinygrad_mask.data import (
    ArrayDataset,
    DataLoader,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)

Batches = list[list[int]]


def numbers(n: int) -> ArrayDataset:
    return ArrayDataset(np.arange(n))


def epoch_of(loader: DataLoader) -> Batches:
    return [batch.tolist() for (batch,) in loader]


def loader_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("DataLoader")}


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    before = loader_threads()
    yield
    gc.collect()
    assert loader_threads() <= before


class TestArrayDataset:
    def test_items_are_rows(self) -> None:
        images, labels = np.arange(24).reshape(3, 2, 4), np.array([5, 6, 7])
        dataset = ArrayDataset(images, labels)
        assert len(dataset) == 3
        image, label = dataset[1]
        np.testing.assert_array_equal(image, images[1])
        assert label == 6

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ((), "at least one axis, got none"),
            ((np.zeros(3), np.float32(1) + np.zeros(())), r"at least one axis, got \(3,\), \(\)"),
            ((np.zeros(3), np.zeros((4, 2))), r"equal lengths, got \[3, 4\]"),
        ],
    )
    def test_refuses(self, arrays: tuple[NDArray[Any], ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ArrayDataset(*arrays)


class TestTensorDataset:
    def test_items_are_rows_and_batches_are_tensors(self) -> None:
        images, labels = Tensor(np.arange(24.0).reshape(3, 2, 4)), Tensor([5, 6, 7])
        dataset = TensorDataset(images, labels)
        assert len(dataset) == 3
        image, label = dataset[1]
        np.testing.assert_array_equal(image.numpy(), images.numpy()[1])
        assert label.item() == 6
        first, second = DataLoader(dataset, batch_size=2)
        assert [(type(part), part.shape, part.dtype) for part in first] == [
            (Tensor, (2, 2, 4), np.dtype(np.float64)),
            (Tensor, (2,), np.dtype(np.int64)),
        ]
        np.testing.assert_array_equal(second[0].numpy(), images.numpy()[2:])

    def test_gradients_flow_through_a_batch(self) -> None:
        x = Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
        [(batch,)] = DataLoader(TensorDataset(x), batch_size=2, drop_last=True)
        (batch * batch).sum().backward()
        assert x.grad is not None
        assert x.grad.numpy().tolist() == [[2, 4], [6, 8], [0, 0]]

    def test_a_batch_is_new_memory(self) -> None:
        x = Tensor(np.zeros((2, 2)))
        [(batch,)] = DataLoader(TensorDataset(x), batch_size=2)
        batch[0] = 1
        assert not x.numpy().any()

    @pytest.mark.parametrize(
        ("tensors", "error", "message"),
        [
            ((), ValueError, "at least one axis, got none"),
            ((Tensor(1.0),), ValueError, r"at least one axis, got \(\)"),
            ((Tensor([1, 2]), Tensor([1])), ValueError, r"equal lengths, got \[2, 1\]"),
            ((np.zeros(2),), TypeError, r"expected tensors, got ndarray; .*ArrayDataset"),
        ],
    )
    def test_refuses(self, tensors: tuple[Any, ...], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            TensorDataset(*tensors)

    def test_tensors_and_arrays_do_not_mix_in_a_batch(self) -> None:
        with pytest.raises(ValueError, match="type of item"):
            default_collate([Tensor([1.0]), np.ones(1, np.float32)])


class TestSubset:
    def test_items_are_those_of_the_indices(self) -> None:
        subset = Subset(numbers(10), [7, 2, 2])
        assert [int(item) for (item,) in (subset[k] for k in range(len(subset)))] == [7, 2, 2]
        assert epoch_of(DataLoader(subset, batch_size=2)) == [[7, 2], [2]]

    @pytest.mark.parametrize("index", [-1, 3])
    def test_an_index_outside_is_refused_at_once(self, index: int) -> None:
        with pytest.raises(IndexError, match=f"indices from 0 to 2, got {index}"):
            Subset(numbers(3), [index])


class TestRandomSplit:
    @given(
        total=st.integers(0, 60),
        cuts=st.lists(st.floats(0, 1), max_size=4),
        seed=st.integers(0, 2**32),
    )
    def test_every_item_is_in_one_subset(self, total: int, cuts: list[float], seed: int) -> None:
        ends = [0.0, *sorted(cuts), 1.0]
        shares = [b - a for a, b in pairwise(ends)]
        parts = random_split(range(total), shares, rng=np.random.default_rng(seed))
        assert sorted(item for part in parts for item in part.indices) == list(range(total))
        for part, share in zip(parts, shares, strict=True):
            assert abs(len(part) - share * total) <= 1 + 1e-9

    def test_lengths_are_kept(self) -> None:
        parts = random_split(numbers(10), [7, 0, 3], rng=np.random.default_rng(0))
        assert [len(part) for part in parts] == [7, 0, 3]

    def test_the_default_generator_draws(self) -> None:
        manual_seed(3)
        first = [part.indices for part in random_split(numbers(20), [0.5, 0.5])]
        second = [part.indices for part in random_split(numbers(20), [0.5, 0.5])]
        manual_seed(3)
        again = [part.indices for part in random_split(numbers(20), [0.5, 0.5])]
        assert first == again != second

    @pytest.mark.parametrize("lengths", [[5, 4], [0.5, 0.6], [-1, 11], [], [float("nan")]])
    def test_lengths_that_do_not_add_up_are_refused(self, lengths: list[float]) -> None:
        with pytest.raises(ValueError, match=r"^random_split: expected .*, got \["):
            random_split(numbers(10), lengths)


class TestOptionsByHabit:
    def test_the_names_of_pytorch(self) -> None:
        loader = DataLoader(numbers(5), 2, num_workers=2, collate_fn=len, drop_last=True)
        assert list(loader) == [2, 2]
        assert (loader.workers, loader.collate) == (2, len)

    def test_shuffle_may_be_positional(self) -> None:
        named = DataLoader(numbers(9), batch_size=4, shuffle=True, seed=1)
        assert epoch_of(DataLoader(numbers(9), 4, True, seed=1)) == epoch_of(named)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_sampler_says_which_items_come_in_which_order(self, workers: int) -> None:
        loader = DataLoader(numbers(6), 2, sampler=[5, 0, 0, 3, 1], workers=workers)
        assert len(loader) == 3
        assert epoch_of(loader) == epoch_of(loader) == [[5, 0], [0, 3], [1]]

    def test_a_sampler_is_asked_anew_each_epoch(self) -> None:
        class Sampler:
            epochs = 0

            def __iter__(self) -> Iterator[int]:
                self.epochs += 1
                return iter([self.epochs, 0])

        loader = DataLoader(numbers(6), 2, sampler=Sampler(), drop_last=True)
        assert [epoch_of(loader), epoch_of(loader)] == [[[1, 0]], [[2, 0]]]
        with pytest.raises(TypeError, match="a sampler with a length, got Sampler"):
            len(loader)

    @pytest.mark.parametrize("index", [-1, 6])
    def test_a_sampler_of_other_indices_is_refused(self, index: int) -> None:
        with pytest.raises(IndexError, match=f"from 0 to 5, got {index}"):
            next(iter(DataLoader(numbers(6), sampler=[index])))

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"shuffle": True, "sampler": [0]}, ValueError, "shuffle or a sampler, got both"),
            ({"workers": 1, "num_workers": 1}, TypeError, "workers or num_workers, got both"),
            ({"collate": len, "collate_fn": len}, TypeError, "collate or collate_fn, got both"),
            ({"num_workers": -1}, ValueError, "workers must be an integer >= 0"),
        ],
    )
    def test_what_contradicts_itself_is_refused(
        self, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            DataLoader(numbers(6), **options)

    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            ((np.zeros((4, 2)), np.zeros(4)), r"tuple of 2 arrays; pass ArrayDataset\(X, y\)"),
            ((Tensor([1.0]), Tensor([1])), r"tuple of 2 arrays; pass TensorDataset\(X, y\)"),
            (iter([1]), "a length and items by index, got list_iterator; make a list"),
        ],
    )
    def test_what_is_no_data_set_is_refused_with_the_right_form(
        self, dataset: Any, message: str
    ) -> None:
        with pytest.raises(TypeError, match=message):
            DataLoader(dataset)


class TestDefaultCollate:
    def test_images_and_labels(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
        batch_images, batch_labels = default_collate([(images[i], i) for i in range(4)])
        assert batch_images.dtype == np.uint8
        assert batch_labels.dtype == np.int64
        np.testing.assert_array_equal(batch_images, images)
        np.testing.assert_array_equal(batch_labels, [0, 1, 2, 3])

    def test_structure_is_kept(self) -> None:
        items = [{"x": np.full(2, i, np.float32), "y": (i, {"name": "a" * i})} for i in (1, 2)]
        batch = default_collate(items)
        assert batch["x"].dtype == np.float32
        np.testing.assert_array_equal(batch["x"], [[1, 1], [2, 2]])
        np.testing.assert_array_equal(batch["y"][0], [1, 2])
        assert batch["y"][1]["name"].tolist() == ["a", "aa"]

    def test_batch_is_a_copy(self) -> None:
        item = np.zeros(3)
        default_collate([item])[:] = 1
        np.testing.assert_array_equal(item, np.zeros(3))

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([], "at least one item"),
            (
                [(0, np.zeros(2)), (1, np.zeros(3))],
                r"shape of item\[1\] .* \(2,\) .* \(3,\) for item 1",
            ),
            (
                [np.zeros(2), np.zeros(2, np.float32)],
                "dtype of item .* float64 .* float32 for item 1",
            ),
            ([{"a": 1}, {"b": 1}], "keys of item .* {'a'} first and {'b'} for item 1"),
            ([(1, 2), (1, 2), (1,)], "length of item .* 2 first and 1 for item 2"),
            ([(1,), 1], "length of item .* 1 first and <class 'int'>"),
            ([1, (1,)], "got tuple for item"),
            ([{"a": [1]}], r"got list for item\['a'\]; pass `collate`"),
            ([None], "got NoneType"),
        ],
    )
    def test_refuses(self, items: Sequence[Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            default_collate(items)


class TestBatches:
    @given(
        n=st.integers(0, 40),
        batch_size=st.integers(1, 12),
        shuffle=st.booleans(),
        drop_last=st.booleans(),
        seed=st.integers(0, 2**64),
        workers=st.integers(1, 5),
        prefetch=st.integers(0, 4),
    )
    def test_the_same_for_any_workers_and_prefetch(
        self,
        n: int,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        workers: int,
        prefetch: int,
    ) -> None:
        def loader(workers: int, prefetch: int) -> DataLoader:
            return DataLoader(
                numbers(n),
                batch_size,
                shuffle=shuffle,
                seed=seed,
                drop_last=drop_last,
                workers=workers,
                prefetch=prefetch,
            )

        plain, threaded = loader(0, 2), loader(workers, prefetch)
        for _ in range(2):
            batches = epoch_of(plain)
            assert epoch_of(threaded) == batches
            assert len(batches) == len(plain) == len(threaded)
            assert all(len(batch) == batch_size for batch in batches[:-1])
            seen = [i for batch in batches for i in batch]
            assert len(seen) == (n - n % batch_size if drop_last else n)
            assert len(set(seen)) == len(seen)
            if not shuffle:
                assert seen == list(range(len(seen)))

    def test_collate_of_ones_own(self) -> None:
        assert list(DataLoader([3, 4, 5], 2, collate=sum, workers=1)) == [7, 5]

    @pytest.mark.parametrize(
        ("option", "value"),
        [("batch_size", 0), ("batch_size", 2.0), ("seed", -1), ("workers", -1), ("prefetch", -1)],
    )
    def test_refuses(self, option: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"{option} must be an integer >= ., got {value}"):
            DataLoader([1], **{option: value})


class TestOrder:
    def test_every_epoch_and_seed_has_its_own(self) -> None:
        loaders = [DataLoader(numbers(50), 50, shuffle=True, seed=seed) for seed in (0, 1)]
        orders = [
            tuple(order) for loader in loaders for _ in range(2) for order in epoch_of(loader)
        ]
        assert len(set(orders)) == 4
        assert tuple(range(50)) not in orders

    def test_is_not_the_seed_s_own_stream(self) -> None:
        (order,) = epoch_of(DataLoader(numbers(50), 50, shuffle=True, seed=3))
        assert order != np.random.default_rng(3).permutation(50).tolist()

    def test_resumed_run_goes_on_as_the_unbroken_one(self) -> None:
        unbroken = DataLoader(numbers(20), 3, shuffle=True, seed=7)
        epochs = [epoch_of(unbroken) for _ in range(4)]
        assert unbroken.epoch == 4
        resumed = DataLoader(numbers(20), 3, shuffle=True, seed=7)
        resumed.epoch = 2
        assert [epoch_of(resumed) for _ in range(2)] == epochs[2:]

    def test_an_iteration_given_up_counts_as_an_epoch(self) -> None:
        loader = DataLoader(numbers(20), 3, shuffle=True, workers=2)
        next(iter(loader))
        assert loader.epoch == 1

    @pytest.mark.parametrize("workers", [0, 2])
    def test_iterations_at_once(self, workers: int) -> None:
        loader = DataLoader(numbers(20), 3, shuffle=True, workers=workers)
        together = [(a.tolist(), b.tolist()) for (a,), (b,) in zip(loader, loader, strict=True)]
        loader.epoch = 0
        assert [[a for a, _ in together], [b for _, b in together]] == [
            epoch_of(loader),
            epoch_of(loader),
        ]


class Item:
    def __init__(self, index: int) -> None:
        self.index = index


class CountingDataset:
    """Counts the items asked for, and those still in memory."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.asked = 0
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most_alive = 0
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        item = Item(index)
        with self.lock:
            self.asked += 1
            self.alive.add(item)
            self.most_alive = max(self.most_alive, len(self.alive))
        return item


def indices(items: list[Item]) -> list[int]:
    return [item.index for item in items]


class TestBounds:
    @pytest.mark.parametrize("workers", [1, 4])
    @pytest.mark.parametrize("prefetch", [0, 1, 3])
    def test_never_further_ahead_than_prefetch(self, workers: int, prefetch: int) -> None:
        size, dataset = 4, CountingDataset(200)
        loader = DataLoader(dataset, size, workers=workers, prefetch=prefetch, collate=indices)
        for received, _ in enumerate(loader, start=1):
            assert dataset.asked <= (received + prefetch) * size
        assert received == 50
        assert dataset.most_alive <= (prefetch + 1) * size
        assert len(dataset.alive) == 0

    def test_fetches_ahead_while_the_consumer_works(self) -> None:
        size, prefetch = 2, 3
        ahead = threading.Event()

        class Announcing(CountingDataset):
            def __getitem__(self, index: int) -> Any:
                item = super().__getitem__(index)
                if self.asked == (1 + prefetch) * size:
                    ahead.set()
                return item

        dataset = Announcing(100)
        batches = iter(DataLoader(dataset, size, workers=1, prefetch=prefetch, collate=indices))
        next(batches)
        assert ahead.wait(timeout=30)
        del batches

    def test_workers_fetch_the_items_of_a_batch_at_once(self) -> None:
        together = threading.Barrier(4)

        class Meeting(CountingDataset):
            def __getitem__(self, index: int) -> int:
                together.wait(timeout=30)
                return index

        batches = list(DataLoader(Meeting(8), 4, workers=4, prefetch=0, collate=list))
        assert batches == [[0, 1, 2, 3], [4, 5, 6, 7]]


class BrokenPhotographError(Exception):
    pass


class BrokenDataset(CountingDataset):
    def __getitem__(self, index: int) -> Any:
        if index in (7, 8):
            raise BrokenPhotographError(f"item {index}")
        return index


class TestExceptions:
    @pytest.mark.parametrize("workers", [0, 1, 3])
    def test_surfaces_at_its_batch_as_it_was(self, workers: int) -> None:
        batches = iter(DataLoader(BrokenDataset(20), 3, workers=workers))
        assert [batch.tolist() for batch in islice(batches, 2)] == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(BrokenPhotographError, match="item 7") as raised:
            next(batches)
        frames = traceback.extract_tb(raised.value.__traceback__)
        assert "raise BrokenPhotographError" in str(frames[-1].line)
        assert not loader_threads()
        with pytest.raises(StopIteration):
            next(batches)

    def test_of_the_collate(self) -> None:
        def collate(items: list[Item]) -> None:
            raise BrokenPhotographError

        with pytest.raises(BrokenPhotographError):
            next(iter(DataLoader(CountingDataset(20), 3, workers=2, collate=collate)))


class TestGivenUpEarly:
    """Each leaves no thread behind, and asks for no item more."""

    def loader(self, n: int = 10_000) -> tuple[DataLoader, CountingDataset]:
        dataset = CountingDataset(n)
        return DataLoader(dataset, 5, workers=3, prefetch=2, collate=indices), dataset

    def assert_ended(self, dataset: CountingDataset) -> None:
        assert not loader_threads()
        assert dataset.asked <= 3 * 5

    def test_break(self) -> None:
        loader, dataset = self.loader()
        for batch in loader:
            assert batch == [0, 1, 2, 3, 4]
            break
        self.assert_ended(dataset)

    def test_exception_in_the_loop(self) -> None:
        loader, dataset = self.loader()

        def consume() -> None:
            for _ in loader:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            consume()
        gc.collect()
        self.assert_ended(dataset)

    def test_never_begun(self) -> None:
        loader, dataset = self.loader()
        iter(loader)
        assert dataset.asked == 0
        self.assert_ended(dataset)

    def test_pending_items_are_cancelled(self) -> None:
        class Slow(CountingDataset):
            def __getitem__(self, index: int) -> Any:
                time.sleep(0.001)
                return super().__getitem__(index)

        dataset = Slow(10_000)
        batches = iter(DataLoader(dataset, 2, workers=1, prefetch=1000, collate=indices))
        next(batches)
        del batches
        assert not loader_threads()
        assert dataset.asked < 1000

    def test_collected_by_one_of_its_own_workers(self) -> None:
        begun, forgotten, collected = threading.Event(), threading.Event(), threading.Event()

        class Collecting(CountingDataset):
            def __getitem__(self, index: int) -> Any:
                if index == 2:
                    begun.set()
                    assert forgotten.wait(timeout=30)
                    gc.collect()
                    collected.set()
                return super().__getitem__(index)

        dataset = Collecting(100)
        batches = iter(DataLoader(dataset, 2, workers=1, prefetch=3, collate=indices))
        next(batches)
        assert begun.wait(timeout=30)
        cycle: list[Any] = [batches]
        cycle.append(cycle)
        gc.disable()
        try:
            del batches, cycle
            workers = loader_threads()
            forgotten.set()
            assert collected.wait(timeout=30)
        finally:
            gc.enable()
        for worker in workers:
            worker.join(timeout=30)
        assert not loader_threads()
        assert dataset.asked == 3
