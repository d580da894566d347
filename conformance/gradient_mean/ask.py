"""Asking for averaged gradients: every rank's samples, and what it holds afterwards."""

import importlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from textwrap import shorten
from typing import Any

import numpy as np

from conformance.core.ask import Ask, Rank, loaded
from conformance.core.dtypes import DTYPES
from conformance.core.implementations import Implementation, own_folder
from conformance.core.outcomes import Answer, NotExercised, Unsupported
from conformance.core.questions import GradientQuestion
from conformance.frameworks import bridge
from conformance.gradient_mean import noise
from conformance.gradient_mean.models import model_of

Targets = np.ndarray | tuple[np.ndarray, ...]
Batch = tuple[Any, ...]


def answer(ask: Ask[GradientQuestion], rank: Rank) -> Answer:
    """The gradients that this rank holds, or the parameters after a step, in NumPy.

    Raises:
        Unsupported, NotExercised, WrongAnswer: as the framework's part says.
        Exception: whatever the implementation raises.
    """
    implementation, question = ask.implementation, ask.question
    if implementation.framework == "numpy":
        raise Unsupported("numpy has no gradients to average")
    function = loaded(implementation)
    try:
        given = _put(function, ask, rank)
    except Exception as error:
        refused = bridge(implementation.framework).refusal(error)
        if refused != "dtype" or question.dtype in ("f32", "f64"):
            raise
        words = shorten(str(error) or type(error).__name__, 120, placeholder=" …")
        raise Unsupported(f"{question.dtype} is refused: {words}") from error
    if question.observe == "noise":
        return replace(given, arrays=noise.read(question, given.arrays))
    return given


def _put(function: Callable[..., Any], ask: Ask[GradientQuestion], rank: Rank) -> Answer:
    implementation, question, inputs = ask.implementation, ask.question, ask.inputs
    here: Any = importlib.import_module(
        f"conformance.frameworks.{implementation.framework}_gradients"
    )
    whole = [batch_of(question, inputs, k) for k in range(question.micro_batches)]
    start = {
        name: array for name, array in inputs.items() if name.startswith(("parameter/", "buffer/"))
    }
    given: Answer
    if implementation.framework == "jax":
        if implementation.runs == "per_rank":
            raise Unsupported("a JAX implementation runs in one process, for all of its devices")
        dtype = DTYPES[question.dtype].carrier
        padded = [padded_shards(b, s, dtype) for b, s in zip(whole, question.shards, strict=True)]
        needed = devices_needed(implementation, question.world_size)
        given = here.one_process(function, question, start, padded, ask.device, needed)
    elif implementation.runs == "per_rank":
        if question.starts == "different":
            start = {name: array + array.dtype.type(rank.index) for name, array in start.items()}
        mine = [shard(b, s, rank.index) for b, s in zip(whole, question.shards, strict=True)]
        given = here.per_rank(function, question, start, mine, ask.device, rank.group)
    else:
        if implementation.promise != "sample_mean":
            _check_chunks(question)
        given = here.one_process(function, question, start, whole, ask.device)
    return given


def devices_needed(implementation: Implementation, ranks: int) -> int:
    """How many devices a JAX implementation cannot do without for so many ranks."""
    return 1 if implementation.id in _one_is_enough() else ranks


@cache
def _one_is_enough() -> frozenset[str]:
    told = tomllib.loads((own_folder() / "devices.toml").read_text(encoding="utf-8"))
    return frozenset(told["one_is_enough"])


def _check_chunks(question: GradientQuestion) -> None:
    """Given whole batches, the only ranks there can be are the chunks of DataParallel (P3)."""
    for shards in question.shards:
        samples, most = sum(shards), -(-sum(shards) // len(shards))
        chunks = tuple(min(most, samples - first) for first in range(0, samples, most))
        if chunks != shards:
            cut, asked = (", ".join(map(str, counts)) for counts in (chunks, shards))
            raise NotExercised(
                f"whole batches are cut into {cut} samples; the case asks for {asked}"
            )


def batch_of(question: GradientQuestion, inputs: Mapping[str, np.ndarray], k: int) -> Batch:
    """Micro-batch k as (inputs (N, …), targets (N, …)), several heads' targets in a tuple."""
    heads = len(model_of(question).heads)
    if heads > 1:
        return inputs[f"inputs/{k}"], tuple(inputs[f"targets/{k}/{head}"] for head in range(heads))
    return inputs[f"inputs/{k}"], inputs[f"targets/{k}"]


def _each(change: Callable[[np.ndarray], np.ndarray], targets: Targets) -> Targets:
    if isinstance(targets, tuple):
        return tuple(change(target) for target in targets)
    return change(targets)


def shard(batch: Batch, counts: tuple[int, ...], rank: int) -> Batch:
    """The consecutive samples of a micro-batch that are one rank's.

    >>> shard((np.arange(6), np.arange(6) * 10), (1, 3, 2), 1)
    (array([1, 2, 3]), array([10, 20, 30]))
    """
    first = sum(counts[:rank])
    mine = slice(first, first + counts[rank])
    x, targets = batch
    return x[mine], _each(lambda target: target[mine], targets)


def padded_shards(batch: Batch, counts: tuple[int, ...], dtype: np.dtype) -> Batch:
    """A micro-batch as (inputs (W, n, …), targets (W, n, …), weights (W, n)).

    Every rank's samples are followed by as many zeros as the largest shard has more; a weight is 1
    for a sample and 0 for padding, in the dtype of the parameters, so that it promotes nothing.

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

    x, targets = batch
    return stacked(x), _each(stacked, targets), stacked(np.ones(len(x), dtype))
