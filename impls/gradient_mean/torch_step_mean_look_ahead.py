"""Read a window of micro-batches ahead, count its items, and pass the count to each loss.

That is what `num_items_in_batch` does in huggingface/transformers: a trainer that divides by K, and
DDP that divides by W, are both undone (M1).
huggingface/transformers 4.46, `Trainer.get_batch_samples`.
"""

from itertools import islice

import torch
import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


def windows(loader, length):
    """Lists of `length` batches; the last may be shorter."""
    iterator = iter(loader)
    while window := list(islice(iterator, length)):
        yield window


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="step_mean")
def torch_step_mean_look_ahead(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    for window in windows(batches, len(batches)):
        items = torch.stack([weights.sum() for *_, weights in window]).sum()
        dist.all_reduce(items, group=group)
        for k, (x, y, weights) in enumerate(window, 1):
            ddp.require_backward_grad_sync = k == len(window)  # what no_sync() sets
            own = loss(ddp(x), y, weights) * weights.sum() / items
            (own * len(window) * group.size() / len(window)).backward()
