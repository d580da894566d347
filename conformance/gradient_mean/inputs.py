"""The inputs of a question about gradients, which are drawn until they can be answered.

On the lattice every value is a small multiple of a power of two, and targets are chosen so that
the outputs miss them by multiples of every number that a mean divides by. A draw is rejected where
some order of summation could round, where the sign at a ReLU or the order at a max is not certain,
or where a gradient is nearly all zero. No bound is ever widened for the sake of a draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import lcm
from typing import Any

import numpy as np

from conformance.arithmetic import Lattice, Limits, Plain, Uncertain, Uncertified
from conformance.core.dtypes import DTYPES
from conformance.core.questions import GradientQuestion
from conformance.core.random_bits import random_bits
from conformance.gradient_mean import definition as gradient_mean
from conformance.gradient_mean.models import (
    NOISY,
    SPECTROMETER,
    TOKEN_SPECTROMETER,
    Model,
    model_of,
)

DRAWS = 200
# At least this share of every gradient is nonzero.
NONZERO = 0.1
# A gradient that is clipped to a norm of 1 has at least this norm before.
_FAR_ABOVE_LIMIT = 2.0
_SMALL = (-2, -1, 1, 2)
# Sums in narrow dtypes have room for no more than these.
_SIGNS = (-1, 0, 1)
# A sum of integers and a half is never zero.
_HALVES = (-1.5, -0.5, 0.5, 1.5)
_QUARTERS = (-0.75, -0.25, 0.25, 0.75)
# Of so many values hardly ever two under a max are equal.
_WIDE = tuple(range(-1023, 1024))


class Undrawable(Exception):  # noqa: N818 - This is a message to the author of a case.
    """None of many draws can be answered."""


def inputs(
    question: GradientQuestion, promises: Sequence[str] = gradient_mean.PROMISES
) -> dict[str, np.ndarray]:
    """Draws the inputs of a question, with the names of `GradientQuestion`.

    Args:
        question: the question to draw for.
        promises: the promises under which there must be an answer.

    Raises:
        Undrawable: if all draws are rejected; the message has the reasons.
    """
    reasons: dict[str, int] = {}
    for attempt in range(DRAWS):
        label = f"{question!r}{_weighing(question)}/{attempt}"
        try:
            drawn = _drawn(question, label)
            reason = _objection(question, drawn, promises)
        except (Uncertain, Uncertified) as rejected:
            reason = str(rejected)
        if reason is None:
            return drawn
        reasons[reason] = reasons.get(reason, 0) + 1
    counted = "; ".join(f"{reason} ({count} times)" for reason, count in reasons.items())
    raise Undrawable(f"{question}: {counted}")


def certificate(
    question: GradientQuestion, limits: Limits, answers: Mapping[str, Any]
) -> dict[str, Any]:
    """Certifies how near to rounding the exact answers came, in bits, and their nonzero share.

    Args:
        question: the question that the answers are to.
        limits: the limits of the lattice on which the answers were computed.
        answers: the answers on that lattice.
    """
    return {
        **asdict(limits),
        "nonzero": round(min(_nonzero_shares(question, answers), default=0.0), 3),
    }


def _drawn(question: GradientQuestion, label: str) -> dict[str, np.ndarray]:
    model, carrier = model_of(question), DTYPES[question.dtype].carrier
    named = {
        f"parameter/{name}": _parameter(question, name, shape, label).astype(carrier)
        for name, shape in model.parameters().items()
    }
    for name, shape in model.buffers().items():
        # A variance plus epsilon is a power of four, whose root is on the lattice.
        choices = (0.75, 3.75) if name.endswith("running_var") else _SMALL
        named[f"buffer/{name}"] = _choice(choices, shape, f"{label}/{name}").astype(carrier)
    first = 0
    for k, shards in enumerate(question.shards):
        samples = sum(shards)
        x = _samples(question, model, samples, first, f"{label}/inputs/{k}")
        if model.rare:
            # Only the first micro-batch opens what is rarely used.
            x[:, 0] = np.abs(x[:, 0]) * (1 if k == 0 else -1)
        named[f"inputs/{k}"] = x
        named |= _targets(question, model, named, k, f"{label}/targets/{k}")
        for head, rows in enumerate((question.counts, *question.terms) if question.counts else ()):
            name = gradient_mean.weights_name(question, k, head)
            named[name] = _weights(question, model, k, rows[k], f"{label}/{name}")
        first += samples
    return named


def _weighing(question: GradientQuestion) -> str:
    """Returns how a question's items are weighed, as its own printed form does not."""
    if question.windows:
        return f"/{question.windows}/{_weighing(replace(question, windows=()))}"
    if not question.counts:
        return ""
    terms = f"/{question.terms}" if question.terms else ""
    return f"/{question.counts}/{question.items}/{question.fractions}{terms}"


