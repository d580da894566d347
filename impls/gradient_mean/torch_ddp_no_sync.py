"""Average the ranks' own gradients with DDP, once, in the last of the K backwards.

For unused parameters see `torch_ddp`.
torch 2.13.0, torch.nn.parallel.DistributedDataParallel.no_sync.
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_no_sync(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
