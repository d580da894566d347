"""Divide each term of a loss by its own number of items, with DDP.

The heads' items are counted apart, over all ranks and micro-batches, in one all-reduce; a single
count for both terms would scale one of them by the quotient of the two (M7).
torch 2.13.0, torch.distributed.all_reduce.
"""

import torch
import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="step_mean")
def torch_step_mean_terms(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)

    def by_term(values):
        return values if isinstance(values, tuple) else (values,)

    def whole(k, x, y, weights):
        ddp.require_backward_grad_sync = k == len(batches)  # what no_sync() sets
        if not isinstance(weights, tuple):
            return [(ddp(x), y, weights)]  # one count, whatever the loss adds up
        return zip(ddp(x), y, weights, strict=True)

    own = [torch.stack([w.sum() for w in by_term(weights)]) for *_, weights in batches]
    items = torch.stack(own).sum(0)
    dist.all_reduce(items, group=group)
    for k, batch in enumerate(batches, 1):
        terms = zip(whole(k, *batch), items, strict=True)
        sum(loss(*term) * (term[-1].sum() * group.size() / n) for term, n in terms).backward()
