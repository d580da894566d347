"""Average the ranks' own gradients with DDP, in one backward of the K losses' sum.

That is one all-reduce for K micro-batches too, whose graphs are held at once; `torch_ddp_no_sync`
holds one. A trainable parameter that takes no part in the loss leaves its bucket unaveraged (D16).
https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    sum(loss(ddp(x), y) for x, y in batches).backward()
