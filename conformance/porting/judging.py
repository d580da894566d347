"""Each layer of the second model against what the first's makes of the second's own input."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from conformance.oracle.numbers.running import Approximate, Running
from conformance.porting.causes import Asked, Cause, of_layer, of_stretch, rounded_stretch
from conformance.porting.layers import Computed, compute, mixed
from conformance.porting.model import Call, Layer, Trace, owner
from conformance.porting.stretches import (
    Applied,
    Expression,
    Place,
    added,
    evaluate,
    explain,
    fits,
    nodes_of,
    places_of,
    ratio,
    substituted,
)
from conformance.porting.weights import Pair

Aspect = Literal["forward", "gradient", "running statistics"]
Weights = Mapping[str, np.ndarray]
_END: Place = ("output", 0)


@dataclass(frozen=True)
class Parting:
    """Where the second model does something else, on inputs of its own.

    Attributes:
        layer: the first model's submodule, or `code before NAME` where no submodule does it.
        other: what of the second model it is.
        aspect: of what.
        cause: what its answer shows; None where nothing that is known gives it.
        words: how far it is off.
    """

    layer: str
    other: str
    aspect: Aspect
    cause: Cause | None
    words: str


@dataclass
class Judged:
    """What was found: partings in the order of execution, and what stayed unseen."""

    partings: list[Parting] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    equal_bits: int = 0
    compared: int = 0
    furthest: float = 0.0

    def agreed(self, given: np.ndarray, expected: Approximate) -> bool:
        """Whether what was given is inside its error; how far is kept."""
        far = ratio(given, expected)
        self.compared += 1
        if far > 1:
            return False
        self.furthest = max(self.furthest, far)
        self.equal_bits += bool((given == expected.value).all())
        return True


@dataclass(frozen=True)
class _Anchor:
    """A call of a module with weights in both models, and what leads there in the first."""

    first: Call
    second: Call
    layer: Layer | None
    weights: Weights
    ways: tuple[Expression | None, ...]


class Comparison:
    """Two traces of the same weights and input."""

    def __init__(
        self, first: Trace, second: Trace, pairs: Sequence[Pair], weights: Weights, *, training: bool
    ) -> None:
        self._first, self._second = first, second
        self._pairs, self._weights, self._training = pairs, weights, training
        self.judged = Judged()
        self._of_first = {pair.first: pair for pair in pairs}
        self._of_second = {pair.second: pair for pair in pairs}
        self._modules = _modules(pairs)
        theirs = {call.key: call for call in second.calls}
        self._pair_of: dict[Place, Call] = {}
        for call in first.calls:
            other = theirs.get((self._modules.get(call.module, ""), call.nth))
            if call.module in self._modules and other is not None:
                self._pair_of[call.key] = other
        self._fitted: dict[Place, Expression | None] = {}

    def run(self) -> Judged:
        """Forward in the order of the first model's calls, then gradients, then statistics."""
        known = self._explained()
        computed: list[tuple[_Anchor, Computed | None]] = []
        for call in self._first.calls:
            if call.module not in self._modules:
                continue
            other = self._pair_of.get(call.key)
            if other is None:
                self._part(call, "", "forward", None, "the second model never calls it")
                continue
            ways = tuple(
                substituted(way, known) if way is not None else None
                for way in self._ways.get(call.key, ())
            )
            layer, weights = self._layer(call, other)
            anchor = _Anchor(call, other, layer, weights, ways)
            self._stretch(anchor)
            computed.append((anchor, self._forward(anchor)))
        self._output(known)
        self._gradients(computed)
        for anchor, done in computed:
            if done is not None:
                self._statistics(anchor, done)
        return self.judged

    # What the first model does between its layers.

    def _explained(self) -> dict[Place, Expression | None]:
        """Of every call without weights what its output is made of, down to layers and inputs."""
        self._ways: dict[Place, tuple[Expression | None, ...]] = {}
        known: dict[Place, Expression | None] = {}
        sources: list[tuple[Place, np.ndarray]] = [
            (("input", i), x) for i, x in enumerate(self._first.inputs)
        ]
        for call in self._first.calls:
            ways = tuple(explain(x, sources, call.dtype) for x in call.inputs)
            self._ways[call.key] = ways
            if call.module not in self._modules:
                known[call.key] = self._inside(call, ways, known)
            sources.append((call.key, call.output))
        self._end = explain(self._first.output, sources, self._first.dtype)
        return known

    @staticmethod
    def _inside(
        call: Call, ways: Sequence[Expression | None], known: Mapping[Place, Expression | None]
    ) -> Expression | None:
        own: list[tuple[Place, np.ndarray]] = [
            ((f"{call.module} argument", i), x) for i, x in enumerate(call.inputs)
        ]
        found = explain(call.output, own, call.dtype, call.module)
        if found is None:
            return None
        arguments = {
            place: None if way is None else substituted(way, known)
            for (place, _), way in zip(own, ways, strict=True)
        }
        return substituted(found, arguments)

    # Forward.

    def _places(self) -> dict[Place, np.ndarray]:
        found: dict[Place, np.ndarray] = {
            ("input", i): x for i, x in enumerate(self._second.inputs)
        }
        return found | {key: call.output for key, call in self._pair_of.items()}

    def _stretch(self, anchor: _Anchor) -> None:
        for i, way in enumerate(anchor.ways[:1]):
            place = (f"{anchor.first.module} argument", anchor.first.nth)
            self._fitted[place] = self._held(
                way, anchor.second.inputs[i], anchor.first.inputs[i], anchor.first.dtype,
                f"code before {anchor.first.module}", anchor.second.module,
            )  # fmt: skip

    def _output(self, known: Mapping[Place, Expression | None]) -> None:
        way = None if self._end is None else substituted(self._end, known)
        self._fitted[_END] = self._held(
            way, self._second.output, self._first.output, self._first.dtype,
            "code before the output", "the output",
        )  # fmt: skip

    def _held(
        self,
        way: Expression | None,
        given: np.ndarray,
        ours: np.ndarray,
        dtype: str,
        where: str,
        before: str,
    ) -> Expression | None:
        """Hold a stretch to its expression; the one that fits, for its gradient."""
        at = self._places()
        if way is None or any(place not in at for place in places_of(way)):
            self._by_bits(where, before, ours, given)
            return None
        expected, _ = evaluate(way, dtype, at)
        if self.judged.agreed(given, expected):
            return way
        found = of_stretch(way, dtype, at, given)
        if found is not None:
            cause, node, other = found
            self._add(node.where or where, f"code before {before}", "forward", cause,
                      _off(given, expected))  # fmt: skip
            return other
        cause_of_type = rounded_stretch(way, dtype, at, given)
        inside = [node.where for node in nodes_of(way) if node.where]
        told = inside[0] if len(inside) == 1 else where
        words = _off(given, expected)
        if len(inside) > 1:
            words = f"among {', '.join(inside)}: {words}"
        self._add(told, f"code before {before}", "forward", cause_of_type, words)
        return None

    def _by_bits(self, where: str, before: str, ours: np.ndarray, given: np.ndarray) -> None:
        """Code that the suite has no model of: the same bits agree, and anything else parts."""
        self.judged.unjudged.append(f"{where}: no known function gives it")
        if ours.shape != given.shape or not np.array_equal(ours, given):
            words = _apart(ours, given) + "; for this code no bound is known"
            self._add(where, f"code before {before}", "forward", None, words)

    def _layer(self, call: Call, other: Call) -> tuple[Layer | None, Weights]:
        """The model of a layer that gives what the first one gave: its own, or its pair's."""
        for layer in (call.layer, other.layer):
            if layer is None:
                continue
            weights = self._roles(layer)
            asked = Asked(layer, weights, call.inputs[0], call.dtype, self._training)
            done = asked.computed()
            if done is not None and fits(call.output, done.output):
                return layer, weights
        return None, {}

    def _roles(self, layer: Layer) -> Weights:
        found = {}
        for role, (name, transpose) in layer.roles.items():
            if name in self._weights:
                values = self._weights[name]
            elif name in self._of_second:
                pair = self._of_second[name]
                values = pair.to_second(self._weights[pair.first])
            else:
                continue
            found[role] = values if transpose is None else values.transpose(transpose)
        return found

    def _forward(self, anchor: _Anchor) -> Computed | None:
        """The computation that the second's layer does: the right one, or that of its cause."""
        call, other = anchor.first, anchor.second
        if anchor.layer is None:
            self._unmodelled(call, other)
            return None
        asked = Asked(anchor.layer, anchor.weights, other.inputs[0], call.dtype, self._training)
        done = asked.computed()
        if done is None:
            self._part(call, other.module, "forward", None,
                       f"an input of {list(other.inputs[0].shape)} is none that it can take")  # fmt: skip
            return None
        self.judged.layers.append(call.module)
        if self.judged.agreed(other.output, done.output):
            return done
        found = of_layer(asked, other)
        cause = None if found is None else found.cause
        self._part(call, other.module, "forward", cause, _off(other.output, done.output))
        return None if found is None else found.computed

    def _unmodelled(self, call: Call, other: Call) -> None:
        self.judged.unjudged.append(f"{call.module}: the suite has no model of {call.type}")
        same_inputs = all(
            a.shape == b.shape and np.array_equal(a, b)
            for a, b in zip(call.inputs, other.inputs, strict=False)
        )
        if call.output.shape == other.output.shape and np.array_equal(call.output, other.output):
            return
        words = _apart(call.output, other.output) + f"; no bound is known for {call.type}"
        if not same_inputs:
            words += ", and its inputs differ already"
        self._part(call, other.module, "forward", None, words)

    # Gradients.

    def _gradients(self, computed: Sequence[tuple[_Anchor, Computed | None]]) -> None:
        if self._second.calls and all(call.cotangent is None for call in self._second.calls):
            return
        parameters: dict[str, list[Approximate | None]] = {}
        for anchor, done in reversed(computed):
            self._backward(anchor, done, parameters)
        for name, parts in parameters.items():
            self._parameter(name, parts)
        self._between(computed)

    def _backward(
        self,
        anchor: _Anchor,
        done: Computed | None,
        parameters: dict[str, list[Approximate | None]],
    ) -> None:
        """The cotangent of the layer's input, given that of its output."""
        call, other = anchor.first, anchor.second
        pulled = None
        if done is not None and other.cotangent is not None:
            zero = np.zeros(other.cotangent.shape)
            pulled = done.pull(Approximate(other.cotangent.astype(float), zero))
            given = other.input_cotangents[0] if other.input_cotangents else None
            if given is not None and not self.judged.agreed(given, pulled[0]):
                self._part(call, other.module, "gradient", None,
                           f"of its input: {_off(given, pulled[0])}")  # fmt: skip
        for role, (name, transpose) in (anchor.layer.roles if anchor.layer else {}).items():
            if role in ("weight", "bias"):
                found = None if pulled is None else pulled[1].get(role)
                if found is not None and transpose is not None:
                    back = np.argsort(transpose)
                    found = Approximate(found.value.transpose(back), found.error.transpose(back))
                parameters.setdefault(name, []).append(found)

    def _parameter(self, name: str, parts: Sequence[Approximate | None]) -> None:
        """A parameter's gradient: the sum over the calls of its module."""
        total: Approximate | None = None
        for one in parts:
            if one is None:
                return
            total = one if total is None else added("f32", total, one)
        pair = self._of_first.get(name) or self._of_second.get(name)
        if total is None or pair is None or pair.second not in self._second.gradients:
            return
        given = self._second.gradients[pair.second]
        if name == pair.first:
            given = pair.to_first(given)
        if not self.judged.agreed(given, total):
            self._add(owner(pair.first), pair.second, "gradient", None,
                      f"of {pair.first}: {_off(given, total)}")  # fmt: skip

    def _between(self, computed: Sequence[tuple[_Anchor, Computed | None]]) -> None:
        """The cotangent of each layer's output: what its users' pull back, summed."""
        at = self._places()
        total: dict[Place, Approximate] = {}
        users: list[tuple[Expression | None, np.ndarray | None, str]] = [
            (
                self._fitted.get((f"{anchor.first.module} argument", anchor.first.nth)),
                anchor.second.input_cotangents[0] if anchor.second.input_cotangents else None,
                anchor.first.dtype,
            )
            for anchor, _ in computed
        ]
        users.append((self._fitted.get(_END), self._second_seed, self._first.dtype))
        if any(way is None or dy is None for way, dy, _ in users):
            return
        inner: dict[Place, list[str]] = {}
        for way, dy, dtype in users:
            assert way is not None
            assert dy is not None
            _, pull = evaluate(way, dtype, at)
            for place, more in pull(Approximate(dy.astype(float), np.zeros(dy.shape))).items():
                total[place] = added(dtype, total[place], more) if place in total else more
                inner.setdefault(place, []).extend(n.where for n in nodes_of(way) if n.where)
        for anchor, _ in reversed(computed):
            given, expected = anchor.second.cotangent, total.get(anchor.first.key)
            if given is None or expected is None or self.judged.agreed(given, expected):
                continue
            after = inner.get(anchor.first.key, [])
            told = after[0] if len(after) == 1 else f"code after {anchor.first.module}"
            self._add(told, f"code after {anchor.second.module}", "gradient", None,
                      _off(given, expected))  # fmt: skip
        for i, given in enumerate(self._second.input_cotangents):
            expected = total.get(("input", i))
            if given is not None and expected is not None:
                if not self.judged.agreed(given, expected):
                    self._add("the input", "the input", "gradient", None, _off(given, expected))

    @property
    def _second_seed(self) -> np.ndarray | None:
        return self._seed

    def seeded(self, cotangent: np.ndarray | None) -> "Comparison":
        """With the cotangent of the output that both were given."""
        self._seed = cotangent
        return self

    # Running statistics.

    def _statistics(self, anchor: _Anchor, done: Computed) -> None:
        layer = anchor.layer
        if layer is None or layer.kind != "batch_norm" or not done.state:
            return
        given = {}
        for role in ("running_mean", "running_var"):
            name = layer.roles[role][0]
            pair = self._of_first.get(name) or self._of_second.get(name)
            if pair is None or pair.second not in self._second.state:
                return
            given[role] = self._second.state[pair.second]
        wrong = [role for role in given if not self.judged.agreed(given[role], done.state[role])]
        if not wrong:
            return
        cause = _statistics_cause(anchor, given)
        self._part(anchor.first, anchor.second.module, "running statistics", cause,
                   f"{wrong[0]}: {_off(given[wrong[0]], done.state[wrong[0]])}")  # fmt: skip

    def _part(
        self, call: Call, other: str, aspect: Aspect, cause: Cause | None, words: str
    ) -> None:
        name = call.module if call.nth == 0 else f"{call.module} (call {call.nth + 1})"
        self._add(name, other, aspect, cause, words)

    def _add(
        self, layer: str, other: str, aspect: Aspect, cause: Cause | None, words: str
    ) -> None:
        self.judged.partings.append(Parting(layer, other, aspect, cause, words))


