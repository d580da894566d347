"""Average the ranks' own gradients with DDP, by one all-reduce for each parameter.

A bucket of one byte is full with its first gradient. For unused parameters see `torch_ddp`.
https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_tiny_buckets(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, bucket_cap_mb=1e-6)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
