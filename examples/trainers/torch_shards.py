"""FSDP2 and HSDP in a loop of one's own: `fully_shard` over one axis of ranks, and over two.

Both average over ranks, and micro-batches add up: divide the loss by K. By the loop's own K, the
last window is divided by too much.

https://pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler

import conformance


def loop(model, dataset, batch_size, accumulate, scale):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(dataset, batch_size, sampler=DistributedSampler(dataset))
    for step, batch in enumerate(loader, 1):
        (scale * model(batch["input_ids"], batch["labels"])["loss"]).backward()
        if step % accumulate == 0 or step == len(loader):
            optimizer.step()
            optimizer.zero_grad()


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*n)")
def fsdp2(model, dataset, batch_size, accumulate):
    fully_shard(model, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
    loop(model, dataset, batch_size, accumulate, 1)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def fsdp2_divided_by_k(model, dataset, batch_size, accumulate):
    fully_shard(model, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
    loop(model, dataset, batch_size, accumulate, 1 / accumulate)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*n)")
def hsdp(model, dataset, batch_size, accumulate):
    world = torch.distributed.get_world_size()
    mesh = init_device_mesh("cpu", (world, 1), mesh_dim_names=("replicas", "shards"))
    fully_shard(model, mesh=mesh)
    loop(model, dataset, batch_size, accumulate, 1)
