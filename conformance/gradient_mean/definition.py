"""Averaged gradients from their definition, over any number system, and bounds for goldens.

A rank's gradient is the gradient of the sum over K micro-batches of the loss on its samples; it is
zero without samples. `rank_mean` divides the sum over ranks by W, `rank_sum` does not, and
`sample_mean` is the gradient of the sum over micro-batches of the loss on all of their samples.
`step_mean` is the gradient of Σ w·ℓ / Σ w over all ranks' items of all micro-batches; the others
under averaged micro-batches are divided by K.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil, prod
from typing import Any

import numpy as np

from conformance.arithmetic.lattice import Grid
from conformance.arithmetic.running import UNIT_ROUNDOFF, Approximate, Running
from conformance.arithmetic.system import Numbers, negative
from conformance.core.comparison import Arrays
from conformance.core.declarations import BY_MICRO_BATCH, without_averaging
from conformance.core.formats import Bits
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.layers import Pullback, Tensors, forward
from conformance.gradient_mean.models import Layer, Model, model_of
from conformance.gradient_mean.noise import NOISY_PARAMETER, drawn

# What a case that names no promise is answered under.
PROMISES = BY_MICRO_BATCH
# The learning rate of the step of SGD.
STEP = Fraction(1, 2)
# What torch adds to a norm before it divides by it.
CLIP_EPSILON = 1e-6
_MICRO_BATCH = re.compile(r"(inputs|targets|weights)/(\d+)(.*)")
# The number of a micro-batch, and the range of its samples.
Part = tuple[int, slice]


def state_of(numbers: Numbers, inputs: Arrays) -> dict[str, Any]:
    """Returns parameters and buffers as tensors of the number system, by name."""
    heads = ("parameter/", "buffer/")
    return {
        name.partition("/")[2]: numbers.exactly(values)
        for name, values in inputs.items()
        if name.startswith(heads)
    }


def outputs_of(
    numbers: Numbers, model: Model, state: Mapping[str, Any], x: np.ndarray
) -> tuple[tuple[Any, ...], Pullback]:
    """Returns all outputs (n, …) for the samples x, and the pullback of a tuple of cotangents."""
    value: Any = x if model.tokens else numbers.exactly(x)
    pulls = []
    for layer in model.layers:
        value, pull = forward(numbers, layer, state, value, training=model.training)
        pulls.append(pull)
    heads = [forward(numbers, head, state, value, training=False) for head in model.heads]
    rare = [_rare(numbers, layer, state, x) for layer in model.rare]

    def pulled(cotangents: tuple[Any, ...]) -> tuple[Any, Tensors]:
        gradients: Tensors = {}
        if heads:
            own = cotangents * len(heads) if model.summed else cotangents
            pulled_heads = [pull(dy) for (_, pull), dy in zip(heads, own, strict=True)]
            for _, parameters in pulled_heads:
                _accumulate(numbers, gradients, parameters)
            dy = _sum(numbers, [dx for dx, _ in pulled_heads])
        else:
            (dy,) = cotangents
        for _, pull_rare in rare:
            _accumulate(numbers, gradients, pull_rare(dy))
        for pull in reversed(pulls):
            dy, parameters = pull(dy)
            _accumulate(numbers, gradients, parameters)
        return dy, gradients

    outputs = tuple(y for y, _ in heads) or (value,)
    if model.summed:
        outputs = (_sum(numbers, list(outputs)),)
    if rare:
        outputs = (_sum(numbers, [*outputs, *(y for y, _ in rare)]),)
    return outputs, pulled


def _rare(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: np.ndarray
) -> tuple[Any, Callable[[Any], Tensors]]:
    """Returns a layer's output where a sample opens it, and its pullback to parameters.

    A layer that no sample opens is not called, and has no gradient.
    """
    is_open = np.broadcast_to(x[:, :1] > 0, (len(x), layer.weight[0]))
    y, pull = forward(numbers, layer, state, numbers.exactly(x), training=False)

    def pulled(dy: Any) -> Tensors:
        gradients: Tensors = pull(numbers.keep(dy, is_open))[1]
        return gradients if is_open.any() else {}

    return numbers.keep(y, is_open), pulled


def gradient(
    numbers: Numbers,
    question: GradientQuestion,
    inputs: Arrays,
    state: Mapping[str, Any],
    part: Part,
) -> Tensors:
    """Returns the gradient of the loss on a part of a micro-batch, by trainable parameter.

    Parameters on which no output depends are absent.
    """
    k, chosen = part
    model = model_of(question)
    outputs, pull = outputs_of(numbers, model, state, inputs[f"inputs/{k}"][chosen])
    samples = chosen.stop - chosen.start
    share = Fraction(1, samples if question.reduction == "mean" else 1)
    cotangents = tuple(
        loss_cotangent(
            numbers,
            question,
            y,
            inputs[name][chosen],
            shape,
            1 / question.items_of(head if question.terms else 0) if question.counts else share,
            inputs[weights_name(question, k, head)][chosen] if question.counts else None,
        )
        for head, (y, name, shape) in enumerate(
            zip(outputs, target_names(model, k), model.outputs(), strict=True)
        )
    )
    gradients = (
        _of_terms(numbers, question, cotangents, pull) if question.terms else pull(cotangents)[1]
    )
    if question.observe == "noise":
        gradients[NOISY_PARAMETER] = numbers.keep(gradients[NOISY_PARAMETER], drawn(question))
    return {name: g for name, g in gradients.items() if name not in model.frozen}


def _of_terms(
    numbers: Numbers, question: GradientQuestion, cotangents: tuple[Any, ...], pull: Pullback
) -> Tensors:
    """Returns the sum of the gradients of a loss's terms, each of which is scaled by itself.

    Code may differentiate them together, or one by one: the terms may cancel, their errors do not.
    """
    gradients: Tensors = {}
    for head in range(len(cotangents)):
        # The one rounding more is that of the sum, where the heads meet.
        alone = tuple(
            numbers.with_roundings(c, _cancelled(question) + 1)
            if place == head
            else numbers.moved(c, np.zeros_like)
            for place, c in enumerate(cotangents)
        )
        _accumulate(numbers, gradients, pull(alone)[1])
    return gradients


def window_of(
    question: GradientQuestion, inputs: Arrays, number: int
) -> tuple[GradientQuestion, Arrays]:
    """Returns one window as a question of its own, with its inputs; -1 is the last."""
    if not question.windows:
        return question, inputs
    window, ks = question.window(number)
    named = {name: array for name, array in inputs.items() if not _MICRO_BATCH.match(name)}
    for name, array in inputs.items():
        if (of := _MICRO_BATCH.match(name)) and int(of[2]) in ks:
            named[f"{of[1]}/{int(of[2]) - ks.start}{of[3]}"] = array
    return window, named


def target_names(model: Model, k: int) -> Iterator[str]:
    """Yields the names of micro-batch k's targets, one for each output."""
    if not model.heads or model.summed:
        yield f"targets/{k}"
        return
    for head, _ in enumerate(model.heads):
        yield f"targets/{k}/{head}"


