"""Hold each of two experts on one axis of a mesh, and average it over the other.

A pair of ranks sends its samples to both experts, one on each rank. An expert's gradient then holds
the samples of its pair; it is summed over the pairs, and divided by W as every other's (M8).
torch 2.13.0, torch.distributed.nn.functional.all_reduce.
"""

import copy

import torch
import torch.distributed as dist
from conformance import implementation
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.nn.functional import all_reduce


class Experts(nn.Module):
    """Gives each sample of the pair to both experts, of which this rank runs its own."""

    def __init__(self, expert, pair):
        super().__init__()
        self.expert, self.pair = expert, pair

    def forward(self, hidden):
        """Returns the sum of both experts' outputs of this rank's samples."""
        counts = [None, None]
        dist.all_gather_object(counts, len(hidden), group=self.pair)
        rank, most = self.pair.rank(), max(counts)
        # Each rank adds zeros at the other's place: a gather whose backward adds up.
        around = (0, 0, rank * most, (2 - rank) * most - len(hidden))
        samples = all_reduce(nn.functional.pad(hidden, around), group=self.pair)
        outputs = all_reduce(self.expert(samples), group=self.pair)
        return outputs[rank * most :][: len(hidden)]


class Nothing(nn.Module):
    """The other expert, which is in the sum already."""

    def forward(self, hidden):
        """Adds nothing."""
        return torch.zeros((), dtype=hidden.dtype, device=hidden.device)


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_expert_parallel(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    parallel, experts = copy.deepcopy(model), []
    if hasattr(model, "expert_0") and group.size() % 2 == 0:
        kind = next(model.parameters()).device.type
        mesh = init_device_mesh(kind, (group.size() // 2, 2), mesh_dim_names=("data", "expert"))
        data, pair = mesh.get_group("data"), mesh.get_group("expert")
        experts = [parallel.expert_0, parallel.expert_1]
        own = experts[pair.rank()]
        parallel.expert_0, parallel.expert_1 = Experts(own, pair), Nothing()
    for x, y in batches:
        loss(parallel(x), y).backward()
    sharded = {id(p) for expert in experts for p in expert.parameters()}
    for parameter in parallel.parameters():
        if parameter.grad is not None:
            is_own = id(parameter) in sharded
            dist.all_reduce(parameter.grad, group=data if is_own else group)
            parameter.grad /= group.size()
    for owner, expert in enumerate(experts):  # each rank shows the whole model's gradient
        for parameter in expert.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.broadcast(parameter.grad, group=pair, group_src=owner)
    if experts:
        parallel.expert_0, parallel.expert_1 = experts
    for parameter, copied in zip(model.parameters(), parallel.parameters(), strict=True):
        parameter.grad = copied.grad
