"""Means over whole steps and over micro-batches as people get them wrong in torch.

conformance run --adapter tests/wrong/gradient_mean_torch_steps.py 'gradient_mean/torch_local_*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart. The same mistakes in JAX stand in the same order in gradient_mean_jax_steps.py.
"""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_divided_twice__by_the_count_and_by_ddp(model, loss, batches, group):
    # Gradients are divided by the count of all ranks; DDP has divided by W (torchtune#2172).
    ddp = _ddp(model, group)
    items = _over_ranks(_items(batches), group)
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) / items, batches)


@conformance.implementation("gradient_mean", framework="torch", promise="step_mean")
def torch_divided_twice__replicas_averaged_again(model, loss, batches, devices):
    # In one process: each replica divides by the count of all, and the replicas' losses are
    # averaged (huggingface/transformers#37474).
    items = _items(batches)
    for batch in batches:
        replicas = zip(*(part.chunk(len(devices)) for part in batch), strict=True)
        losses = [_sum(model, loss, *part) / items for part in replicas]
        (torch.stack(losses).sum() / len(devices)).backward()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_never_synchronised__flag_set_after_the_forward(model, loss, batches, group):
    # DDP reads the flag in forward, the loop sets it for backward (karpathy/build-nanogpt#30).
    ddp = _ddp(model, group)
    ddp.require_backward_grad_sync = False
    for k, (x, y) in enumerate(batches, 1):
        own = loss(ddp(x), y)
        ddp.require_backward_grad_sync = k == len(batches)
        own.backward()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_never_synchronised__shards_of_size_one(model, loss, batches, group):
    # fsdp_size = 1 on several GPUs: shards of size one, and no all-reduce (verl-project/verl#7493).
    _start_alike(model, group)
    alone = dist.new_subgroups_by_enumeration([[rank] for rank in range(group.size())])[0]
    ddp = _ddp(model, alone)
    _backward(ddp, lambda x, y: loss(ddp(x), y), batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank", steps="several")
def torch_never_synchronised__from_the_second_step_on(model, loss, windows, group):
    # What static_graph with no_sync() does where it does not raise: after the first step nothing is
    # all-reduced any more (pytorch/pytorch#187732).
    ddp = _ddp(model, group)
    for step, batches in enumerate(windows):
        ddp.zero_grad()
        ddp.require_backward_grad_sync = step == 0
        for x, y in batches:
            loss(ddp(x), y).backward()
        yield


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_sum_loss__of_tokens(model, loss, batches, group):
    # Sums are differentiated, and the count is dropped on the way (radixark/miles#3231).
    ddp = _ddp(model, group)
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch), batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_sum_loss__of_tokens_averaged_over_micro_batches(model, loss, batches, group):
    # "A later stage normalises", which this trainer has not (AI-Hypercomputer/maxtext#3040).
    ddp = _ddp(model, group)
    k = len(batches)
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) / k, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", micro_batches="mean"
)
def torch_accumulation_unscaled__never_divided(model, loss, batches, group):
    # Gradients add up, and nobody divides by K (karpathy/nanoGPT#168, paiml/aprender#2123).
    ddp = _ddp(model, group)
    _backward(ddp, lambda x, y: loss(ddp(x), y), batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", micro_batches="mean"
)
def torch_accumulation_unscaled__divided_in_two_places(model, loss, batches, group):
    # The schedule divides, and so does the loss (deepspeedai/Megatron-DeepSpeed#42).
    ddp = _ddp(model, group)
    k = len(batches)
    _backward(ddp, lambda x, y: loss(ddp(x), y) / k / k, batches)


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_last_micro_batch_only__accumulator_emptied(model, loss, batches, group):
    # Each backward is told to be the window's last, which empties the accumulator
    # (allenai/open-instruct#1498).
    _start_alike(model, group)
    for x, y in batches:
        accumulated = None
        loss(model(x), y).backward()
        accumulated = [p.grad for p in model.parameters()]
        for p in model.parameters():
            p.grad = None
    for parameter, grad in zip(model.parameters(), accumulated, strict=True):
        if grad is not None:
            dist.all_reduce(grad, group=group)
            parameter.grad = grad / group.size()


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def torch_synchronised_too_early(model, loss, batches, group):
    # Off by one: the first micro-batch is synchronised, the last is in no_sync
    # (modelscope/FunASR#3472).
    ddp = _ddp(model, group)
    first, *others = batches
    x, y = first
    loss(ddp(x), y).backward()
    with ddp.no_sync():
        for x, y in others:
            loss(ddp(x), y).backward()


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", micro_batches="mean", steps="several"
)
def torch_short_window_divided_by_k(model, loss, windows, group):
    # accumulate_grad_batches is the whole window's (Lightning-AI/pytorch-lightning#19987).
    ddp = _ddp(model, group)
    k = max(map(len, windows))
    for batches in windows:
        ddp.zero_grad()
        _backward(ddp, lambda x, y: loss(ddp(x), y) / k, batches)
        yield


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank", steps="several")
def torch_stale_gradient(model, loss, windows, group):
    # zero_grad() is commented out: every step is in the next one's average, too.
    ddp = _ddp(model, group)
    for batches in windows:
        _backward(ddp, lambda x, y: loss(ddp(x), y), batches)
        yield


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank", steps="several")
def torch_stale_gradient__of_a_buffer_that_is_filled_later(model, loss, windows, group):
    # What is handed to the optimizer is the buffer of the step before.
    ddp = _ddp(model, group)
    held = None
    for batches in windows:
        ddp.zero_grad()
        _backward(ddp, lambda x, y: loss(ddp(x), y), batches)
        own = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        if held is not None:
            for p, grad in zip(
                (p for p in model.parameters() if p.grad is not None), held, strict=True
            ):
                p.grad = grad
        held = own
        yield


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_mean_of_micro_means(model, loss, batches, group):
    # The trainer divides by K what each micro-batch has divided by its own tokens
    # (huggingface/transformers#34191).
    ddp = _ddp(model, group)
    k = len(batches)
    _backward(ddp, lambda x, y, w: loss(ddp(x), y, w) / k, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_mean_of_micro_means__over_ranks_alone(model, loss, batches, group):
    # A mean per rank, FSDP averages ranks, accumulation adds up (pytorch/torchtitan#1842).
    ddp = _ddp(model, group)
    _backward(ddp, lambda x, y, w: loss(ddp(x), y, w), batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_mean_of_micro_means__of_all_ranks(model, loss, batches, group):
    # Ranks are counted together, micro-batches apart (NovaSky-AI/SkyRL#1296).
    ddp = _ddp(model, group)
    k, world = len(batches), group.size()

    def token_mean(x, y, w):
        items = _over_ranks(w.sum(), group)
        return _sum(ddp, loss, x, y, w) * world / torch.clamp(items, min=2.0**-8) / k

    _backward(ddp, token_mean, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_local_count(model, loss, batches, group):
    # num_items_in_batch is what this rank has, and DDP averages ranks
    # (huggingface/transformers#34242).
    ddp = _ddp(model, group)
    items = _items(batches).clamp(min=2.0**-8)
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) / items, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_sample_share_for_token_share(model, loss, batches, group):
    # Micro-batches are weighed by their samples; each loss is a mean over its own tokens
    # (verl-project/verl#5625).
    ddp = _ddp(model, group)
    samples = sum(len(x) for x, *_ in batches)
    total = _over_ranks(torch.tensor(float(samples)), group).item() / group.size()
    share = lambda x, y, w: loss(ddp(x), y, w) * (len(x) / total)  # noqa: E731
    _backward(ddp, share, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_other_windows_count(model, loss, batches, group):
    # The count is taken where the loader is, one micro-batch ahead of the loop: of the first one,
    # times K (huggingface/trl#6024).
    ddp = _ddp(model, group)
    first = batches[0][-1].sum() * len(batches)
    items = _over_ranks(first, group)
    scale = group.size() / items if items else 0.0
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) * scale, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean", steps="several"
)
def torch_other_windows_count__of_the_step_before(model, loss, windows, group):
    # The count is logged after the step, and used in the next one.
    ddp = _ddp(model, group)
    items = None
    for batches in windows:
        ddp.zero_grad()
        own = _over_ranks(_items(batches), group)
        scale = group.size() / (own if items is None else items)
        _backward(ddp, lambda *batch, by=scale: _sum(ddp, loss, *batch) * by, batches)
        items = own
        yield


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_shifted_labels_counted(model, loss, batches, group):
    # Labels are counted before the shift: the last position of every sequence has no next token.
    ddp = _ddp(model, group)
    labels = torch.stack([w.sum() + len(w) for *_, w in batches]).sum()
    scale = group.size() / _over_ranks(labels, group)
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) * scale, batches)


