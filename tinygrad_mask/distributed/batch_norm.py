"""Batch normalisation over the batches of all ranks together.

    mean = 1/M sum_r sum_i x_ri          variance = 1/M sum_r sum_i (x_ri - mean)^2

with M the number of values per channel on all ranks. Both sums are taken over the ranks in the
forward pass, and so are their gradients in the backward pass. The first pass subtracts a mean
before it squares, as the usual formula E[x^2] - E[x]^2 would lose half of the digits.
"""

import math
from typing import Any

import numpy as np

from tinygrad_mask.autograd import Function, Node
from tinygrad_mask.backends import Array
from tinygrad_mask.distributed.group import Group
from tinygrad_mask.distributed.world import world
from tinygrad_mask.nn import BatchNorm, Module
from tinygrad_mask.tensor import Tensor


class SyncBatchNorm(BatchNorm):
    """`nn.BatchNorm` whose statistics in training are those of the batches of all ranks.

    It makes N ranks with a small batch each normalise as one process with the whole batch does. It
    waits for the other ranks two times in each pass; `nn.GroupNorm` needs no other examples. A
    group of one is `nn.BatchNorm`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., num_features) to the same shape."""
        group = world()
        if not self.training or group.size == 1:
            return super().forward(x)
        axes = tuple(range(x.ndim - 1))
        examples, values = len(x), math.prod(x.shape[:-1])
        count = group.all_reduce(values)
        mean = _sum_over_ranks(x.sum(axis=axes), group, examples) / count
        centred = x - mean
        variance = _sum_over_ranks((centred * centred).sum(axis=axes), group, examples) / count
        if self.running_mean is not None and self.running_var is not None:
            momentum = self.momentum
            if momentum is None:
                momentum = self._count_batch()
            unbiased = variance.data * (count / max(count - 1, 1))
            for running, target in ((self.running_mean, mean.data), (self.running_var, unbiased)):
                running.copy_((1 - momentum) * running.data + momentum * target)
        normalised = centred * (variance + self.eps) ** -0.5
        if self.weight is not None and self.bias is not None:
            normalised = normalised * self.weight + self.bias
        return normalised

    def describe(self) -> str:
        """Return the name with what `nn.BatchNorm` says."""
        return f"Sync{super().describe()}"


def synchronise_batch_norm(model: Module) -> Module:
    """Replace every `nn.BatchNorm` in a model by a `SyncBatchNorm` with the same tensors.

    Returns the model, or what replaces it if it is a batch normalisation itself.
    """
    if type(model) is BatchNorm:
        synchronised = SyncBatchNorm.__new__(SyncBatchNorm)
        vars(synchronised).update(vars(model))
        return synchronised
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is BatchNorm:
                setattr(module, name, synchronise_batch_norm(child))
    return model


class SumOverRanks(Function):
    """The sum of an array over all ranks.

    Every rank's loss is the mean over its own n_r examples, and the loss of all is the mean of
    these weighted by n_r, which the reducer applies to the gradients of rank r at the end. Here the
    gradients of all ranks meet earlier, so they are weighted on the way in, and this rank's weight
    is divided out again.
    """

    name = "sum_over_ranks"

    @staticmethod
    def forward(ctx: Node, x: Array, group: Group, examples: int) -> Array:
        """See `Function`."""
        ctx.group, ctx.examples = group, examples
        return group.all_reduce(x)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Any:
        """See `Function`."""
        total = ctx.group.all_reduce(grad_output * grad_output.dtype.type(ctx.examples))
        return total / total.dtype.type(ctx.examples)


def _sum_over_ranks(x: Tensor, group: Group, examples: int) -> Tensor:
    return SumOverRanks.apply(x, group=group, examples=np.float64(examples))
