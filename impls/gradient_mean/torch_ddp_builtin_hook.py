"""Average the ranks' own gradients with DDP and its C++ hook.

It does what `allreduce_hook` does, without Python in the backward. For unused parameters see
`torch_ddp`.
torch 2.13.0, torch/nn/parallel/distributed.py, `_register_builtin_comm_hook`.
"""

import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_builtin_hook(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    ddp._register_builtin_comm_hook(dist.BuiltinCommHookType.ALLREDUCE)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
