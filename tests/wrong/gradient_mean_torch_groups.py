"""Averages in torch in which a term, an axis, an expert, a layer or one rank fares otherwise.

conformance run --adapter tests/wrong/gradient_mean_torch_groups.py 'gradient_mean/torch_expert*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart; `_terms`, `_gathered` and `_find_unused` say what the form promises. The same
mistakes in JAX stand in the same order in gradient_mean_jax_groups.py.
"""

import copy

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_one_count_for_all_terms(model, loss, batches, group):
    # num_items_in_batch is of the first head, and the whole loss is divided by it.
    ddp = _ddp(model, group)
    items = _items(batches, group)
    scale = group.size() / items[0]
    _backward(ddp, lambda *batch: sum(_sums(ddp, loss, *batch)) * scale, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_one_count_for_all_terms__boxes_alone_counted_over_ranks_terms(
    model, loss, batches, group
):
    # num_boxes is all-reduced; the loss of classes is a mean over what the rank has
    # (facebookresearch/detr#354).
    ddp = _ddp(model, group)
    num_boxes = _items(batches, group)[1]
    own = torch.stack([weights[0].sum() for *_, weights in batches]).sum().clamp(min=2.0**-8)

    def criterion(x, y, weights):
        classes, boxes = _sums(ddp, loss, x, y, weights)
        return classes / own + boxes * group.size() / num_boxes

    _backward(ddp, criterion, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_one_count_for_all_terms__second_head_by_its_micro_batch_terms(
    model, loss, batches, group
):
    # The main loss is divided by the tokens of the step, the second head's by those that it sees
    # (NVIDIA/Megatron-LM#7452).
    ddp = _ddp(model, group)
    tokens, k = _items(batches, group)[0], len(batches)

    def per_token(x, y, weights):
        main, second = ddp(x)
        scale = weights[0].sum() * group.size() / tokens
        return loss(main, y[0], weights[0]) * scale + loss(second, y[1], weights[1]) / k

    _backward(ddp, per_token, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean"
)
def torch_gathered_without_gradient__balance_loss_injected_gathered(model, loss, batches, group):
    # The loss of all ranks' routing is put into the backward by hand, for the rank's own samples
    # alone; the data-parallel mean takes its 1/W all the same (NVIDIA-NeMo/Automodel#1412).
    ddp = _ddp(model, group)

    def put_in(x, y):
        own = ddp(x)
        outputs = [torch.empty_like(own) for _ in range(group.size())]
        dist.all_gather(outputs, own.detach().contiguous(), group=group)
        mine = outputs[group.rank()].requires_grad_()
        whole = torch.cat(outputs)
        (owed,) = torch.autograd.grad(loss(whole, torch.zeros_like(whole)), mine)
        return (own * owed).sum()

    _backward(ddp, put_in, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_averaged_over_one_axis__divide_factor_of_the_shards(model, loss, batches, group):
    # The factor is the size of the shards' axis, as if replicas were averaged anyway; they are
    # summed (pytorch/pytorch#155903, since it was mended).
    sharded, _ = _hsdp(model, group)
    sharded.set_gradient_divide_factor(float(max(group.size() // 2, 1)))
    sharded.set_force_sum_reduction_for_comms(True)  # gloo has no sum that multiplies first
    scale = group.size() / _items(batches, group)[0]
    for k, (x, y, weights) in enumerate(batches, 1):
        sharded.set_requires_gradient_sync(k == len(batches))
        (loss(sharded(x), y, weights) * weights.sum() * scale).backward()
    _unshard(model, sharded)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_averaged_over_one_axis__replicas_averaged_after_the_factor(model, loss, batches, group):
    # A factor of 1 asks for sums: shards are summed, and replicas averaged (pytorch/pytorch#155903,
    # before it was mended).
    _start_alike(model, group)
    mesh = _mesh(model, group)
    items = _items(batches, group)[0]
    for x, y, weights in batches:
        (loss(model(x), y, weights) * weights.sum() / items).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=mesh.get_group("shard"))
            dist.all_reduce(parameter.grad, group=mesh.get_group("replicate"))
            parameter.grad /= mesh.size(0)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_experts_scaled_by_the_group(model, loss, batches, group):
    # Experts get the samples of both ranks of a pair, and are divided by the number of pairs
    # (NVIDIA/Megatron-LM#5956).
    _start_alike(model, group)
    mesh = _mesh(model, group)
    pair, data = mesh.get_group("shard"), mesh.get_group("replicate")
    dispatched = copy.copy(model)
    names = [name for name, _ in model.named_children() if name.startswith("expert")]
    owners = {name: place % pair.size() for place, name in enumerate(names)}
    dispatched._modules = {
        name: Dispatched(child, owners[name], pair) if name in owners else child
        for name, child in model.named_children()
    }
    for x, y in batches:
        loss(dispatched(x), y).backward()
    for name, parameter in model.named_parameters():
        owner = owners.get(name.partition(".")[0])
        if parameter.grad is None and owner is None:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        own = group if owner is None else data
        dist.all_reduce(parameter.grad, group=own)
        parameter.grad /= own.size()
        if owner is not None:  # each rank shows the whole model's gradient
            dist.broadcast(parameter.grad, group=pair, group_src=owner)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_moved_after_wrapping__head_replaced(model, loss, batches, group):
    # A new head is put in when DDP has been made: its gradient stays where it is.
    ddp = _ddp(model, group)
    name, head = [named for named in model.named_children() if [*named[1].parameters()]][-1]
    setattr(model, name, copy.deepcopy(head))
    _backward(ddp, lambda x, y: loss(ddp(x), y), batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_moved_after_wrapping__unfrozen_later(model, loss, batches, group):
    # The trunk is frozen when DDP is made, and unfrozen for the second stage of the training.
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trunk = trainable[:-2]
    for parameter in trunk:
        parameter.requires_grad_(requires_grad=False)
    ddp = _ddp(model, group)
    for parameter in trunk:
        parameter.requires_grad_(requires_grad=True)
    _backward(ddp, lambda x, y: loss(ddp(x), y), batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_used_in_an_earlier_micro_batch__find_unused(model, loss, batches, group):
    # What the last backward reaches is reduced, and nothing else (pytorch/pytorch#69031; the DDP of
    # torch 2.13 reduces what no_sync() accumulated, too).
    _start_alike(model, group)
    reached = set()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda tensor: reached.add(id(tensor)))
    for x, y in batches:
        reached.clear()
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if id(parameter) in reached:
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= group.size()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_loss_scale_of_its_own(model, loss, batches, group):
    # DDP averages scaled gradients; each rank divides by its own scale (pytorch/pytorch#136009).
    ddp = _ddp(model, group)
    scale = 2.0 ** group.rank()
    _backward(ddp, lambda x, y: loss(ddp(x), y) * scale, batches)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= scale


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_step_skipped_by_one_rank(model, loss, batches, group):
    # One rank reads its overflow flag before the flags are reduced (pytorch/pytorch#115710).
    ddp = _ddp(model, group)
    _backward(ddp, lambda x, y: loss(ddp(x), y), batches)
    if group.rank() == group.size() - 1:
        model.zero_grad()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank", clip="norm")
def torch_clipped_in_every_micro_batch(model, loss, batches, group):
    # Clipped after every backward, not once before the step (facebookresearch/lingua#59).
    _start_alike(model, group)
    averaged = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for x, y in batches:
        model.zero_grad()
        loss(model(x), y).backward()
        for parameter, so_far in zip(model.parameters(), averaged, strict=True):
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad, group=group)
                parameter.grad = so_far.add_(parameter.grad / group.size())
        clip_grad_norm_(model.parameters(), 1.0)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank", clip="norm")
def torch_norm_summed_over_replicas(model, loss, batches, group):
    # Squares of the norm are summed over the whole mesh, replicas and all
    # (ByteDance-Seed/VeOmni#184).
    sharded, _ = _hsdp(model, group)
    for k, (x, y) in enumerate(batches, 1):
        sharded.set_requires_gradient_sync(k == len(batches))
        loss(sharded(x), y).backward()
    grads = [p.grad.to_local() for p in sharded.parameters() if p.grad is not None]
    squares = torch.stack([grad.square().sum() for grad in grads]).sum()
    dist.all_reduce(squares, group=group)
    for grad in grads:
        grad.mul_((1.0 / (squares.sqrt() + 1e-6)).clamp(max=1.0))
    _unshard(model, sharded)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean", batch="whole"
)
def torch_statistics_of_ranks_averaged(model, loss, batches, group):
    # Means and mean squares are all-reduced and divided by W, as if all ranks had as many samples
    # (PaddlePaddle/Paddle#32464, google/flax#2417, pytorch/pytorch#22192).
    synced = copy.copy(model)
    synced._modules = {
        name: AveragedNorm(child, group)
        if isinstance(child, nn.BatchNorm1d) and child.training
        else child
        for name, child in model.named_children()
    }
    ddp = _ddp(synced, group)
    samples = torch.tensor([len(x) for x, _ in batches])
    dist.all_reduce(samples, group=group)
    shares = iter([len(x) / n for (x, _), n in zip(batches, samples.tolist(), strict=True)])
    _backward(ddp, lambda x, y: loss(ddp(x), y) * (next(shares) * group.size()), batches)


class AveragedNorm(nn.Module):
    """A batch norm whose statistics are the mean of the ranks' statistics."""

    def __init__(self, norm, group):
        super().__init__()
        self.norm, self.group = norm, group

    def forward(self, x):
        mean = all_reduce(x.mean(0), group=self.group) / self.group.size()
        square = all_reduce((x - mean).square().mean(0), group=self.group) / self.group.size()
        return (x - mean) / (square + self.norm.eps).sqrt() * self.norm.weight + self.norm.bias


class Dispatched(nn.Module):
    """An expert to which both ranks of a pair send their samples, and which one of them runs."""

    def __init__(self, expert, owner, pair):
        super().__init__()
        self.expert, self.owner, self.pair = expert, owner, pair

    def forward(self, hidden):
        counts = [None] * self.pair.size()
        dist.all_gather_object(counts, len(hidden), group=self.pair)
        rank, most = self.pair.rank(), max(counts)
        around = (0, 0, rank * most, (len(counts) - rank) * most - len(hidden))
        samples = all_reduce(nn.functional.pad(hidden, around), group=self.pair)
        outputs = samples[:, : self.expert.out_features] * 0
        if rank == self.owner:
            outputs = self.expert(samples)
        outputs = all_reduce(outputs, group=self.pair)
        return outputs[rank * most :][: len(hidden)]


def _sums(model, loss, x, y, weights):
    """Each head's sum over its items: their mean, times what it was divided by."""
    terms = zip(model(x), y, weights, strict=True)
    return [loss(output, target, w) * w.sum() for output, target, w in terms]


def _items(batches, group):
    """All ranks' items of the window, of each head."""
    several = [w if isinstance(w, tuple) else (w,) for *_, w in batches]
    items = torch.stack([torch.stack([w.sum() for w in weights]) for weights in several]).sum(0)
    dist.all_reduce(items, group=group)
    return items


def _mesh(model, group):
    replicas = 2 if group.size() % 2 == 0 else 1
    sizes = (replicas, group.size() // replicas)
    kind = next(model.parameters()).device.type
    return init_device_mesh(kind, sizes, mesh_dim_names=("replicate", "shard"))


def _hsdp(model, group):
    _start_alike(model, group)
    mesh = _mesh(model, group)
    return fully_shard(copy.deepcopy(model), mesh=mesh), mesh


def _unshard(model, sharded):
    for parameter, shard in zip(model.parameters(), sharded.parameters(), strict=True):
        if shard.grad is not None:
            parameter.grad = shard.grad.full_tensor()


def _start_alike(model, group):
    """Every rank has rank 0's parameters and buffers."""
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)


def _ddp(model, group):
    return DistributedDataParallel(model, process_group=group, find_unused_parameters=True)


def _backward(ddp, loss_of, batches):
    """The right accumulation: ranks are averaged once, in the last backward."""
    *others, last = batches
    with ddp.no_sync():
        for batch in others:
            loss_of(*batch).backward()
    loss_of(*last).backward()
