"""Wrong code of public reports whose answers no mistake of the catalogue gives, or that has none.

conformance run --adapter tests/wrong/unnamed.py 'gradient_mean/torch_static_*'

It is caught all the same: tests/wrong/test_public_bugs.py says how.
"""

import torch
from torch.nn.parallel import DistributedDataParallel

import conformance


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank", steps="several")
def torch_static_graph_and_no_sync(model, loss, windows, group):
    # From the second step on nothing was all-reduced, without a word (pytorch/pytorch#187732);
    # torch 2.13 ends in an internal assertion.
    ddp = DistributedDataParallel(model, process_group=group, static_graph=True)
    for batches in windows:
        ddp.zero_grad()
        *others, (x, y) = batches
        with ddp.no_sync():
            for own, target in others:
                loss(ddp(own), target).backward()
        loss(ddp(x), y).backward()
        yield


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_unused_parameters_not_found(model, loss, batches, group):
    # A parameter without a gradient holds up its bucket (pytorch/pytorch#128949).
    ddp = DistributedDataParallel(model, process_group=group)
    torch.stack([loss(ddp(x), y) for x, y in batches]).sum().backward()
