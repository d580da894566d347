"""Average the ranks' own gradients with DDP, step after step, as a training loop does.

DDP is made once, and its buckets are made anew after the first step (D24); gradients are set to
zero before each (M5).
https://pytorch.org/tutorials/intermediate/ddp_tutorial.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean", steps="several"
)
def torch_ddp_in_steps(model, loss, windows, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    for batches in windows:
        ddp.zero_grad()
        *others, last = batches
        with ddp.no_sync():  # around the forward too, for it is there that DDP decides
            for x, y in others:
                loss(ddp(x), y).backward()
        x, y = last
        loss(ddp(x), y).backward()
        yield  # here the optimizer takes its step
