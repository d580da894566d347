"""Average the ranks' own gradients with DDP, which copies them into a bucket together.

It then divides by W, where the default multiplies by 1/W (D5). For unused parameters see
`torch_ddp`.
https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean", needs="torch>=2.12"
)
def torch_ddp_batched_grad_copy(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, batched_grad_copy=True)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
