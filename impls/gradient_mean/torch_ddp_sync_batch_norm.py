"""Give batch norms the whole batch's statistics, and weigh each rank's loss by its samples.

Sums and counts are reduced with autograd, so that a sample counts the same on whatever rank it is
(M11). `nn.SyncBatchNorm` does so on accelerators; it refuses tensors of a CPU (D23).
torch 2.13.0, torch.distributed.nn.functional.all_reduce.
"""

import copy

import torch
import torch.distributed as dist
from conformance import implementation
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel


class SyncNorm(nn.Module):
    """A batch norm in training, with sums over all ranks' samples; x is (n, C)."""

    def __init__(self, norm, group):
        super().__init__()
        self.norm, self.group = norm, group

    def forward(self, x):
        """Takes two reductions: of the sum, and of the squares about the mean."""
        count = torch.tensor(float(len(x)), device=x.device, dtype=x.dtype)
        dist.all_reduce(count, group=self.group)
        centred = x - all_reduce(x.sum(0), group=self.group) / count
        variance = all_reduce(centred.square().sum(0), group=self.group) / count
        normal = centred / (variance + self.norm.eps).sqrt()
        return normal * self.norm.weight + self.norm.bias


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean", batch="whole"
)
def torch_ddp_sync_batch_norm(model, loss, batches, group):
    synced = copy.copy(model)  # the same parameters under other modules
    synced._modules = {
        name: SyncNorm(child, group)
        if isinstance(child, nn.BatchNorm1d) and child.training
        else child
        for name, child in model.named_children()
    }
    ddp = DistributedDataParallel(synced, process_group=group, find_unused_parameters=True)
    samples = torch.tensor([len(x) for x, _ in batches])
    dist.all_reduce(samples, group=group)
    for k, ((x, y), total) in enumerate(zip(batches, samples.tolist(), strict=True), 1):
        ddp.require_backward_grad_sync = k == len(batches)  # what no_sync() sets
        (loss(ddp(x), y) * (len(x) * group.size() / total)).backward()