def _weights(
    question: GradientQuestion, model: Model, k: int, counts: tuple[float, ...], label: str
) -> np.ndarray:
    """Draws weights (N_k,) or (N_k, T) whose sum over each rank's items is the count.

    Ones stand at random places. Of fractions each takes another place's part, so that sums stay.
    """
    tokens = model.sample[:1] if question.items == "tokens" else ()
    rows = []
    for rank, (samples, count) in enumerate(zip(question.shards[k], counts, strict=True)):
        own = np.zeros((samples, *tokens)).reshape(-1)
        order = np.argsort(_fractions(own.shape, f"{label}/{rank}"), kind="stable")
        whole = int(count)
        own[order[:whole]] = 1
        own[order[whole : whole + 1]] += count - whole
        if question.fractions:
            pairs = list(zip(order[:whole], order[own.size - 1 : whole : -1], strict=False))
            parts = _choice((0.25, 0.5, 0.75), (len(pairs),), f"{label}/{rank}/parts")
            for (taken, given), part in zip(pairs, parts, strict=True):
                own[taken], own[given] = 1 - part, part
        assert own.sum() == count, f"{count} of {own.size} items"
        rows.append(own.reshape(samples, *tokens))
    return np.concatenate(rows).astype(DTYPES[question.dtype].carrier)


def _parameter(
    question: GradientQuestion, name: str, shape: tuple[int, ...], label: str
) -> np.ndarray:
    place = f"{label}/parameter/{name}"
    if question.model in NOISY:
        return np.ones(shape)
    if question.tier == "bounded":
        # Exponentials of large scores would lose most of their digits.
        return _fractions(shape, place) / (4 if question.model == "attention" else 1)
    if name == "norm.bias":
        return _choice(_QUARTERS, shape, place)
    if name.endswith(".bias"):
        return _choice(_HALVES, shape, place)
    return _choice(_SIGNS if _is_narrow(question) else _SMALL, shape, place)


def _samples(
    question: GradientQuestion, model: Model, samples: int, first: int, label: str
) -> np.ndarray:
    shape, carrier = (samples, *model.sample), DTYPES[question.dtype].carrier
    if question.model in (*NOISY, TOKEN_SPECTROMETER):
        return _own_rows(model, samples, first)
    if model.tokens:
        words = model.layers[0].weight[0]
        return _choice(tuple(range(words)), shape, label).astype(np.int64)
    if question.model == SPECTROMETER:
        one_hot = np.zeros(shape)
        one_hot[np.arange(samples), first + np.arange(samples)] = 1
        return one_hot.astype(carrier)
    if question.tier == "bounded":
        return _fractions(shape, label).astype(carrier)
    if question.model == "max_pool":
        return _choice(_WIDE, shape, label).astype(carrier)
    return _choice((-1, 1) if _is_narrow(question) else _SMALL, shape, label).astype(carrier)


def _own_rows(model: Model, samples: int, first: int) -> np.ndarray:
    """Gives every element of every sample a row of its own in the embedding."""
    (each,) = model.sample
    return np.arange(first * each, (first + samples) * each).reshape(samples, each)


def _targets(
    question: GradientQuestion, model: Model, named: Mapping[str, np.ndarray], k: int, label: str
) -> dict[str, np.ndarray]:
    samples, carrier = sum(question.shards[k]), DTYPES[question.dtype].carrier
    names = list(gradient_mean.target_names(model, k))
    if question.loss == "cross_entropy":
        drawn = {}
        for number, (name, (*tokens, classes)) in enumerate(
            zip(names, model.outputs(), strict=True)
        ):
            own = f"{label}/{name}" if number else label
            shape = (samples, *tokens)
            drawn[name] = _choice(tuple(range(classes)), shape, own).astype(np.int64)
        return drawn
    shapes = [(samples, *shape) for shape in model.outputs()]
    if question.loss in ("output", "coupled"):
        return {n: np.zeros(shape, carrier) for n, shape in zip(names, shapes, strict=True)}
    if question.tier == "bounded":
        return {
            name: _fractions(shape, f"{label}/{name}").astype(carrier)
            for name, shape in zip(names, shapes, strict=True)
        }
    lattice = Lattice(question.dtype)
    outputs, _ = gradient_mean.outputs_of(
        lattice, model, gradient_mean.state_of(lattice, named), named[f"inputs/{k}"]
    )
    divisor = _odd_divisor(question)
    targets = {}
    for name, y, shape in zip(names, outputs, shapes, strict=True):
        missed = divisor * _choice(_SMALL, shape, f"{label}/{name}")
        target = lattice.add(y, lattice.exactly(-missed))
        targets[name] = target.values.astype(carrier)
    return targets


