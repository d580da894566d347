"""torchft: fault-tolerant DDP, each rank a replica group of its own.

As it comes (`init_sync=True`) all replicas but one fetch the first one's parameters during the
first step, and their batches of that step count nothing: it is divided by W all the same.

https://pytorch.org/torchft/
"""

from datetime import timedelta

import torch
import torchft
from torch.distributed import TCPStore
from torch.utils.data import DataLoader, DistributedSampler
from torchft.coordination import LighthouseServer

import conformance


def loop(model, dataset, batch_size, **options):
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    lighthouse = (
        LighthouseServer("127.0.0.1:0", world, join_timeout_ms=10_000) if not rank else None
    )
    address = [lighthouse.address() if lighthouse else None]
    torch.distributed.broadcast_object_list(address, src=0)
    store = TCPStore("127.0.0.1", 0, 1, is_master=True)
    manager = torchft.Manager(
        pg=torchft.ProcessGroupGloo(timeout=timedelta(seconds=30)),
        load_state_dict=model.load_state_dict,
        state_dict=model.state_dict,
        min_replica_size=world,
        replica_id=f"replica_{rank}",
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        lighthouse_addr=address[0],
        **options,
    )
    ddp = torchft.DistributedDataParallel(manager, model)
    optimizer = torchft.Optimizer(manager, torch.optim.SGD(model.parameters(), lr=1.0))
    for batch in DataLoader(dataset, batch_size, sampler=DistributedSampler(dataset)):
        optimizer.zero_grad()
        ddp(batch["input_ids"], batch["labels"])["loss"].backward()
        optimizer.step()
    torch.distributed.barrier()
    manager.shutdown()


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*n)")
def torchft_ddp(model, dataset, batch_size, accumulate):
    if accumulate > 1:
        raise NotImplementedError("no accumulation here")
    loop(model, dataset, batch_size, init_sync=False)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*n)")
def torchft_ddp_synchronised_first(model, dataset, batch_size, accumulate):
    if accumulate > 1:
        raise NotImplementedError("no accumulation here")
    loop(model, dataset, batch_size)
