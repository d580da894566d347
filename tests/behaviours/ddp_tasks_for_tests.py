"""What the tests of the probes of DistributedDataParallel run in the ranks: also broken ones."""

import copy
from contextlib import nullcontext
from unittest import mock

import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from conformance.behaviours import probe as probes


def ask(question, rank):
    place = probes.Place("torch_ddp", "cpu", rank.index, rank.size, rank.group)
    return dict(probes.run(question.probe, place, dict(question.arguments)))


def ask_broken(payload, rank):
    """Ask with a class of this module in the place of DistributedDataParallel."""
    name, question = payload
    with mock.patch(
        "conformance.behaviours.ddp.parts_probe.DistributedDataParallel", globals()[name]
    ):
        return ask(question, rank)


class Sums(DistributedDataParallel):
    """It never divides."""

    def __init__(self, module, **options):
        super().__init__(module, **options)
        dist._register_comm_hook(self.reducer, self.process_group, _sum)


def _sum(group, bucket):
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


class NeverAverages(DistributedDataParallel):
    def forward(self, *arguments):
        return self.module(*arguments)


class ForgetsToBroadcast(DistributedDataParallel):
    def __init__(self, module, init_sync=True, **options):
        super().__init__(module, init_sync=False, **options)


class AlwaysDivides(DistributedDataParallel):
    """It divides by W where it should multiply."""

    def __init__(self, module, **options):
        super().__init__(module, **options)
        dist._register_comm_hook(self.reducer, self.process_group, allreduce_hook)


class AlwaysSynchronises(DistributedDataParallel):
    def no_sync(self):
        return nullcontext()


class DecidesInTheBackward(DistributedDataParallel):
    """no_sync() around the backward alone keeps gradients apart."""

    def __init__(self, module, **options):
        super().__init__(module, **options)
        own = self

        def own_or_mean(group, bucket):
            if own.require_backward_grad_sync:
                return allreduce_hook(group, bucket)
            from torch.futures import Future

            future = Future()
            future.set_result(bucket.buffer())
            return future

        dist._register_comm_hook(self.reducer, self.process_group, own_or_mean)


class KeepsBuffersApart(DistributedDataParallel):
    def __init__(self, module, **options):
        super().__init__(module, **{**options, "forward_sync_buffers": False})


class SynchronisesAllBuffers(DistributedDataParallel):
    """It copies buffers before every forward, whatever came before."""

    def forward(self, *arguments):
        self.require_forward_param_sync = True
        return super().forward(*arguments)


class TakesEverything(DistributedDataParallel):
    """It overlooks devices."""

    def __init__(self, module, device_ids=None, output_device=None, **options):
        super().__init__(module, **options)


class FindsUnused(DistributedDataParallel):
    def __init__(self, module, **options):
        super().__init__(module, **{**options, "find_unused_parameters": True})


class DividesByItsUsers(DistributedDataParallel):
    """It gives a parameter that one rank used that rank's gradient, as it is."""

    def __init__(self, module, **options):
        super().__init__(module, **options)
        dist._register_comm_hook(self.reducer, self.process_group, _mean_of_users)


def _mean_of_users(group, bucket):
    users = (bucket.buffer() != 0).float()
    dist.all_reduce(users, group=group)
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0] / users.clamp(min=1))


class SplitsInputs(DistributedDataParallel):
    def forward(self, x):
        size = dist.get_world_size(self.process_group)
        return super().forward(x[dist.get_rank(self.process_group) % len(x) :: size])


class CopiesTheModule(DistributedDataParallel):
    def __init__(self, module, **options):
        super().__init__(copy.deepcopy(module), **options)


class NeverRebuilds(DistributedDataParallel):
    """Its bucket keeps the order in which parameters are registered."""

    def __init__(self, module, **options):
        super().__init__(module, **{**options, "find_unused_parameters": True})


class TakesManyHooks(DistributedDataParallel):
    def register_comm_hook(self, state, hook):
        if not self._comm_hooks:
            super().register_comm_hook(state, hook)