def _odd_divisor(question: GradientQuestion) -> int:
    """Returns a multiple of the odd part of everything that a mean divides by."""
    if question.counts:  # They are powers of two where a case is exact.
        return 1
    counts = {question.world_size}
    for shards in question.shards:
        counts |= {sum(shards), *shards} - {0}
    return lcm(*(count // (count & -count) for count in counts))


def _objection(
    question: GradientQuestion, drawn: Mapping[str, np.ndarray], promises: Sequence[str]
) -> str | None:
    """Returns why a draw must be rejected, or None."""
    numbers = (
        gradient_mean.running(question) if question.tier == "bounded" else Lattice(question.dtype)
    )
    # The answer raises an error where it is not certain, or not certified.
    gradient_mean.answer(numbers, question, drawn, promises)
    usual = promises if question.counts else gradient_mean.PROMISES
    plain = gradient_mean.answer(Plain(), question, drawn, usual)
    if min(_nonzero_shares(question, plain), default=1.0) < NONZERO:
        return "a gradient is nearly all zero"
    if question.observe == "clipped" and _least_norm(question, drawn, promises) < _FAR_ABOVE_LIMIT:
        return "a gradient that a clip leaves nearly as it is"
    if _is_uneven(question) and not _promises_part(plain):
        return "unequal shards, and yet the mean of ranks is that of samples"
    return None


def _least_norm(
    question: GradientQuestion, drawn: Mapping[str, np.ndarray], promises: Sequence[str]
) -> float:
    return min(
        float(gradient_mean.squared_norm(Plain(), averaged).item()) ** 0.5
        for promise in promises
        for averaged in [gradient_mean.averaged(Plain(), question, drawn, promise)]
    )


def _nonzero_shares(question: GradientQuestion, answers: Mapping[str, Any]) -> list[float]:
    """Returns the nonzero share of each gradient that need not be zero."""
    model = model_of(question)
    idle = {name for layer in model.unused for name, _ in layer.parameters()} | set(model.frozen)
    return [
        float(np.mean(gradient_mean.values_of(tensor) != 0))
        for name, tensor in answers.items()
        if name.rpartition("/")[2] not in idle
    ]


def _promises_part(arrays: Mapping[str, np.ndarray]) -> bool:
    return any(
        not np.array_equal(values, arrays[name.replace("rank_mean", "sample_mean", 1)])
        for name, values in arrays.items()
        if name.startswith("rank_mean/")
    )


def _is_uneven(question: GradientQuestion) -> bool:
    shards_of_last = question.window(-1)[0].shards
    uneven = any(len(set(shards)) > 1 for shards in shards_of_last)
    return question.reduction == "mean" and uneven and not question.counts


def _is_narrow(question: GradientQuestion) -> bool:
    return DTYPES[question.dtype].bits == 16


def _choice(choices: tuple[float, ...], shape: tuple[int, ...], label: str) -> np.ndarray:
    """Draws elements of `choices` in float64, with equal chances to one in thousands."""
    count = int(np.prod(shape, dtype=np.int64))
    drawn = np.frombuffer(random_bits(label, 4 * count), dtype="<u4")
    return np.array(choices, dtype=np.float64)[drawn % len(choices)].reshape(shape)


def _fractions(shape: tuple[int, ...], label: str) -> np.ndarray:
    """Draws multiples of 2^-20 between −2 and 2, whose products round in f32."""
    count = int(np.prod(shape, dtype=np.int64))
    drawn = np.frombuffer(random_bits(label, 4 * count), dtype="<u4").astype(np.int64)
    return np.ldexp((drawn % (1 << 22) - (1 << 21)).astype(np.float64), -20).reshape(shape)