def weights_name(question: GradientQuestion, k: int, head: int) -> str:
    """Returns the name of the weights of micro-batch k that a head's loss has."""
    return f"weights/{k}/{head}" if question.terms else f"weights/{k}"


def loss_cotangent(
    numbers: Numbers,
    question: GradientQuestion,
    y: Any,
    target: np.ndarray,
    shape: tuple[int, ...],
    share: Fraction,
    weights: np.ndarray | None = None,
) -> Any:
    """Returns the derivative of the loss by an output (n, …); each item counts `share`.

    Items are samples, or what has a weight of its own: samples (n,) or tokens (n, T).
    """
    own = shape[(weights.ndim if weights is not None else 1) - 1 :]
    outputs = prod(own) if question.reduction == "mean" else 1
    y = numbers.stored(y)

    def weighed(derivative: Any) -> Any:
        if weights is None:
            return derivative
        along = weights.reshape(*weights.shape, *(1 for _ in own))
        return numbers.multiply(derivative, numbers.exactly(along))

    match question.loss:
        case "mse":
            difference = numbers.add(y, negative(numbers, numbers.exactly(target)))
            return numbers.scale(weighed(numbers.stored(difference)), 2 * share / outputs)
        case "cross_entropy":
            last = len(shape)
            place = numbers.largest(y, last, certain=False)
            largest = numbers.stored(numbers.total(numbers.keep(y, place), (last,)))
            shifted = numbers.add(y, negative(numbers, largest))
            logarithm = numbers.log(numbers.total(numbers.exp(shifted), (last,)))
            softmax = numbers.exp(numbers.add(shifted, negative(numbers, logarithm)))
            # As a quotient of exponentials it meets a reciprocal and a product.
            softmax = numbers.with_roundings(softmax, 2)
            one_hot = numbers.exactly(np.eye(shape[-1])[target])
            difference = numbers.add(softmax, negative(numbers, one_hot))
            return numbers.scale(weighed(difference), share / prod(own[:-1]))
        case "output":
            ones = numbers.exactly(np.ones((len(target), *shape)))
            return numbers.scale(weighed(ones), share / outputs)
        case "coupled":
            slope = numbers.scale(numbers.stored(numbers.total(y, (0,))), 2 * share / outputs)
            return numbers.moved(slope, lambda v: np.repeat(v, len(target), axis=0))


