"""Average the ranks' own gradients with DDP and `allreduce_hook`.

The hook divides by W, where the default multiplies by 1/W (D6). For unused parameters see
`torch_ddp`.
https://pytorch.org/docs/stable/ddp_comm_hooks.html
"""

from conformance import implementation
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_allreduce_hook(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    ddp.register_comm_hook(group, allreduce_hook)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
