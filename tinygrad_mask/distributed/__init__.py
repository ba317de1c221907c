"""More than one process, on one machine or many: data-parallel training over MPI and NCCL.

`mpiexec -n 4 python FILE` starts four processes, the ranks. Each has a copy of the model and trains
it on a part of every batch; the gradients are averaged while the backward pass goes on, and all
copies make the same step. The engine is MPI, by mpi4py; between GPUs it is NCCL, by CuPy.

A `Trainer` does all of it by itself. In a loop of one's own:

    >>> from tinygrad_mask import distributed, functions as F, nn, optim
    >>> group = distributed.init()
    >>> model = distributed.DistributedDataParallel(nn.Linear(2, 1))
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> for inputs, targets in distributed.share(loader):
    ...     optimizer.zero_grad()
    ...     F.mse_loss(model(inputs), targets).backward()
    ...     optimizer.step()
    >>> if group.rank == 0:
    ...     tg.save(model.module.state_dict(), "model.safetensors")

A process that was started alone is a group of one: the same program runs as before, and loads no
MPI. `python -m tinygrad_mask.distributed FILE` runs a program such that a rank that is killed is
named and all others end. docs/distributed.md has the whole story.
"""

from tinygrad_mask.distributed.batch_norm import SyncBatchNorm, synchronise_batch_norm
from tinygrad_mask.distributed.data_parallel import DistributedDataParallel, broadcast_state
from tinygrad_mask.distributed.group import CommunicationCounts, Group, Pending, RankFailedError
from tinygrad_mask.distributed.launch import launched_rank, launched_size, supervised
from tinygrad_mask.distributed.reducer import GradientReducer, running_statistics
from tinygrad_mask.distributed.sampling import DistributedSampler, deal, part_of, share
from tinygrad_mask.distributed.world import (
    all_reduce,
    alone,
    barrier,
    broadcast,
    end_all,
    init,
    quiet,
    rank,
    size,
    world,
)

__all__ = [
    "CommunicationCounts",
    "DistributedDataParallel",
    "DistributedSampler",
    "GradientReducer",
    "Group",
    "Pending",
    "RankFailedError",
    "SyncBatchNorm",
    "all_reduce",
    "alone",
    "barrier",
    "broadcast",
    "broadcast_state",
    "deal",
    "end_all",
    "init",
    "launched_rank",
    "launched_size",
    "part_of",
    "quiet",
    "rank",
    "running_statistics",
    "share",
    "size",
    "supervised",
    "synchronise_batch_norm",
    "world",
]
