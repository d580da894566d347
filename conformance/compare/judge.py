"""Runs a port beside its original, and judges outputs, gradients and statistics by their errors.

An error that is carried through fifty layers is larger than what it is the error of. So the two
runs are anchored to one another: where the port holds a submodule's output, both go on from there
with the distance that was measured, and what follows is judged as a port of what follows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.matching import Match, Values, ratio
from conformance.compare.trace import LATER_OUTPUT, Asked, Call, Model, Trace, owner
from conformance.compare.weights import Pair, gathered
from conformance.core.outcomes import UsageError

# Of an array's size, and of the size of all arrays like it: a larger error leaves too few digits.
_BLIND, _BLIND_OF_ALL = 2.0**-10, 2.0**-30
Aspect = Literal["forward", "gradient", "running statistics"]


@dataclass(frozen=True)
class Held:
    """One array of the port beside the original's; both in the original's form.

    Attributes:
        name: of an output, a parameter or a running statistic.
        ratio: the largest distance ÷ error of the elements that can be judged; above 1 it parts.
        unknown: how many elements cannot be judged.
    """

    name: str
    aspect: Aspect
    first: Approximate
    second: Approximate
    ratio: float
    unknown: int

    @property
    def parts(self) -> bool:
        """Whether an element lies outside the errors."""
        return self.ratio > 1


@dataclass(frozen=True)
class Followed:
    """Two runs anchored to one another.

    Attributes:
        forward: of each of the original's calls, by number, where the port holds its output.
        backward: the same of the output's cotangents.
        held: everything that is judged.
        values: the port's, forward, with its inputs.
        before: the original's weights and statistics before the run.
    """

    traces: tuple[Trace, Trace]
    forward: Mapping[int, Match]
    backward: Mapping[int, Match]
    held: tuple[Held, ...]
    values: Values = field(repr=False)
    before: Mapping[str, np.ndarray] = field(repr=False)

    def parting(self, aspect: Aspect) -> list[Held]:
        """What lies outside its errors."""
        return [held for held in self.held if held.aspect == aspect and held.parts]

    @property
    def is_parted(self) -> bool:
        """Whether an output lies outside its errors, or is lost.

        Behind the first module that the port does not hold errors grow without end: then nothing
        can be said of the outputs of a deep model, and what is to blame is that module.
        """
        if self.parting("forward"):
            return True
        forward = [held for held in self.held if held.aspect == "forward"]
        is_lost = any(held.unknown == held.first.value.size > 0 for held in forward)
        has_rules = not any(trace.without_rule for trace in self.traces)
        return is_lost and has_rules and place_of_forward(self).call < len(self.traces[0].calls)

    @property
    def unsure(self) -> dict[str, int]:
        """Comparisons of either run that could have turned out either way."""
        return {what: n for trace in self.traces for what, n in trace.unsure.items()}


def follow(
    models: tuple[Model, Model], asked: tuple[Asked, Asked], pairs: Sequence[Pair]
) -> Followed:
    """Runs both, finds what they have in common, and runs them again anchored there."""
    traces = models[0].run(asked[0]), models[1].run(asked[1])
    if traces[0].narrows:  # A right port may round to the narrow type at another place.
        asked = replace(asked[0], charged=True), replace(asked[1], charged=True)
    values = _values(traces[1], asked[1].inputs, backward=False)
    forward = _found(values, {i: c.output for i, c in enumerate(traces[0].calls)})
    back = _values(traces[1], {}, backward=True)
    cotangents = {i: c.cotangent for i, c in enumerate(traces[0].calls) if c.cotangent is not None}
    backward = _found(back, cotangents)
    for _ in range(3):
        anchored = _anchored(asked, traces, forward, backward)
        before, traces = traces, (models[0].run(anchored[0]), models[1].run(anchored[1]))
        _alike(before, traces)
        forward, backward, changed = _within(traces, forward, backward)
        if not changed:
            break
    values = _values(traces[1], asked[1].inputs, backward=False)
    return Followed(
        traces,
        forward,
        backward,
        tuple(_held(traces, pairs, asked[0].inputs)),
        values,
        asked[0].weights,
    )


def _alike(before: tuple[Trace, Trace], traces: tuple[Trace, Trace]) -> None:
    """Refuses a model that gives something else each time it is run."""
    for which, first, second in zip(("first", "second"), before, traces, strict=True):
        for path, at in first.outputs.items():
            if path not in second.outputs or hold(path, "forward", at, second.outputs[path]).parts:
                raise UsageError(
                    f"the {which} model's {path} is another each time it is run: it draws numbers "
                    "that nothing can be carried through"
                )


def _values(trace: Trace, inputs: Mapping[int | str, np.ndarray], *, backward: bool) -> Values:
    rows = [(i, v.at) for i, v in enumerate(trace.values) if v.backward == backward]
    given = [(-1, Approximate(x, np.zeros(x.shape))) for x in inputs.values()]
    return Values([*rows, *given])


def _found(values: Values, wanted: Mapping[int, Approximate]) -> dict[int, Match]:
    matches = {number: values.find(at) for number, at in wanted.items()}
    return {number: match for number, match in matches.items() if match is not None}


def _anchored(
    asked: tuple[Asked, Asked],
    traces: tuple[Trace, Trace],
    forward: Mapping[int, Match],
    backward: Mapping[int, Match],
) -> tuple[Asked, Asked]:
    """Both sides with the measured distance for an error where they have a value in common."""
    of_calls: dict[int, float] = {}
    of_cotangents: dict[int, float] = {}
    of_values: dict[int, float] = {}
    for matches, own in ((forward, of_calls), (backward, of_cotangents)):
        for number, match in matches.items():
            call = traces[0].calls[number]
            at = call.output if matches is forward else call.cotangent
            assert at is not None
            error = match.furthest + 2.0**-53 * float(np.abs(at.value).max())
            own[number] = error
            if match.number >= 0:
                of_values[match.number] = max(of_values.get(match.number, 0.0), error)
    return (
        replace(asked[0], anchored_calls=of_calls, anchored_cotangents=of_cotangents),
        replace(asked[1], anchors=of_values),
    )


def _within(
    traces: tuple[Trace, Trace], forward: Mapping[int, Match], backward: Mapping[int, Match]
) -> tuple[dict[int, Match], dict[int, Match], bool]:
    """Without the matches that lie outside the errors, and what was made of them."""
    calls, lost = traces[0].calls, 0
    kept: dict[int, Match] = {}
    for number, match in forward.items():
        again = _again(calls[number].output, match, traces[1])
        if again.ratio > 1 or calls[number].depends & lost:
            lost |= calls[number].bit
        else:
            kept[number] = again
    kept_back = {}
    for number, match in backward.items():
        cotangent = calls[number].cotangent
        again = match if cotangent is None else _again(cotangent, match, traces[1])
        if again.ratio <= 1:
            kept_back[number] = again
    return kept, kept_back, len(kept) < len(forward) or len(kept_back) < len(backward)


def _again(at: Approximate, match: Match, trace: Trace) -> Match:
    """The match by the errors of a later run."""
    if match.number < 0:
        return match
    other = trace.values[match.number].at
    flat = at.value.transpose(match.axes).reshape(-1)
    error = np.broadcast_to(at.error, at.value.shape).transpose(match.axes).reshape(-1)
    apart = np.abs(flat - other.value.reshape(-1))
    limit = error + np.broadcast_to(other.error, other.value.shape).reshape(-1)
    return replace(match, furthest=float(apart.max()), ratio=ratio(apart, limit))


def _held(
    traces: tuple[Trace, Trace], pairs: Sequence[Pair], inputs: Mapping[int | str, np.ndarray]
) -> Iterator[Held]:
    first, second = traces
    outputs = [
        (path, at, second.outputs[path]) for path, at in first.outputs.items()
        if path in second.outputs and second.outputs[path].value.shape == at.value.shape
    ]  # fmt: skip
    gradients = list(gathered(pairs, first.gradients, second.gradients))
    both = zip(first.input_gradients, second.input_gradients, inputs.items(), strict=False)
    for own, other, (key, x) in both:
        # By a mask a right port may choose where the original multiplies.
        is_mask = len(np.unique(x)) <= 2 < x.size
        alike = own is not None and other is not None and own.value.shape == other.value.shape
        if own is not None and other is not None and alike and not is_mask:
            gradients.append((f"input {key}", own, other))
    if all(at.value.dtype.kind != "f" for _, at, _ in outputs):
        gradients = []  # Of what is no number there is none.
    statistics = list(gathered(pairs, first.state, second.state))
    rows: tuple[tuple[Aspect, list[tuple[str, Approximate, Approximate]]], ...] = (
        ("forward", outputs), ("gradient", gradients), ("running statistics", statistics),
    )  # fmt: skip
    for aspect, arrays in rows:
        sizes = [np.abs(at.value[np.isfinite(at.value)]) for _, at, _ in arrays]
        scale = max((float(size.max(initial=0.0)) for size in sizes), default=0.0)
        for name, at, other in arrays:
            yield hold(name, aspect, at, other, scale)


def hold(
    name: str, aspect: Aspect, first: Approximate, second: Approximate, scale: float = 0.0
) -> Held:
    """One array beside another; `scale` is the largest value of all that are like it."""
    with np.errstate(all="ignore"):
        a, b = (x.value if x.value.dtype.kind == "c" else x.value.astype(float)
                for x in (first, second))  # fmt: skip
        apart = np.where(a == b, 0.0, np.abs(a - b))
        limit = np.broadcast_to(first.error + second.error, a.shape)
        size = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
        # A distance is judged also where the error is large: outside is outside.
        blind = (limit > max(_BLIND * size, _BLIND_OF_ALL * scale)) & (apart <= limit)
    return Held(name, aspect, first, second, ratio(apart, limit), int(blind.sum()))


@dataclass(frozen=True)
class Place:
    """Where two runs part.

    Attributes:
        name: a submodule of the original, or `code before NAME`, `code after NAME`.
        call: the number of the original's first call whose output the port does not hold.
        since: how many of the original's calls had ended before what is to blame.
    """

    name: str
    call: int
    since: int


def place_of_forward(followed: Followed) -> Place:
    """The first call whose output the port does not hold, while nothing made of it agrees."""
    calls, good = followed.traces[0].calls, followed.forward
    for number, call in enumerate(calls):
        later = (calls[k].depends & call.bit for k in good if k > number)
        if number in good or any(later) or call.output.value.size < 2 or _is_constant(call):
            continue
        if call.module.endswith(LATER_OUTPUT) and not any(c.depends & call.bit for c in calls):
            continue  # A state that nothing takes: no port need hold it.
        since = max((k + 1 for k in good if k < number), default=0)
        inner = [k for k in range(number) if calls[k].module.startswith(call.module + ".")
                 or calls[k].module.startswith(call.module + "/")]  # fmt: skip
        inner = [k for k in inner if k >= since - 1]
        if any(followed.values.find(x) is None for x in _floats(call)):
            return Place(f"code before {call.module}", number, since)
        if inner:
            return Place(f"code after {calls[inner[-1]].module}", number, since)
        return Place(call.module, number, since)
    last = max(good, default=-1)
    name = f"code after {calls[last].module}" if last >= 0 else "code before the output"
    return Place(name, len(calls), last + 1)


def _floats(call: Call) -> list[Approximate]:
    """What a call was given, without masks, which a port may write otherwise."""
    return [
        x for x in call.inputs
        if x.value.dtype.kind == "f" and x.value.size > 1 and len(np.unique(x.value)) > 2
    ]  # fmt: skip


def _is_constant(call: Call) -> bool:
    return bool(np.ptp(call.output.value) == 0)


def place_of_gradient(followed: Followed) -> str:
    """From the back, the first call whose output's cotangent the port does not hold."""
    calls, good = followed.traces[0].calls, followed.backward
    for number in range(len(calls) - 1, -1, -1):
        call = calls[number]
        if number in good or call.cotangent is None or call.cotangent.value.size < 2:
            continue
        if np.any(call.cotangent.value) and not any(
            call.depends & calls[k].bit for k in good if k < number
        ):
            return f"code after {call.module}"
    names = [held.name for held in followed.parting("gradient")]
    return owner(names[0]) or names[0]
