"""Average the ranks' own gradients with DDP and `post_localSGD_hook`, before it turns local.

In the first `start_localSGD_iter` steps the hook averages over all ranks; this is the first. For
unused parameters see `torch_ddp`.
https://pytorch.org/docs/stable/ddp_comm_hooks.html
"""

from conformance import implementation
from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import (
    PostLocalSGDState,
    post_localSGD_hook,
)
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_post_local_sgd_hook(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    state = PostLocalSGDState(group, subgroup=group, start_localSGD_iter=1)
    ddp.register_comm_hook(state, post_localSGD_hook)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