def averaged(numbers: Numbers, question: GradientQuestion, inputs: Arrays, promise: str) -> Tensors:
    """Averages the ranks' gradients as a promise says, by parameter; zero without a gradient.

    Of several windows it is the last one's average.
    """
    question, inputs = window_of(question, inputs, -1)
    state, adding = state_of(numbers, inputs), without_averaging(promise)
    by_rank: list[Tensors] = []
    for parts in parts_of(question, adding):
        gradients: Tensors = {}
        for part in parts:
            _accumulate(numbers, gradients, gradient(numbers, question, inputs, state, part))
        by_rank.append(gradients)
    result = {
        name: numbers.with_roundings(g, _cancelled(question))
        for name, g in _summed(numbers, by_rank).items()
    }
    divisors = [question.micro_batches] * (adding != promise)
    if adding == "rank_mean":
        divisors.append(question.world_size)
    for divisor in divisors:
        share = Fraction(1, divisor)
        for gradients in by_rank:
            # Some implementations divide before they sum; on a lattice that must not round either.
            _scaled(numbers, gradients, share)
        result = _scaled(numbers, result, share)
    shapes = model_of(question).parameters()
    return {
        name: result[name] if name in result else numbers.exactly(np.zeros(shape))
        for name, shape in shapes.items()
    }


def _cancelled(question: GradientQuestion) -> int:
    """Returns the roundings of factors by which a framework may multiply and divide in turn.

    A rank's mean of n samples becomes its part of N by n/N, and a mean of ranks their sum by W: for
    each a quotient in two parts, a weight, and its product. A mean of K micro-batches that is kept
    up to date, as m + (g − m)/k, costs a term at most 4 + 3·(1 + 1/2 + … + 1/K) beside those of a
    sum.
    """
    k = question.micro_batches
    return 2 * 6 + (0 if k == 1 else 5 + 2 * k)


def parts_of(question: GradientQuestion, promise: str) -> list[list[Part]]:
    """Returns for each rank its parts that have samples; for a sample mean one rank has all."""
    if promise == "sample_mean":
        return [[(k, slice(0, sum(shards))) for k, shards in enumerate(question.shards)]]
    bounds = [np.cumsum((0, *shards)).tolist() for shards in question.shards]
    return [
        [
            (k, slice(ends[rank], ends[rank + 1]))
            for k, ends in enumerate(bounds)
            if ends[rank] < ends[rank + 1]
        ]
        for rank in range(question.world_size)
    ]


