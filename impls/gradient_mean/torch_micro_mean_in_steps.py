"""Average micro-batches and ranks with DDP, step after step, the last of which may be shorter.

K is the number of micro-batches that the window has, which at the end of an epoch are fewer (M3).
https://pytorch.org/tutorials/intermediate/ddp_tutorial.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation(
    "gradient_mean",
    framework="torch",
    runs="per_rank",
    promise="rank_mean",
    micro_batches="mean",
    steps="several",
)
def torch_micro_mean_in_steps(model, loss, windows, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    for batches in windows:
        ddp.zero_grad()
        *others, last = batches
        with ddp.no_sync():  # around the forward too, for it is there that DDP decides
            for x, y in others:
                (loss(ddp(x), y) / len(batches)).backward()
        x, y = last
        (loss(ddp(x), y) / len(batches)).backward()
        yield  # here the optimizer takes its step
