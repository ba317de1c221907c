"""The mean of all ranks' gradients, computed in buckets while the backward pass goes on.

    forward          backward: conv5      conv4      conv3     conv2     conv1    end
    ...............  |----------||---------||---------||--------||-------|
    bucket 0 (conv5, conv4)                 [ all-reduce ]
    bucket 1 (conv3)                                   [ all-reduce ]
    bucket 2 (conv2, conv1)                                              [ all-reduce ] -> grad

Invariants:

1. Parameters are in buckets in the reverse of their order, and bucket k is sent after bucket k - 1:
   all ranks send the same buckets in the same order, whatever order their gradients come in.
2. A gradient counts as often as the rank has examples. The sum over the ranks of count times
   gradient, over the sum of the counts, is the gradient of the mean over all examples, if the loss
   is a mean over the examples of a rank; also if one rank has fewer than another.
3. All ranks get the same bits, and the bits depend on the number of ranks, not on time.
4. A parameter without a gradient on any rank keeps none; with one on some ranks it gets the mean.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.autograd import Variable, observing
from tinygrad_mask.backends import Array
from tinygrad_mask.distributed.group import Group, Pending
from tinygrad_mask.distributed.world import world
from tinygrad_mask.nn import BatchNorm, Module
from tinygrad_mask.tensor import Tensor

BUCKET_BYTES = 1 << 20
"""The bytes of gradients that are sent together, by default."""

_ALIGNMENT = 16  # elements; each gradient begins on a boundary of 64 bytes or more


class Bucket:
    """Gradients of one dtype that are sent together: one array, with a view for each tensor.

    After the gradients there is a flag per tensor: how many ranks have a gradient of it.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        xp = tensors[0].backend.xp
        starts, end = [], 0
        for tensor in tensors:
            starts.append(end)
            end += -(-tensor.size // _ALIGNMENT) * _ALIGNMENT
        self.array = xp.zeros(end + len(starts), dtype=tensors[0].dtype)
        self.views = [
            self.array[start : start + tensor.size].reshape(tensor.shape)
            for start, tensor in zip(starts, tensors, strict=True)
        ]
        self.flags = self.array[end:]
        self.missing = len(starts)
        self.pending: Pending | None = None

    def begin(self) -> None:
        """Expect the gradients of a new backward pass."""
        self.missing = len(self.tensors)
        self.pending = None


class GradientReducer:
    """Replaces the gradients of some parameters by their means over all ranks.

    Args:
        parameters: the parameters, the same on all ranks, in the same order.
        group: the ranks; all of them if None.
        averaged: further tensors, such as running statistics, that are replaced by their means.
        bucket_bytes: how many bytes of gradients are sent together.

    Example:
        >>> reducer = GradientReducer(model.parameters())
        >>> loss = F.cross_entropy(model(inputs), labels)
        >>> with reducer.reducing(examples=len(inputs)):
        ...     loss.backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        group: Group | None = None,
        averaged: Iterable[Tensor] = (),
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        if bucket_bytes < 1:
            raise ValueError(f"GradientReducer: expected bucket_bytes >= 1, got {bucket_bytes}")
        self.group = world() if group is None else group
        self.parameters = list(parameters)
        self.averaged = [tensor for tensor in averaged if tensor.dtype.kind == "f"]
        self.examples = 0
        self.total = 0
        self.report: NDArray[np.float64] = np.zeros(0)
        self.buckets = _make_buckets(self.parameters[::-1], bucket_bytes)
        self._statistics = _make_buckets(self.averaged, bucket_bytes)
        self._place = {
            id(tensor): (bucket, k)
            for bucket in self.buckets
            for k, tensor in enumerate(bucket.tensors)
        }
        self._next = 0  # the first bucket that has not been sent
        self._counts: NDArray[np.float64] = np.zeros(1)
        self._counting = Pending()

    # --- use --------------------------------------------------------------------------------

    @contextmanager
    def reducing(self, examples: int, report: Any = ()) -> Iterator[None]:
        """Within it one backward pass gives the parameters the mean gradients of all ranks.

        Args:
            examples: how many examples the loss of this rank is the mean of; 0 to take part
                without counting.
            report: numbers, float64, that are added up over the ranks on the way; the attribute
                `report` has the sums afterwards, and `total` the number of examples.
        """
        self.examples = examples
        self.report = np.asarray(report, np.float64)
        with observing(self):
            yield

    def reduce(self, examples: int, report: Any = ()) -> None:
        """Do the same for gradients that are there already: nothing overlaps."""
        self.examples, self.report = examples, np.asarray(report, np.float64)
        self._start()
        self.end()

    # --- what a backward pass tells -----------------------------------------------------------

    def begin(self, leaves: Iterable[Variable]) -> bool:
        """See `autograd.BackwardObserver`."""
        if self.group.size == 1 or not any(id(leaf) in self._place for leaf in leaves):
            return False
        self._start()
        return True

    def complete(self, leaf: Variable, gradient: Any) -> None:
        """See `autograd.BackwardObserver`; sends the bucket if it is full."""
        place = self._place.get(id(leaf))
        if place is not None:
            self._fill(*place, gradient, leaf._grad)
            self._send_full()

    def end(self) -> None:
        """See `autograd.BackwardObserver`; waits, and assigns the means."""
        for bucket in self.buckets[self._next :]:
            if bucket.missing:
                self._fill_rest(bucket)
        self._send_full()
        group = self.group
        group.timed_wait(self._counting)
        self.total, self.report = round(self._counts[0]), self._counts[1:]
        scale = max(self._counts[0], 1.0)
        for bucket in (*self._statistics, *self.buckets):
            assert bucket.pending is not None
            group.timed_wait(bucket.pending)
            # The flags are divided too; whether they are 0 does not change.
            bucket.array /= scale
        for bucket in self._statistics:
            for tensor, view in zip(bucket.tensors, bucket.views, strict=True):
                tensor.copy_(view)
        for bucket in self.buckets:
            flags = bucket.tensors[0].backend.to_host(bucket.flags)
            for tensor, view, flag in zip(bucket.tensors, bucket.views, flags, strict=True):
                tensor._grad = tensor.wrap(view) if flag else None
        self.examples = 0

    # --- its parts --------------------------------------------------------------------------

    def _start(self) -> None:
        self._counts = np.array([self.examples, *self.report], np.float64)
        self._counting = self.group.begin_all_reduce(self._counts, "the number of examples")
        self._next = 0
        for bucket in self.buckets:
            bucket.begin()
        for number, bucket in enumerate(self._statistics):
            for tensor, view in zip(bucket.tensors, bucket.views, strict=True):
                tensor.backend.xp.multiply(tensor.data, self._factor(bucket), out=view)
            bucket.pending = self.group.begin_all_reduce(
                bucket.array, f"the mean of running statistics {number}"
            )

    def _factor(self, bucket: Bucket) -> Any:
        return bucket.array.dtype.type(self.examples)

    def _fill(self, bucket: Bucket, k: int, gradient: Array | None, before: Any) -> None:
        view, xp = bucket.views[k], bucket.tensors[k].backend.xp
        if before is not None:
            gradient = before.data if gradient is None else before.data + gradient
        if gradient is None:
            view[...] = 0
        else:
            xp.multiply(gradient, self._factor(bucket), out=view)
        bucket.flags[k] = 0 if gradient is None else 1
        bucket.missing -= 1

    def _fill_rest(self, bucket: Bucket) -> None:
        """Fill a bucket some of whose tensors the pass did not reach, from what they have."""
        bucket.missing = len(bucket.tensors)
        for k, tensor in enumerate(bucket.tensors):
            self._fill(bucket, k, None, tensor._grad)

    def _send_full(self) -> None:
        """Send each full bucket whose predecessors were sent, and help those under way on."""
        for bucket in self.buckets[: self._next]:
            if bucket.pending is not None:
                bucket.pending.poll()
        while self._next < len(self.buckets) and not self.buckets[self._next].missing:
            bucket = self.buckets[self._next]
            bucket.pending = self.group.begin_all_reduce(
                bucket.array, f"the gradients of bucket {self._next}"
            )
            self._next += 1


def _make_buckets(tensors: Sequence[Tensor], limit: int) -> list[Bucket]:
    """Divide tensors, in their order, into buckets of one dtype and about `limit` bytes."""
    parts: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        if not parts or size >= limit or tensor.dtype != parts[-1][0].dtype:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += tensor.size * tensor.dtype.itemsize
    return [Bucket(part) for part in parts]


def running_statistics(model: Module) -> list[Tensor]:
    """Return the running statistics of the batch normalisations of a model."""
    return [
        statistic
        for module in model.modules()
        if isinstance(module, BatchNorm)
        for statistic in (module.running_mean, module.running_var)
        if statistic is not None
    ]
