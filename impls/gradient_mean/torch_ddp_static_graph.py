"""Average the ranks' own gradients with DDP, which looks at the graph once.

`static_graph` allows unused parameters without searching for them.
https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_static_graph(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, static_graph=True)
    sum(loss(ddp(x), y) for x, y in batches).backward()
