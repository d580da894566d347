"""Add up sums of losses in a hook of DDP's, which divides them by the step's items.

A hook gets buckets that nobody has divided (D7), and so there is no W to undo (M1).
torch 2.13.0, torch.nn.parallel.DistributedDataParallel.register_comm_hook.
"""

import torch
import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="step_mean")
def torch_step_mean_sum_hook(model, loss, batches, group):
    items = torch.stack([weights.sum() for *_, weights in batches]).sum()
    dist.all_reduce(items, group=group)

    def sum_then_divide(items, bucket):
        work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
        return work.get_future().then(lambda future: future.value()[0].div_(items))

    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    ddp.register_comm_hook(items, sum_then_divide)

    def backward(x, y, weights):
        (loss(ddp(x), y, weights) * weights.sum()).backward()

    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for batch in others:
            backward(*batch)
    backward(*last)
