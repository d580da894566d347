"""DDP in a loop of one's own, with no_sync and every micro-batch's loss divided by K.

Written as most people write it: the last window is divided by the K of a full one.

https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from contextlib import nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import conformance


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def ddp(model, dataset, batch_size, accumulate):
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(dataset, batch_size, sampler=DistributedSampler(dataset))
    for step, batch in enumerate(loader, 1):
        is_last = step % accumulate == 0 or step == len(loader)
        with nullcontext() if is_last else model.no_sync():
            loss = model(batch["input_ids"], batch["labels"])["loss"]
            (loss / accumulate).backward()
        if is_last:
            optimizer.step()
            optimizer.zero_grad()