def answer(
    numbers: Numbers,
    question: GradientQuestion,
    inputs: Arrays,
    promises: Sequence[str] = PROMISES,
) -> dict[str, Any]:
    """Returns `PROMISE/gradient/NAME` of each promise, or after a step `PROMISE/parameter/NAME`.

    Where a case observes noise, these are the gradients that show it; where it clips them, their
    norm is above the limit by far.
    """
    named: dict[str, Any] = {}
    state = state_of(numbers, inputs)
    for promise in promises:
        gradients = averaged(numbers, question, inputs, promise)
        if question.observe == "clipped":
            gradients = _clipped(numbers, question, gradients)
        for name, g in gradients.items():
            if question.observe == "step":
                moved = numbers.add(state[name], numbers.scale(numbers.stored(g), -STEP))
                named[f"{promise}/parameter/{name}"] = moved
            else:
                named[f"{promise}/gradient/{name}"] = g
    return named


def squared_norm(numbers: Numbers, gradients: Tensors) -> Any:
    """Returns the sum of the squares of all gradients, a tensor of one element.

    A framework may take the root of each parameter's sum, and square it again.
    """
    squares = []
    for gradient in gradients.values():
        flat = numbers.moved(numbers.stored(gradient), np.ravel)
        squares.append(numbers.total(numbers.multiply(flat, flat), (0,)))
    return numbers.stored(numbers.with_roundings(_sum(numbers, squares), 4))


def _clipped(numbers: Numbers, question: GradientQuestion, gradients: Tensors) -> Tensors:
    """Returns the gradients over their norm, which is above 1.

    A quotient, a comparison and two products round. torch divides by the norm plus 1e-6, which
    takes less than 1e-6 of what a norm above 1 gives.
    """
    factor = numbers.rsqrt(squared_norm(numbers, gradients))
    roundings = 6 + ceil(CLIP_EPSILON / UNIT_ROUNDOFF[question.dtype])
    factor = numbers.moved(factor, lambda v: v.reshape(()))
    return {
        name: numbers.with_roundings(numbers.multiply(numbers.stored(g), factor), roundings)
        for name, g in gradients.items()
    }


def running(question: GradientQuestion, kept: Bits | None = None) -> Running:
    """Makes the number system whose errors bound every way to compute a question in its dtype.

    Args:
        question: the question to compute.
        kept: the bits that products of matrices keep; by default every bit of the dtype.
    """
    return Running(question.dtype, kept)


def bound(approximate: Approximate, golden: np.ndarray, dtype: str) -> np.ndarray:
    """Bounds the distance of an answer in this dtype from the golden, which is rounded itself.

    The bound is rounded up to four bits, so that the last bits of float64 sums do not change it.
    """
    own = UNIT_ROUNDOFF[dtype] * np.abs(golden.astype(np.float64))
    mantissa, exponent = np.frexp((approximate.error + own) * (1 + 2.0**-10))
    return np.asarray(np.ldexp(np.ceil(mantissa * 16) / 16, exponent))


def values_of(tensor: Any) -> np.ndarray:
    """Returns a lattice's or a plain tensor in float64."""
    return tensor.values if isinstance(tensor, Grid) else np.asarray(tensor)


def _scaled(numbers: Numbers, tensors: Tensors, share: Fraction) -> Tensors:
    return {name: numbers.scale(g, share) for name, g in tensors.items()}


def _summed(numbers: Numbers, by_rank: list[Tensors]) -> Tensors:
    total: Tensors = {}
    for gradients in by_rank:
        _accumulate(numbers, total, gradients)
    return total


def _sum(numbers: Numbers, terms: list[Any]) -> Any:
    total, *rest = terms
    for term in rest:
        total = numbers.add(total, term)
    return total


def _accumulate(numbers: Numbers, total: Tensors, more: Mapping[str, Any]) -> None:
    for name, g in more.items():
        total[name] = numbers.add(total[name], g) if name in total else g
