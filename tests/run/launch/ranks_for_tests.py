"""Implementations for launches: a right one, and some that fail on one rank."""

import os
import signal

import torch.distributed as dist

import conformance


def _averaged(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= group.size()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def a_rank_raises(model, loss, batches, group):
    if group.rank() == 2:
        raise ValueError("rank two is tired")
    _averaged(model, loss, batches, group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def b_rank_dies(model, loss, batches, group):
    if group.rank() == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    _averaged(model, loss, batches, group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def c_more_collectives(model, loss, batches, group):
    _averaged(model, loss, batches, group)
    if group.rank() == 0:
        dist.all_reduce(next(model.parameters()).detach().clone(), group=group, async_op=True)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def d_right(model, loss, batches, group):
    _averaged(model, loss, batches, group)
