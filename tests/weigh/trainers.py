"""Trainers of the tests: right ones, and each mistake that a trainer makes of its own."""

from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import conformance


def trainer(promise):
    return conformance.implementation(
        "gradient_mean", framework="torch", runs="trainer", promise=promise
    )


def windows(dataset, batch_size, accumulate, **options):
    sampler = DistributedSampler(dataset, shuffle=False, **options)
    batches = list(DataLoader(dataset, batch_size, sampler=sampler))
    return [batches[k : k + accumulate] for k in range(0, len(batches), accumulate)]


def train(model, windows, scale, steps=lambda number: True):
    """Step after each window; the scale is of a window and a batch."""
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for window in windows:
        for number, batch in enumerate(window, 1):
            with nullcontext() if number == len(window) else model.no_sync():
                loss = model(batch["input_ids"], batch["labels"])["loss"]
                (loss * scale(window, batch)).backward()
        optimizer.step()
        optimizer.zero_grad()


def items(batch):
    return (batch["labels"][:, 1:] != -100).sum()


@trainer("1/(W*K*n)")
def right(model, dataset, batch_size, accumulate):
    train(model, windows(dataset, batch_size, accumulate), lambda window, _: 1 / len(window))


@trainer("1/N")
def right_by_items(model, dataset, batch_size, accumulate):
    def share(window, batch):
        total = sum(items(each) for each in window)
        dist.all_reduce(total)
        return dist.get_world_size() * items(batch) / total

    train(model, windows(dataset, batch_size, accumulate), share)


@trainer("1/(W*K*n)")
def own_group(model, dataset, batch_size, accumulate):
    dist.init_process_group("gloo")
    right(model, dataset, batch_size, accumulate)
    dist.destroy_process_group()


@trainer("1/(W*K*n)")
def short_window(model, dataset, batch_size, accumulate):
    train(model, windows(dataset, batch_size, accumulate), lambda *_: 1 / accumulate)


@trainer("1/N")
def mean_of_means(model, dataset, batch_size, accumulate):
    right(model, dataset, batch_size, accumulate)


@trainer("1/N")
def mean_of_rank_means(model, dataset, batch_size, accumulate):
    def share(window, batch):
        return items(batch) / sum(items(each) for each in window)

    train(model, windows(dataset, batch_size, accumulate), share)


@trainer("1/(W*K*n)")
def not_divided_by_k(model, dataset, batch_size, accumulate):
    train(model, windows(dataset, batch_size, accumulate), lambda *_: 1)


@trainer("1/(W*K*n)")
def divided_by_nothing(model, dataset, batch_size, accumulate):
    train(model, windows(dataset, batch_size, accumulate), lambda *_: dist.get_world_size())


@trainer("1/(W*K*n)")
def divided_by_w_again(model, dataset, batch_size, accumulate):
    scale = 1 / dist.get_world_size()
    train(model, windows(dataset, batch_size, accumulate), lambda window, _: scale / len(window))


@trainer("1/N")
def labels_before_the_shift(model, dataset, batch_size, accumulate):
    def share(window, batch):
        total = sum((each["labels"] != -100).sum() for each in window)
        dist.all_reduce(total)
        return dist.get_world_size() * items(batch) / total

    train(model, windows(dataset, batch_size, accumulate), share)


@trainer("1/(W*K*n)")
def past_the_wrapper(model, dataset, batch_size, accumulate):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for window in windows(dataset, batch_size, accumulate):
        for batch in window:
            (model(batch["input_ids"], batch["labels"])["loss"] / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


@trainer("1/(W*K*n)")
def ignores_accumulation(model, dataset, batch_size, accumulate):
    right(model, dataset, batch_size, 1)


@trainer("1/(W*K*n)")
def drops_the_rest(model, dataset, batch_size, accumulate):
    every = windows(dataset, batch_size, accumulate, drop_last=True)
    train(model, [w for w in every if len(w) == accumulate], lambda w, _: 1 / len(w))


def local_steps(model, windows, exchange):
    """Let each rank step by its own gradient, and exchange the parameters."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for window in windows:
        for batch in window:
            (model(batch["input_ids"], batch["labels"])["loss"] / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()
        for parameter in model.parameters():
            exchange(parameter.data)


@trainer("1/(W*K*n)")
def parameters_averaged(model, dataset, batch_size, accumulate):
    def mean(table):
        dist.all_reduce(table)
        table /= dist.get_world_size()

    local_steps(model, windows(dataset, batch_size, accumulate), mean)


@trainer("1/(W*K*n)")
def parameters_of_rank_0(model, dataset, batch_size, accumulate):
    local_steps(
        model, windows(dataset, batch_size, accumulate), lambda table: dist.broadcast(table, 0)
    )


@trainer("1/N")
def places_counted(model, dataset, batch_size, accumulate):
    def share(window, batch):
        places = torch.tensor(sum(each["labels"][:, 1:].numel() for each in window))
        dist.all_reduce(places)
        return dist.get_world_size() * items(batch) / places

    train(model, windows(dataset, batch_size, accumulate), share)


@trainer("1/(W*K*n)")
def scale_left_in(model, dataset, batch_size, accumulate):
    train(model, windows(dataset, batch_size, accumulate), lambda window, _: 1024 / len(window))


@trainer("1/(W*K*n)")
def not_cleared(model, dataset, batch_size, accumulate):
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for window in windows(dataset, batch_size, accumulate):
        for batch in window:
            (wrapped(batch["input_ids"], batch["labels"])["loss"] / len(window)).backward()
        optimizer.step()


@trainer("1/(W*K*n)")
def moves_by_itself(model, dataset, batch_size, accumulate):
    wrapped = DistributedDataParallel(model)
    for window in windows(dataset, batch_size, accumulate):
        for batch in window:
            (wrapped(batch["input_ids"], batch["labels"])["loss"] / len(window)).backward()
        for parameter in model.parameters():
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None


@trainer("1/(W*K*n)")
def raises_on_one_rank(model, dataset, batch_size, accumulate):
    if dist.get_rank() == 1:
        raise RuntimeError("no such luck")
    dist.barrier()


@trainer("1/(W*K*n)")
def trains_nothing(model, dataset, batch_size, accumulate):
    pass
