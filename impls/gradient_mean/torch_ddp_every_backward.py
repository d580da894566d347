"""Average the ranks' own gradients with DDP, in each of the K backwards.

A backward adds to what earlier ones left. That is the same on every rank, so that to average it
again changes nothing where no operation rounds; where one does, no_sync rounds less. For unused
parameters see `torch_ddp`.
https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_every_backward(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    for x, y in batches:
        loss(ddp(x), y).backward()
