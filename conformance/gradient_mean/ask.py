"""Asks an implementation to average: gives it a rank's samples, and reads what the rank holds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from textwrap import shorten

import numpy as np

from conformance.core.ask import Ask, loaded
from conformance.core.dtypes import DTYPES
from conformance.core.implementations import Implementation
from conformance.core.outcomes import Answer, NotExercised, Unsupported
from conformance.core.questions import GradientQuestion, VirtualQuestion
from conformance.core.rank import Rank
from conformance.frameworks import bridge
from conformance.gradient_mean import noise
from conformance.gradient_mean.call import Batch, Call, Framework
from conformance.gradient_mean.definition import target_names
from conformance.gradient_mean.models import model_of

Targets = np.ndarray | tuple[np.ndarray, ...]


def answer(ask: Ask[GradientQuestion], rank: Rank) -> Answer:
    """Returns the gradients that this rank holds, or the parameters after a step, in NumPy.

    Raises:
        Unsupported, NotExercised, WrongAnswer: as the framework's module raises them.
        Exception: any error of the implementation.
    """
    question, framework = ask.question, ask.implementation.framework
    function = loaded(ask.implementation)
    try:
        observed = _call(function, ask, rank)
    except Exception as error:
        refused = bridge(framework).refusal(error)
        if refused != "dtype" or question.dtype in ("f32", "f64"):
            raise
        words = shorten(str(error) or type(error).__name__, 120, placeholder=" …")
        raise Unsupported(f"{question.dtype} is refused: {words}") from error
    if question.observe == "noise":
        return replace(observed, arrays=noise.read(question, observed.arrays))
    return observed


def virtual_answer(ask: Ask[VirtualQuestion]) -> Answer:
    """Returns the gradients of thousands of ranks that one process holds, in NumPy.

    torch gets whole batches, in which the samples of a rank are consecutive; JAX and NumPy get a
    leading axis of W.

    Raises:
        Unsupported, WrongAnswer: as the framework's module raises them.
        Exception: any error of the implementation.
    """
    framework, question = ask.implementation.framework, ask.question.model
    batches = [batch_of(question, ask.inputs, k) for k in range(question.micro_batches)]
    if framework != "torch":
        carrier = DTYPES[question.dtype].carrier
        batches = [
            padded_shards(batch, shards, carrier)
            for batch, shards in zip(batches, question.shards, strict=True)
        ]
    start = _start(ask.inputs)
    call = Call(loaded(ask.implementation), question, start, batches, ask.device)
    return _in(framework).virtual(call)


def _in(framework: str) -> Framework:
    """Imports the module of a framework, and with it the framework."""
    match framework:
        case "torch":
            from conformance.gradient_mean import in_torch

            return in_torch
        case "jax":
            from conformance.gradient_mean import in_jax

            return in_jax
        case _:
            from conformance.gradient_mean import in_numpy

            return in_numpy


def _start(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: array for name, array in inputs.items() if name.startswith(("parameter/", "buffer/"))
    }


def _call(function: Callable[..., object], ask: Ask[GradientQuestion], rank: Rank) -> Answer:
    implementation, question, start = ask.implementation, ask.question, _start(ask.inputs)
    module = _in(implementation.framework)
    whole = [batch_of(question, ask.inputs, k) for k in range(question.micro_batches)]
    windows = question.windows
    if implementation.steps == "several":
        windows = windows or (question.micro_batches,)
    if implementation.runs == "per_rank":
        if question.starts == "different":
            start = {name: array + array.dtype.type(rank.index) for name, array in start.items()}
        own = [shard(b, s, rank.index) for b, s in zip(whole, question.shards, strict=True)]
        call = Call(
            function,
            question,
            start,
            own,
            ask.device,
            group=rank.group,
            windows=windows,
            changes=rank.changes,
        )
        return module.per_rank(call)
    if implementation.framework == "jax":
        carrier = DTYPES[question.dtype].carrier
        padded = [padded_shards(b, s, carrier) for b, s in zip(whole, question.shards, strict=True)]
        needed = devices_needed(implementation, question.world_size)
        return module.one_process(
            Call(function, question, start, padded, ask.device, needed, windows=windows)
        )
    if implementation.framework == "torch" and implementation.promise in ("rank_mean", "rank_sum"):
        _check_chunks(question)
    return module.one_process(Call(function, question, start, whole, ask.device))


def devices_needed(implementation: Implementation, ranks: int) -> int:
    """Returns how many devices a JAX implementation cannot do without for so many ranks."""
    return 1 if implementation.devices == "one" else ranks


def _check_chunks(question: GradientQuestion) -> None:
    """Declines whole batches whose ranks are not the chunks that DataParallel makes (P3)."""
    for shards in question.shards:
        samples, largest = sum(shards), -(-sum(shards) // len(shards))
        chunks = tuple(min(largest, samples - first) for first in range(0, samples, largest))
        if chunks != shards:
            cut, shares = (", ".join(map(str, counts)) for counts in (chunks, shards))
            raise NotExercised(
                f"whole batches are cut into {cut} samples; the case asks for {shares}"
            )


def batch_of(question: GradientQuestion, inputs: Mapping[str, np.ndarray], k: int) -> Batch:
    """Returns micro-batch k as (inputs (N, …), targets (N, …)); of several heads a tuple.

    Where items are counted, weights (N,) or (N, T) follow; where each head's are, a tuple of them.
    """
    model = model_of(question)
    weights: tuple[Targets, ...] = ()
    if question.terms:
        weights = (tuple(inputs[f"weights/{k}/{head}"] for head, _ in enumerate(model.heads)),)
    elif question.counts:
        weights = (inputs[f"weights/{k}"],)
    targets = tuple(inputs[name] for name in target_names(model, k))
    return inputs[f"inputs/{k}"], targets if len(targets) > 1 else targets[0], *weights


def _each(change: Callable[[np.ndarray], np.ndarray], targets: Targets) -> Targets:
    if isinstance(targets, tuple):
        return tuple(change(target) for target in targets)
    return change(targets)


def shard(batch: Batch, counts: tuple[int, ...], rank: int) -> Batch:
    """Returns the consecutive samples of a micro-batch that are one rank's.

    >>> shard((np.arange(6), np.arange(6) * 10), (1, 3, 2), 1)
    (array([1, 2, 3]), array([10, 20, 30]))
    """
    first = sum(counts[:rank])
    samples = slice(first, first + counts[rank])
    return tuple(_each(lambda array: array[samples], part) for part in batch)


def padded_shards(batch: Batch, counts: tuple[int, ...], dtype: np.dtype) -> Batch:
    """Pads a micro-batch to (inputs (W, n, …), targets (W, n, …), weights (W, n)).

    Every rank's samples are followed by as many zeros as the largest shard has more. A weight is
    the micro-batch's own, or 1 for a sample, and 0 for padding; it is in the dtype of the
    parameters, so that it promotes nothing.

    >>> batch = np.arange(1.0, 5.0), np.zeros(4)
    >>> x, _, weights = padded_shards(batch, (1, 3), np.dtype("f4"))
    >>> x.tolist(), weights.tolist()
    ([[1.0, 0.0, 0.0], [2.0, 3.0, 4.0]], [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    """

    def stacked(array: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(counts), max(counts), *array.shape[1:]), array.dtype)
        first = 0
        for rank, count in enumerate(counts):
            padded[rank, :count] = array[first : first + count]
            first += count
        return padded

    x, targets, *own = batch
    (weights,) = own or (np.ones(len(x), dtype),)
    return stacked(x), _each(stacked, targets), _each(stacked, weights)