def _modules(pairs: Sequence[Pair]) -> dict[str, str]:
    """Which module goes with which, by their weights."""
    return {owner(pair.first): owner(pair.second) for pair in pairs}


def _statistics_cause(anchor: _Anchor, given: Mapping[str, np.ndarray]) -> Cause | None:
    """Another momentum, the biased variance, or both: what gives both buffers."""
    layer, x = anchor.layer, anchor.second.inputs[0]
    assert layer is not None
    right = layer.momentum
    assert right is not None
    count = x.size // x.shape[1]
    for momentum in _momenta(anchor, given["running_mean"], right):
        changed = replace(layer, momentum=momentum)
        state = compute(anchor.first.dtype, changed, anchor.weights, x, training=True).state
        biased = _biased(anchor, momentum, count)
        if not fits(given["running_mean"], state["running_mean"]):
            continue
        fits_unbiased = fits(given["running_var"], state["running_var"])
        fits_biased = fits(given["running_var"], biased)
        if not fits_unbiased and not fits_biased:
            continue
        too = "" if fits_unbiased else (
            f"; and the running variance is the biased one, 1/{count} where torch has 1/{count - 1}"
        )  # fmt: skip
        if momentum == right:
            return Cause("biased-running-variance", too.removeprefix("; and "))
        words = f"the new statistics count {momentum:g} where {right:g} is right"
        if np.isclose(momentum, 1 - right, rtol=0, atol=0.0) or momentum == round(1 - right, 12):
            words += f": Flax's momentum is 1 − torch's, write momentum={1 - right:g}"
            return Cause("batchnorm-momentum-swapped", words + too)
        return Cause("momentum", words + too)
    return None


