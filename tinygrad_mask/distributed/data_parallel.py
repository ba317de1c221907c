"""`DistributedDataParallel`: a model whose backward pass averages the gradients of all ranks."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tinygrad_mask.autograd import Variable, is_grad_enabled
from tinygrad_mask.autograd.observers import observers
from tinygrad_mask.distributed.group import Group
from tinygrad_mask.distributed.reducer import BUCKET_BYTES, GradientReducer, running_statistics
from tinygrad_mask.distributed.world import world
from tinygrad_mask.nn import Module
from tinygrad_mask.tensor import Tensor


class DistributedDataParallel(Module):
    """A model of which every rank trains a copy, on examples of its own.

    All copies begin with the weights of rank 0. After `backward()` the gradients are the means over
    the examples of all ranks, so that equal optimisers make equal steps. The exchange goes on while
    the backward pass does, in buckets; the result has the same bits on all ranks, and in every run
    with as many ranks. The number of examples is the length of the first input; ranks may have
    different numbers. Running statistics of batch normalisations are averaged too.

    Every rank must make the same number of backward passes. The `Trainer` does all this by itself.

    Args:
        module: the model; move it to its device first.
        group: the ranks; all of them if None.
        bucket_bytes: how many bytes of gradients are sent together.

    Example, to be run as `mpiexec -n 2 python FILE`:

        >>> distributed.init()
        >>> model = distributed.DistributedDataParallel(nn.Linear(2, 1))
        >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
        >>> for inputs, targets in distributed.share(loader):
        ...     loss = F.mse_loss(model(inputs), targets)
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()

    To accumulate the gradients of several batches, all but the last go into `no_sync`:

        >>> with model.no_sync():
        ...     (loss_of(first) / 2).backward()
        >>> (loss_of(second) / 2).backward()
    """

    def __init__(
        self, module: Module, *, group: Group | None = None, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        super().__init__()
        self.module = module
        group = world() if group is None else group
        broadcast_state(module, group)
        self._reducer = GradientReducer(
            module.parameters(),
            group=group,
            averaged=running_statistics(module),
            bucket_bytes=bucket_bytes,
        )
        self._synchronises = True
        if group.size > 1:
            observer = _WeakObserver(self)
            observers.append(observer)
            weakref.finalize(self, observers.remove, observer)

    def forward(self, *args: Any, **options: Any) -> Any:
        """Call the model."""
        if self.training and is_grad_enabled():
            given = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
            self._reducer.examples += len(given[0]) if given and given[0].ndim else 1
        return self.module(*args, **options)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within it gradients are added up on this rank, and exchanged by the next pass after."""
        self._synchronises = False
        try:
            yield
        finally:
            self._synchronises = True


class _WeakObserver:
    """Tells a model of backward passes as long as it lives."""

    def __init__(self, model: DistributedDataParallel) -> None:
        self._model = weakref.ref(model)

    def begin(self, leaves: Iterable[Variable]) -> bool:
        model = self._model()
        return model is not None and model._synchronises and model._reducer.begin(leaves)

    def complete(self, leaf: Variable, gradient: Any) -> None:
        model = self._model()
        if model is not None:
            model._reducer.complete(leaf, gradient)

    def end(self) -> None:
        model = self._model()
        if model is not None:
            model._reducer.end()


def broadcast_state(model: Module, group: Group) -> None:
    """Give the parameters and buffers of a model the values that they have on rank 0."""
    if group.size == 1:
        return
    state = group.broadcast_object(model.state_dict() if group.rank == 0 else None)
    if group.rank > 0:
        model.load_state_dict(state)
