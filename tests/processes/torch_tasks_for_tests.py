"""What the tests of the torch ranks run in them."""

import ctypes
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def total(payload, rank):
    tensor = torch.full((3,), payload * (rank.index + 1))
    dist.all_reduce(tensor, group=rank.group)
    return tensor.tolist()


def ddp(payload, rank):
    torch.manual_seed(payload)
    model = DistributedDataParallel(torch.nn.Linear(4, 2), process_group=rank.group)
    model(torch.full((3, 4), float(rank.index))).sum().backward()
    return model.module.weight.grad.tolist()


def where_am_i(payload, rank):
    return os.getpid(), rank.index, rank.size, dist.get_rank(rank.group), torch.get_num_threads()


def raise_on_one(payload, rank):
    if rank.index == 1:
        raise ValueError("bad shard")
    return total(1.0, rank)


def raise_on_all(payload, rank):
    raise ValueError("bad shard")


def exit_on_one(payload, rank):
    if rank.index == 1:
        os._exit(payload)
    return total(1.0, rank)


def kill_one(payload, rank):
    if rank.index == 0:
        os.kill(os.getpid(), payload)
    return total(1.0, rank)


def segfault_on_one(payload, rank):
    if rank.index == 1:
        ctypes.string_at(0)
    return total(1.0, rank)


def skip(payload, rank):
    if rank.index == 0:
        return "done"
    return total(1.0, rank)


def loop_on_one(payload, rank):
    while rank.index == 1:
        pass
    return total(1.0, rank)


def mismatch(payload, rank):
    tensor = torch.ones(4 * (rank.index + 1))
    dist.all_reduce(tensor, group=rank.group)
    return tensor.tolist()


def destroy(payload, rank):
    dist.destroy_process_group()
    return "destroyed"


def destroy_subgroup(payload, rank):
    dist.destroy_process_group(rank.group)
    return "destroyed"


def unmatched(payload, rank):
    """Rank 0 begins one collective more than the others, and does not wait for it."""
    answer = total(1.0, rank)
    if rank.index == 0:
        dist.all_reduce(torch.full((3,), 100.0), group=rank.group, async_op=True)
    return answer


def nap_then_raise(payload, rank):
    time.sleep(payload * rank.index)
    raise ValueError(rank.index)


def threads_of_the_fork_server(payload, rank):
    return len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def send_too_much(payload, rank):
    """Rank 0 sends once, and nobody takes it."""
    if rank.index == 0:
        dist.isend(torch.full((3,), 100.0), 1, group=rank.group)


def ring(payload, rank):
    """Every rank sends a number to the next one."""
    after, before = (rank.index + 1) % rank.size, (rank.index - 1) % rank.size
    sent, got = torch.full((3,), float(rank.index)), torch.zeros(3)
    works = [dist.isend(sent, after, group=rank.group), dist.irecv(got, before, group=rank.group)]
    for work in works:
        work.wait()
    return got.tolist()
