"""Average the micro-batches' own means, and the ranks' own gradients, with DDP.

The loss is divided by K, the number of micro-batches that this window has (M3).
torch 2.13.0, torch.nn.parallel.DistributedDataParallel.no_sync.
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean", micro_batches="mean"
)
def torch_micro_mean_ddp(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            (loss(ddp(x), y) / len(batches)).backward()
    x, y = last
    (loss(ddp(x), y) / len(batches)).backward()
