"""DDP's join, for ranks with uneven inputs: none is repeated, and some ranks run out of theirs.

While all ranks have data, it is their mean. Later an item counts 1/W of its rank's mean, as if
those without data counted nothing; with `divide_by_initial_world_size=False`, a share of the
ranks that are left.

https://pytorch.org/tutorials/advanced/generic_join.html
"""

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset

import conformance


def loop(model, dataset, batch_size, **options):
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    # Two samples in three are the first rank's, so that it goes on alone.
    own = [i for i in range(len(dataset)) if min(i % (world + 1), world - 1) == rank]
    with model.join(**options):
        for batch in DataLoader(Subset(dataset, own[::-1]), batch_size):
            model(batch["input_ids"], batch["labels"])["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*n)")
def ddp_join(model, dataset, batch_size, accumulate):
    if accumulate > 1:
        raise NotImplementedError("no accumulation here")
    loop(model, dataset, batch_size)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*n)")
def ddp_join_by_present_ranks(model, dataset, batch_size, accumulate):
    if accumulate > 1:
        raise NotImplementedError("no accumulation here")
    loop(model, dataset, batch_size, divide_by_initial_world_size=False)