@conformance.implementation(
    "gradient_mean",
    framework="torch",
    runs="per_rank",
    promise="sample_mean",
)
def torch_gathered_without_gradient__a_plain_gather_gathered(model, loss, batches, group):
    # The own slice has a gradient, the other ranks' have none (mlfoundations/open_clip#616).
    ddp = _ddp(model, group)

    def with_others(own):
        pieces = [torch.empty_like(own) for _ in range(group.size())]
        dist.all_gather(pieces, own.detach().contiguous(), group=group)
        pieces[group.rank()] = own
        return torch.cat(pieces)

    _backward(ddp, lambda x, y: loss(with_others(ddp(x)), with_others(y)), batches)


@conformance.implementation(
    "gradient_mean",
    framework="torch",
    runs="per_rank",
    promise="sample_mean",
)
def torch_gathered_without_gradient__a_plain_sum_gathered(model, loss, batches, group):
    # What is summed over ranks is all-reduced past autograd (lightly-ai/lightly#1977): the loss is
    # right, and of its gradient each rank has its own part.
    ddp = _ddp(model, group)

    def summed(x, y):
        own = ddp(x)
        others = own.detach().sum(0, keepdim=True)
        dist.all_reduce(others, group=group)
        others -= own.detach().sum(0, keepdim=True)
        filler = torch.zeros_like(own).repeat(group.size() - 1, *(1 for _ in own.shape[1:]))
        outputs = torch.cat([own, others, filler[1:]]) if group.size() > 1 else own
        return loss(outputs, torch.zeros_like(outputs))

    _backward(ddp, summed, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_world_left_in(model, loss, batches, group):
    # The factor against DDP's division, before an all-reduce that only sums
    # (LibreYOLO/libreyolo#488, ultralytics/yolov5#8301).
    _start_alike(model, group)
    items = _over_ranks(_items(batches), group)
    for batch in batches:
        (_sum(model, loss, *batch) * group.size() / items).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=group)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_micro_batches_left_in(model, loss, batches, group):
    # The factor against the trainer's division by K, which the count has replaced.
    ddp = _ddp(model, group)
    scale = group.size() / _over_ranks(_items(batches), group) * len(batches)
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) * scale, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_padding_counted__in_the_length(model, loss, batches, group):
    # (mask * losses).mean(): what is masked adds nothing, and is counted all the same.
    ddp = _ddp(model, group)
    places = torch.tensor(float(sum(w.numel() for *_, w in batches)))
    scale = group.size() / _over_ranks(places, group).item()
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) * scale, batches)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean"
)
def torch_padding_counted__mask_of_tokens_ignored(model, loss, batches, group):
    # The attention mask hides padding from the model; the loss has never heard of it.
    ddp = _ddp(model, group)
    whole = [(x, y, torch.ones_like(w)) for x, y, w in batches]
    scale = group.size() / _over_ranks(_items(whole), group)
    _backward(ddp, lambda *batch: _sum(ddp, loss, *batch) * scale, whole)


def _sum(model, loss, x, y, weights):
    """The sum over items: their mean, times what it was divided by."""
    return loss(model(x), y, weights) * weights.sum()


def _items(batches):
    """This rank's items of the window."""
    return torch.stack([weights.sum() for *_, weights in batches]).sum()


def _over_ranks(count, group):
    count = count.clone()
    dist.all_reduce(count, group=group)
    return count


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
