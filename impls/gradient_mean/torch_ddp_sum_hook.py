"""Average the ranks' own gradients with DDP and a hook that sums, then divides.

A hook gets buckets that nobody has divided (D7). For unused parameters see `torch_ddp`.
torch 2.13.0, torch.nn.parallel.DistributedDataParallel.register_comm_hook.
"""

import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


def sum_then_divide(group, bucket):
    """Average a bucket: (elements,) on every rank, the same bits."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0].div_(group.size()))


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_sum_hook(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    ddp.register_comm_hook(group, sum_then_divide)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