def _momenta(anchor: _Anchor, given: np.ndarray, right: float) -> Iterator[float]:
    """The right one, its complement, and what the running mean shows, to three digits."""
    yield right
    yield round(1 - right, 12)
    x = anchor.second.inputs[0].astype(float)
    now = x.mean(axis=(0, *range(2, x.ndim)))
    old = anchor.weights["running_mean"].astype(float)
    step = now - old
    size = float((step * step).sum())
    if size > 0:
        yield float(f"{float((step * (given - old)).sum()) / size:.3g}")


def _biased(anchor: _Anchor, momentum: float, count: int) -> Approximate:
    """The running variance, had the variance been divided by the count."""
    numbers = Running(anchor.first.dtype)
    layer = anchor.layer
    assert layer is not None
    whole = replace(layer, momentum=1.0)
    x = anchor.second.inputs[0]
    zero = {**anchor.weights, "running_var": np.zeros_like(anchor.weights["running_var"])}
    unbiased = compute(anchor.first.dtype, whole, zero, x, training=True).state["running_var"]
    share = (count - 1) / count
    now = Approximate(unbiased.value * share, unbiased.error)
    return mixed(numbers, numbers.exactly(anchor.weights["running_var"]), now, momentum)


def _off(given: np.ndarray, expected: Approximate) -> str:
    """How far, in numbers."""
    right = expected.value
    if given.shape != right.shape:
        return f"shape {list(given.shape)} where {list(right.shape)} is right"
    with np.errstate(all="ignore"):
        error = np.abs(given.astype(float) - right)
        ratios = np.where(error == 0, 0.0, error / expected.error)
    ratios = np.where(np.isnan(ratios), np.inf, ratios)
    wrong = int((ratios > 1).sum())
    worst = tuple(int(i) for i in np.unravel_index(int(error.argmax()), right.shape))
    words = (
        f"{wrong} of {right.size} elements outside the bound, most at {list(worst)}: "
        f"{float(given[worst]):.9g} where {right[worst]:.9g} is right, "
        f"{ratios[worst]:.3g} times the bound"
    )
    if not given.any() and right.any():
        words += "; all that came is zero"
    return words


def _apart(ours: np.ndarray, given: np.ndarray) -> str:
    if ours.shape != given.shape:
        return f"shape {list(given.shape)} where the first has {list(ours.shape)}"
    error = np.abs(given.astype(float) - ours.astype(float))
    worst = tuple(int(i) for i in np.unravel_index(int(error.argmax()), ours.shape))
    return (
        f"{int((error != 0).sum())} of {ours.size} elements differ, most at {list(worst)}: "
        f"{float(given[worst]):.9g} against {float(ours[worst]):.9g}"
    )


__all__ = ["Applied", "Comparison", "Judged", "Parting"]
