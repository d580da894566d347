"""accelerate: the loops of its guide to accumulation.

The last window of an epoch is divided by the K of a full one, so that with one micro-batch of two
its items count half (`reports/short_window.py`). With `sync_with_dataloader=False` it is not
stepped at all, and counts in the next epoch. The guide's loop for samples of variable size takes
one mean over all tokens, in the last window too, if it counts the labels that a model does not
shift away. Its loader repeats samples until every rank has as many.

https://huggingface.co/docs/accelerate/usage_guides/gradient_accumulation
"""

from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import conformance


def loop(accelerator, model, dataset, batch_size):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(dataset, batch_size)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(batch["input_ids"], batch["labels"])["loss"]
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def accelerate_loop(model, dataset, batch_size, accumulate):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    loop(accelerator, model, dataset, batch_size)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def accelerate_plugin(model, dataset, batch_size, accumulate):
    plugin = GradientAccumulationPlugin(num_steps=accumulate, sync_with_dataloader=False)
    loop(Accelerator(cpu=True, gradient_accumulation_plugin=plugin), model, dataset, batch_size)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/N")
def accelerate_variable_size(model, dataset, batch_size, accumulate):
    """The guide for samples of variable size: sum, count over all processes, scale."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(dataset, batch_size)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    iterator = iter(loader)
    remainder = len(loader) % accumulate
    remainder = remainder or accumulate
    updates = -(-len(loader) // accumulate)
    for update in range(updates):
        size = accumulate if update < updates - 1 else remainder
        batches = [next(iterator) for _ in range(size)]
        items = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches)
        items = accelerator.gather(items).sum().item()
        for number, batch in enumerate(batches):
            with accelerator.no_sync(model) if number < size - 1 else nullcontext():
                logits = model(batch["input_ids"])[:, :-1].reshape(-1, 2)
                total = cross_entropy(
                    logits, batch["labels"][:, 1:].reshape(-1), ignore_index=-100, reduction="sum"
                )
                scale = accelerator.num_processes * accelerator.gradient_accumulation_steps
                accelerator.backward(total * scale / items)
        optimizer.step()
        optimizer.zero_grad()
