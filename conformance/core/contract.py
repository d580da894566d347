"""The signatures of an implementation. The suite calls it by position, in its contract's order."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

Batches = Sequence[tuple[Any, ...]]


class ChannelShuffle(Protocol):
    """Permutes channels: sees them as (g, C/g), and flattens (C/g, g) (S1).

    Args:
        x: (N, C, *spatial), of any dtype; (N, *spatial, C) under `layout="channels_last"` (S15).
            What is promised `arithmetic` sums products: of its dtypes, and finite.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        An array of x's shape, dtype and device; a mutable one in memory of its own.

    Raises:
        Exception: if groups is not positive or does not divide C. What is promised `native` raises
            as torch's operator does: RuntimeError, and TypeError if groups is no int.

    >>> def shuffle(x, groups):
    ...     n, c, *spatial = x.shape
    ...     if groups <= 0 or c % groups:
    ...         raise ValueError(f"{c} channels cannot be divided into {groups} groups")
    ...     parts = x.reshape(n, groups, c // groups, *spatial)
    ...     return parts.swapaxes(1, 2).reshape(x.shape).copy()
    >>> import numpy as np
    >>> shuffle(np.arange(6).reshape(1, 6, 1), 2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """

    def __call__(self, x: Any, groups: int) -> Any: ...


class TorchPerRank(Protocol):
    """Leaves averaged gradients in `.grad` of each rank's parameters; W processes call it at once.

    Gradients of the K micro-batches add up; under `micro_batches="mean"` they are averaged. Over
    ranks they are, as promised: `rank_mean`, the mean of each rank's own gradient; `rank_sum`, its
    sum; `sample_mean`, the gradient of the loss over all ranks' samples of a micro-batch.
    `step_mean` is one mean over all items of all ranks and micro-batches, Σ w·ℓ / Σ w.

    Args:
        model: `torch.nn.Module`, this rank's own copy. Its parameters and buffers may differ from
            rank 0's, which count; a parameter may be frozen, unused or tied.
        loss: of (model's outputs, targets), a scalar: a mean over the samples that it is given, or
            a sum. Under `step_mean` it is of (outputs, targets, weights): Σ w·ℓ / Σ w over what it
            is given; where all weights are 0 it is 0, and so is its gradient.
        batches: K of (inputs (n, …), targets (n, …)), this rank's own; of several heads targets
            are a tuple. n may differ from rank to rank and from micro-batch to micro-batch. Under
            `step_mean` weights (n,) of samples or (n, T) of tokens follow: 0, 1, or a fraction. Of
            what is named `*_terms` they may be a tuple, each head's own, and each head's loss is
            divided by its own count (M7).
        group: `torch.distributed.ProcessGroup` of the W ranks. It is the default group, and
            RANK, WORLD_SIZE, LOCAL_RANK and MASTER_* are set as torchrun sets them.

    Raises:
        Exception: any, and the check is an error with what it says. A parameter without a `.grad`
            counts as zero; a model whose parameters are gone or sharded is a wrong answer.

    >>> def all_reduced(model, loss, batches, group):
    ...     for parameter in model.parameters():
    ...         torch.distributed.broadcast(parameter.data, group=group, group_src=0)
    ...     for x, y in batches:
    ...         loss(model(x), y).backward()
    ...     for parameter in model.parameters():
    ...         torch.distributed.all_reduce(parameter.grad, group=group)
    ...         parameter.grad /= group.size()
    >>> import torch
    >>> group = torch.distributed.ProcessGroupGloo(torch.distributed.HashStore(), 0, 1)
    >>> model, x = torch.nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    >>> all_reduced(model, lambda outputs, targets: (outputs - targets).mean(), [(x, x)], group)
    >>> model.weight.grad.item()
    3.0
    """

    def __call__(
        self, model: Any, loss: Callable[..., Any], batches: Batches, group: Any
    ) -> None: ...


class TorchOneProcess(Protocol):
    """Leaves averaged gradients in `.grad` of the model's parameters; one process is all ranks.

    Promises and loss are as `TorchPerRank` has them. A rank's samples are a part of a micro-batch,
    as `torch.chunk` cuts it into W.

    Args:
        model: `torch.nn.Module`, its parameters and buffers on the first device.
        loss: of (model's outputs, targets), a scalar.
        batches: K of (inputs (N, …), targets (N, …)), whole, on the first device.
        devices: W of `torch.device`, one a rank; where there are fewer, one stands for several.
            Under `runs="virtual"` W is up to 4,096, of N/W samples each, all on the same device.

    >>> def whole_batch(model, loss, batches, devices):
    ...     for x, y in batches:
    ...         loss(model(x), y).backward()
    >>> import torch
    >>> model, x = torch.nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    >>> devices = [torch.device("cpu")] * 2
    >>> whole_batch(model, lambda outputs, targets: (outputs - targets).mean(), [(x, x)], devices)
    >>> model.weight.grad.item()
    3.0
    """

    def __call__(
        self, model: Any, loss: Callable[..., Any], batches: Batches, devices: Sequence[Any]
    ) -> None: ...


class JaxOneProcess(Protocol):
    """Returns averaged gradients, a tree like params; promises are as `TorchPerRank` has them.

    Args:
        loss: of (params, inputs (n, …), targets (n, …), weights (n,)), a scalar: the weighted mean
            over samples, or their weighted sum; where all weights are 0 it is 0. It is traced.
        params: a dict of arrays by name, floating-point, committed to no device.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)), committed to no device;
            of several heads targets are a tuple. A weight is 1 for a sample and 0 for padding,
            with which shorter shards end; under `step_mean` it is the item's own, and of tokens
            weights are (W, n, T); of what is named `*_terms` they may be a tuple, each head's own.
            n may differ between micro-batches.
        devices: W of `jax.Device`, one a rank; under `devices="one"` at least one, and under
            `runs="virtual"` the same W times.

    Returns:
        Concrete `jax.Array`s of params' names, shapes and dtypes, whole on every device that they
        are on, which are some of devices.

    >>> def on_one_device(loss, params, batches, devices):
    ...     def mean(params):
    ...         ranks = jax.vmap(loss, in_axes=(None, 0, 0, 0))
    ...         return sum(ranks(params, *batch).mean() for batch in batches)
    ...     return jax.grad(mean)(params)
    >>> import jax
    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> on_one_device(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])["a"].item()
    3.0
    """

    def __call__(
        self, loss: Callable[..., Any], params: Any, batches: Batches, devices: Sequence[Any]
    ) -> Any: ...


class NumpyVirtual(Protocol):
    """Returns averaged gradients, a dict like params, of up to 4,096 ranks in one process.

    Args:
        gradient: of (params, inputs (n, P), targets (n, 1), weights (n,)), the gradient of one
            rank's loss, a dict like params: NumPy differentiates nothing.
        params: floating-point arrays by name.
        batches: K of (inputs (W, n, P), targets (W, n, 1), weights (W, n)).
        devices: W times `"cpu"`.

    Returns:
        Arrays of params' names, shapes and dtypes.

    >>> def rank_by_rank(gradient, params, batches, devices):
    ...     ranks = [gradient(params, *rank)["a"] for batch in batches for rank in zip(*batch)]
    ...     return {"a": sum(ranks) / len(devices)}
    >>> import numpy as np
    >>> def gradient(params, inputs, targets, weights):
    ...     return {"a": (weights * inputs).sum() / weights.sum()}
    >>> x = np.array([[1.0, 2.0, 3.0, 6.0]]).T
    >>> rank_by_rank(gradient, {"a": x[0, 0]}, [(x, x, x**0)], ["cpu"] * 4)["a"].item()
    3.0
    """

    def __call__(
        self, gradient: Callable[..., Any], params: Any, batches: Batches, devices: Sequence[str]
    ) -> Any: ...


class TorchSteps(Protocol):
    """Yields after each window of micro-batches, whose gradients are in `.grad` then.

    Under `steps="several"` the function is a generator, as a training loop is: what it makes once,
    and what it leaves behind, counts in the next window. Parameters stay as they are. All else is
    as `TorchPerRank` has it.

    Args:
        model: as `TorchPerRank` has it.
        loss: as `TorchPerRank` has it.
        windows: a list of lists of micro-batches; the last may be shorter.
        group: as `TorchPerRank` has it.

    >>> def alone(model, loss, windows, group):
    ...     for batches in windows:
    ...         model.zero_grad()
    ...         for x, y in batches:
    ...             loss(model(x), y).backward()
    ...         yield
    """

    def __call__(
        self, model: Any, loss: Callable[..., Any], windows: Sequence[Batches], group: Any
    ) -> Iterator[None]: ...


class TorchTrainer(Protocol):
    """Trains a model for one epoch; W fresh processes that torchrun started call it at once.

    What each item counts for in each optimizer step is the promise, a formula over n (items of the
    micro-batch on its rank), N_rank (items of the rank in the step), N (items of the step), W and
    K (micro-batches of a rank): "1/N", "1/(W*K*n)".

    Args:
        model: `torch.nn.Module` on the CPU. Of input_ids (b, L) it returns logits (b, L, 2); with
            labels (b, L), too, a dict with "loss" and "logits": the mean over the places whose
            next label is not -100. Its parameters are to move by SGD with a learning rate of 1.
        dataset: a `torch.utils.data.Dataset` of dicts with input_ids, attention_mask and labels,
            each (L,); labels of padding are -100, and the loss shifts labels by one place.
        batch_size: samples of a micro-batch on each rank.
        accumulate: K, micro-batches of a window, after which an optimizer steps. The last window
            may have fewer.

    The default group is there, on gloo, and RANK, WORLD_SIZE, LOCAL_RANK and MASTER_* are set; a
    trainer that initialises the default group itself gets its own.

    >>> def train(model, dataset, batch_size, accumulate):
    ...     optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    ...     loader = list(torch.utils.data.DataLoader(dataset, batch_size))
    ...     for k, batch in enumerate(loader, 1):
    ...         (model(batch["input_ids"], batch["labels"])["loss"] / accumulate).backward()
    ...         if k % accumulate == 0 or k == len(loader):
    ...             optimizer.step()
    ...             optimizer.zero_grad()
    >>> import conformance, torch
    >>> probe = conformance.probe("torch", items=24, loss="next_token")
    >>> train(probe.model, probe.dataset, 2, 2)
    >>> probe.read(probe.model).formula
    '1/(K·n_k)'
    """

    def __call__(self, model: Any, dataset: Any, batch_size: int, accumulate: int) -> Any: ...


class JaxSteps(Protocol):
    """Yields the averaged gradients of each window of micro-batches.

    Under `steps="several"` the function is a generator. All else is as `JaxOneProcess` has it.

    Args:
        loss: as `JaxOneProcess` has it.
        params: as `JaxOneProcess` has them; they stay as they are.
        windows: a list of lists of micro-batches; the last may be shorter.
        devices: as `JaxOneProcess` has them.

    >>> def zeros(loss, params, windows, devices):
    ...     for batches in windows:
    ...         yield {name: array * 0 for name, array in params.items()}
    """

    def __call__(
        self,
        loss: Callable[..., Any],
        params: Any,
        windows: Sequence[Batches],
        devices: Sequence[Any],
    ) -> Iterator[Any]: ...


# The contract of (operation, framework, runs). A combination that is not here is never called.
CONTRACTS: Mapping[tuple[str, str, str], type] = MappingProxyType(
    {
        ("channel_shuffle", "torch", "one_process"): ChannelShuffle,
        ("channel_shuffle", "jax", "one_process"): ChannelShuffle,
        ("channel_shuffle", "numpy", "one_process"): ChannelShuffle,
        ("gradient_mean", "torch", "per_rank"): TorchPerRank,
        ("gradient_mean", "torch", "one_process"): TorchOneProcess,
        ("gradient_mean", "torch", "virtual"): TorchOneProcess,
        ("gradient_mean", "torch", "trainer"): TorchTrainer,
        ("gradient_mean", "jax", "one_process"): JaxOneProcess,
        ("gradient_mean", "jax", "virtual"): JaxOneProcess,
        ("gradient_mean", "numpy", "virtual"): NumpyVirtual,
    }
)
# The same where steps are several.
CONTRACTS_OF_STEPS: Mapping[tuple[str, str, str], type] = MappingProxyType(
    {
        ("gradient_mean", "torch", "per_rank"): TorchSteps,
        ("gradient_mean", "jax", "one_process"): JaxSteps,
    }
)


def names_of(contract: type) -> tuple[str, ...]:
    """Returns the parameters of a contract, in the order in which they are handed over.

    >>> names_of(TorchPerRank)
    ('model', 'loss', 'batches', 'group')
    """
    _, *names = inspect.signature(contract.__call__).parameters
    return tuple(names)
