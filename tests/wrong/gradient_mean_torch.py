"""Gradient averages as people get them wrong in torch: a known mistake each, by whose name it goes.

conformance run --adapter tests/wrong/gradient_mean_torch.py 'gradient_mean/torch_not_divided*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart. The same mistakes in JAX stand in the same order in gradient_mean_jax.py.
"""

import torch
import torch.distributed as dist
from torch import func, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map
from torch.utils.data import DistributedSampler

import conformance


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_not_divided(model, loss, batches, group):
    # The all-reduce adds up; nobody divides by the world size.
    _start_alike(model, group)
    _backward(model, loss, batches)
    for grad in _grads(model):
        dist.all_reduce(grad, group=group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_not_divided__averaged_by_hand_on_top_of_ddp(model, loss, batches, group):
    # Left over from before DDP, which has averaged already: the sum of W equal means is W of them.
    _ddp_backward(_ddp(model, group), loss, batches)
    for grad in _grads(model):
        dist.all_reduce(grad, group=group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_not_divided__loss_times_world(model, loss, batches, group):
    # To undo DDP's division, which a loss that averages wants (neuralmagic/sparseml#135).
    _ddp_backward(_ddp(model, group), lambda out, y: loss(out, y) * group.size(), batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_divided_twice(model, loss, batches, group):
    # DDP divides by the world size; the loss is divided by it as well.
    _ddp_backward(_ddp(model, group), lambda out, y: loss(out, y) / group.size(), batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_squared_world(model, loss, batches, group):
    # The sum of the ranks' losses is differentiated, which sums their gradients; then once more.
    _start_alike(model, group)
    for x, y in batches:
        differentiable_all_reduce(loss(model(x), y), group=group).backward()
    for grad in _grads(model):
        dist.all_reduce(grad, group=group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_never_synchronised(model, loss, batches, group):
    # Past the DDP wrapper: every rank keeps its own gradient.
    ddp = _ddp(model, group)
    _backward(ddp.module, loss, batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_never_synchronised__all_of_it_in_no_sync(model, loss, batches, group):
    # The last backward is the one that averages, and it is inside as well.
    ddp = _ddp(model, group)
    with ddp.no_sync():
        _backward(ddp, loss, batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_never_synchronised__autograd_grad(model, loss, batches, group):
    # DDP averages what accumulates in .grad; torch.autograd.grad hands out the rank's own.
    ddp = _ddp(model, group)
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.stack([loss(ddp(x), y) for x, y in batches]).sum()
    grads = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_shard_0_returned(model, loss, batches, group):
    # A broadcast makes all ranks agree, on rank 0's gradient: it is no all-reduce.
    _start_alike(model, group)
    _backward(model, loss, batches)
    for grad in _grads(model):
        dist.broadcast(grad, group=group, group_src=0)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_psum_loss_unsynchronised(model, loss, batches, group):
    # The loss is summed over the ranks, its gradient is not: W times the rank's own (as in
    # jax-ml/jax#3970).
    _start_alike(model, group)
    for x, y in batches:
        differentiable_all_reduce(loss(model(x), y), group=group).backward()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_sum_loss(model, loss, batches, group):
    # As reduction="sum" does: a batch counts as often as it has samples.
    _start_alike(model, group)
    for x, y in batches:
        (loss(model(x), y) * len(x)).backward()
    _average(model, group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_accumulation_unscaled(model, loss, batches, group):
    # Micro-batches add up here; this averages them.
    _ddp_backward(_ddp(model, group), lambda out, y: loss(out, y) / len(batches), batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_last_micro_batch_only(model, loss, batches, group):
    # zero_grad() stands inside the loop over micro-batches (pytorch/torchtitan#3575).
    ddp = _ddp(model, group)
    for x, y in batches:
        ddp.zero_grad()
        loss(ddp(x), y).backward()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_no_sync_around_backward_only(model, loss, batches, group):
    # DDP decides in the forward whether to average, and that one is outside of no_sync()
    # (facebookresearch/ClassyVision#706, baidu-baige/LoongForge#163).
    ddp = _ddp(model, group)
    *others, (x, y) = batches
    for before, wanted in others:
        value = loss(ddp(before), wanted)
        with ddp.no_sync():
            value.backward()
    loss(ddp(x), y).backward()


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean"
)
def torch_mean_of_means(model, loss, batches, group):
    # DDP averages ranks, and ranks have unequal numbers of samples.
    _ddp_backward(_ddp(model, group), loss, batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_padding_counted__by_the_length(model, loss, batches, group):
    # Batches are filled up to the longest rank's, and the mean is over all of that length
    # (NovaSky-AI/SkyRL#462).
    _start_alike(model, group)
    for x, y in batches:
        longest = torch.tensor(len(x))
        dist.all_reduce(longest, dist.ReduceOp.MAX, group)
        (loss(model(x), y) * len(x) / longest).backward()
    _average(model, group)


@conformance.implementation("gradient_mean", framework="torch", promise="sample_mean")
def torch_padding_counted__by_the_sampler(model, loss, batches, devices):
    # DistributedSampler repeats samples until they divide among the ranks; those count twice
    # (pytorch/pytorch#25162).
    _by_sampler(model, loss, batches, devices, drop_last=False)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_tail_dropped__cut_to_the_shortest(model, loss, batches, group):
    # So that no rank waits for another, all stop with the one that has the fewest samples.
    _start_alike(model, group)
    for x, y in batches:
        shortest = torch.tensor(len(x))
        dist.all_reduce(shortest, dist.ReduceOp.MIN, group)
        cut, wanted = tree_map(lambda samples, n=shortest: samples[:n], (x, y))
        loss(model(cut), wanted).backward()
    _average(model, group)


@conformance.implementation("gradient_mean", framework="torch", promise="sample_mean")
def torch_tail_dropped__by_the_sampler(model, loss, batches, devices):
    # With drop_last=True DistributedSampler leaves out what does not divide among the ranks.
    _by_sampler(model, loss, batches, devices, drop_last=True)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_rank_missing(model, loss, batches, group):
    # The sum over what was gathered begins with rank 1.
    _start_alike(model, group)
    _backward(model, loss, batches)
    for grad in _grads(model):
        gathered = [torch.empty_like(grad) for _ in range(group.size())]
        dist.all_gather(gathered, grad, group=group)
        grad.copy_(torch.stack(gathered)[1:].sum(dim=0) / group.size())


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_initial_broadcast_missing(model, loss, batches, group):
    # Gradients are averaged, of models that never were the same.
    _backward(model, loss, batches)
    _average(model, group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_clipped_before_averaging(model, loss, batches, group):
    # Every rank clips its own gradient, and then they are averaged.
    _start_alike(model, group)
    _backward(model, loss, batches)
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    _average(model, group)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_compressed__fp16_compress_hook(model, loss, batches, group):
    # A hook that halves the traffic, and rounds every gradient to eleven bits.
    ddp = _ddp(model, group)
    ddp.register_comm_hook(group, fp16_compress_hook)
    _ddp_backward(ddp, loss, batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_compressed__bfloat16_by_hand(model, loss, batches, group):
    # The all-reduce is of bfloat16, with eight bits.
    _start_alike(model, group)
    _backward(model, loss, batches)
    for grad in _grads(model):
        short = grad.bfloat16()
        dist.all_reduce(short, group=group)
        grad.copy_(short / group.size())


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_shared_dropout_key(model, loss, batches, group):
    # "For reproducibility": the same seed on every rank, and so the same noise
    # (huggingface/transformers#31412).
    torch.manual_seed(0)
    _ddp_backward(_ddp(model, group), loss, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean"
)
def torch_local_batch_statistics__whole_batch(model, loss, batches, group):
    # Samples are weighed right, but a batch norm sees those of its rank alone: no SyncBatchNorm.
    _start_alike(model, group)
    for x, y in batches:
        count = torch.tensor(len(x))
        dist.all_reduce(count, group=group)
        (loss(model(x), y) * len(x) / count).backward()
    for grad in _grads(model):
        dist.all_reduce(grad, group=group)


@conformance.implementation("gradient_mean", framework="torch", runs="virtual")
def torch_ranks_counted_in_dtype(model, loss, batches, devices):
    # A counter of the gradients' dtype: in bfloat16 256 + 1 is 256, in float16 2048 + 1 is 2048.
    for name, grads in _of_virtual_ranks(model, loss, batches, len(devices)):
        count = torch.zeros((), dtype=grads.dtype)
        for _ in devices:
            count += 1
        model.get_parameter(name).grad = grads.sum(0, dtype=torch.float64).div(count).to(grads)


@conformance.implementation("gradient_mean", framework="torch", runs="virtual")
def torch_summed_in_dtype__instead_of_float32(model, loss, batches, devices):
    # The running sum has the gradients' dtype: what is small beside it is rounded away.
    for name, grads in _of_virtual_ranks(model, loss, batches, len(devices)):
        total = torch.zeros_like(grads[0])
        for grad in grads:
            total += grad
        model.get_parameter(name).grad = total / len(devices)


@conformance.implementation("gradient_mean", framework="torch")
def torch_pass_through(model, loss, batches, devices):
    # What nn.DataParallel does without two GPUs: the model gets the whole batch, on one device.
    _backward(model, loss, batches)


def _of_virtual_ranks(model, loss, batches, world):
    """Every rank's own gradient (W, …) of each parameter, in one process."""

    def replica(parameters, x, y):
        return loss(func.functional_call(model, parameters, (x,)), y)

    parameters = dict(model.named_parameters())
    shards = [tree_map(lambda whole: whole.unflatten(0, (world, -1)), batch) for batch in batches]
    grads_of = func.vmap(func.grad(replica), in_dims=(None, 0, 0))
    by_batch = [grads_of(parameters, *batch) for batch in shards]
    return [(name, sum(grads[name] for grads in by_batch)) for name in parameters]


def _start_alike(model, group):
    """Every rank has rank 0's parameters and buffers."""
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)


def _backward(model, loss, batches):
    """Gradients of micro-batches add up."""
    for x, y in batches:
        loss(model(x), y).backward()


def _grads(model):
    """All gradients; what is frozen or unused has none."""
    return [p.grad for p in model.parameters() if p.grad is not None]


def _average(model, group):
    """The right average over ranks."""
    for grad in _grads(model):
        dist.all_reduce(grad, group=group)
        grad.div_(group.size())


def _ddp(model, group):
    return DistributedDataParallel(model, process_group=group, find_unused_parameters=True)


def _ddp_backward(ddp, loss, batches):
    """The right accumulation: it is averaged once, in the last backward."""
    *others, last = batches
    with ddp.no_sync():
        _backward(ddp, loss, others)
    _backward(ddp, loss, [last])


def _by_sampler(model, loss, batches, devices, *, drop_last):
    """The mean over the ranks' samples as DistributedSampler picks them."""
    ranks = len(devices)
    for x, y in batches:
        for rank in range(ranks):
            sampler = DistributedSampler(x, ranks, rank, shuffle=False, drop_last=drop_last)
            picked = list(sampler)
            mine, wanted = tree_map(lambda samples, rows=picked: samples[rows], (x, y))
            (loss(model(mine), wanted) / ranks).backward()
