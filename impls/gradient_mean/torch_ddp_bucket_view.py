"""Average the ranks' own gradients with DDP, in the buckets where they lie.

`gradient_as_bucket_view` saves a copy of every gradient. For unused parameters see `torch_ddp`.
https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_bucket_view(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, gradient_as_bucket_view=True)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
