"""Differentiate a loss of all ranks' outputs, gathered with autograd, with DDP.

The gather's backward adds up what every rank's loss owes to this rank's outputs, W times the
gradient, which DDP's mean divides by W (M6). A loss of single samples comes out right too.
torch 2.13.0, torch.distributed.nn.functional.all_gather.
"""

import torch
import torch.distributed as dist
from conformance import implementation
from torch.distributed.nn.functional import all_gather
from torch.nn.parallel import DistributedDataParallel


def whole(tensor, group):
    """All ranks' samples, of unlike numbers, in the order of the ranks."""
    counts = [None] * group.size()
    dist.all_gather_object(counts, len(tensor), group=group)
    padded = torch.nn.functional.pad(tensor.movedim(0, -1), (0, max(counts) - len(tensor))).movedim(
        -1, 0
    )
    pieces = all_gather(padded.contiguous(), group=group)
    return torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="sample_mean")
def torch_ddp_gathered(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)

    def gathered(values):
        if isinstance(values, tuple):
            return tuple(map(gathered, values))
        return whole(values, group)

    for k, (x, y) in enumerate(batches, 1):
        ddp.require_backward_grad_sync = k == len(batches)  # what no_sync() sets
        loss(gathered(ddp(x)), gathered(y)).backward()
