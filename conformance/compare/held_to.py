"""Each layer of the second model against what the first's makes of the second's own input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare import running_statistics
from conformance.compare.catalogue import Cause
from conformance.compare.causes import Asked, of_layer, of_stretch, rounded_stretch
from conformance.compare.code_between import Expression, Place, evaluate, nodes_of, places_of
from conformance.compare.distance import apart, fits, off, ratio
from conformance.compare.gradients import Gradient, Key, Node, gradients
from conformance.compare.paths import ways_of
from conformance.compare.running_statistics import Kept
from conformance.compare.trace import Call, Layer, Trace, owner
from conformance.compare.weights import Pair

Aspect = Literal["forward", "gradient", "running statistics"]
Weights = Mapping[str, np.ndarray]


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


def judge(
    traces: tuple[Trace, Trace],
    pairs: Sequence[Pair],
    weights: Weights,
    seed: np.ndarray | None,
    *,
    training: bool,
) -> Judged:
    """Forward in the order of the first model's calls, gradients from the end, then statistics.

    Args:
        traces: of the first and the second model, on the same input.
        pairs: which weight of the one is which of the other.
        weights: the first model's.
        seed: the output's cotangent, channels at axis 1; None where no gradient was asked for.
        training: whether batch norms use, and keep, their batch's statistics.
    """
    return _Comparison(traces, pairs, weights, training=training).run(seed)


class _Comparison:
    def __init__(
        self,
        traces: tuple[Trace, Trace],
        pairs: Sequence[Pair],
        weights: Weights,
        *,
        training: bool,
    ) -> None:
        self._first, self._second = traces
        self._weights, self._training = weights, training
        self._by_name = {p.first: p for p in pairs} | {p.second: p for p in pairs}
        self._modules: dict[str, str] = {}
        for pair in pairs:  # a module goes where the first of its weights goes
            self._modules.setdefault(owner(pair.first), owner(pair.second))
        self._judged = Judged()
        theirs = {call.key: call for call in self._second.calls}
        self._pair_of: dict[Place, Call] = {
            call.key: theirs[self._modules[call.module], call.nth]
            for call in self._first.calls
            if (self._modules.get(call.module), call.nth) in theirs
        }

    def run(self, seed: np.ndarray | None) -> Judged:
        """Everything, in order."""
        ways = ways_of(self._first, self._modules)
        nodes: tuple[list[Node], list[Node]] = ([], [])
        for call in self._first.calls:
            if call.module not in self._modules:
                continue
            other = self._pair_of.get(call.key)
            if other is None:
                self._part(call, "", "forward", None, "the second model does not call it")
                continue
            way = ways.to_call[call.key]
            fitted = self._stretch(
                way, call.inputs[0], other.inputs[0], call.dtype, call.module, other.module
            )
            layer, held = self._layer(call, other)
            mine = self._asked(layer, held, call.inputs[0], call.dtype)
            nodes[0].append(
                Node(call, call.key, layer, None if mine is None else mine.computed(), way)
            )
            its = self._asked(layer, held, other.inputs[0], call.dtype)
            computed = its.computed() if self._forward(call, other, its) and its else None
            nodes[1].append(Node(other, call.key, layer, computed, fitted))
        self._called_more()
        fitted = self._stretch(
            ways.to_output, self._first.output, self._second.output, self._first.dtype,
            "the output", "the output",
        )  # fmt: skip
        if seed is not None:
            ours = gradients(
                self._first, nodes[0], ways.to_output, seed, self._parameters(nodes[0], 0)
            )
            theirs = gradients(self._second, nodes[1], fitted, seed, self._parameters(nodes[1], 1))
            self._gradients(ours, theirs)
        for node, other_node in zip(*nodes, strict=True):
            self._statistics(node, other_node.call)
        return self._judged

    def _called_more(self) -> None:
        mine = {call.key for call in self._first.calls}
        back = {other: module for module, other in self._modules.items()}
        for call in self._second.calls:
            if call.module in back and (back[call.module], call.nth) not in mine:
                words = f"the second model calls it {call.nth + 1} times, the first {call.nth}"
                self._add(back[call.module], call.module, "forward", None, words)

    # Forward.

    def _stretch(
        self,
        way: Expression | None,
        ours: np.ndarray,
        given: np.ndarray,
        dtype: str,
        before: str,
        before_other: str,
    ) -> Expression | None:
        """Hold a stretch to its expression; the one that fits it, for its gradient."""
        where, other = f"code before {before}", f"code before {before_other}"
        at: dict[Place, np.ndarray] = {("input", i): x for i, x in enumerate(self._second.inputs)}
        at |= {place: call.output for place, call in self._pair_of.items()}
        if way is None or any(place not in at for place in places_of(way)):
            self._judged.unjudged.append(f"{where}: no known functions give it")
            if ours.shape != given.shape or not np.array_equal(ours, given):
                words = f"{apart(ours, given)}; for this code no bound is known"
                self._add(where, other, "forward", None, words)
            return None
        inside = [node.where for node in nodes_of(way) if node.where]
        told = inside[0] if len(inside) == 1 else where
        among = f"among {', '.join(inside)}: " if len(inside) > 1 else ""
        try:
            expected, _ = evaluate(way, dtype, at)
        except (ValueError, IndexError):
            shapes = ", ".join(str(list(at[place].shape)) for place in places_of(way))
            self._add(told, other, "forward", None, f"{among}it cannot be done to shapes {shapes}")
            return None
        if self._judged.agreed(given, expected):
            return way
        found = of_stretch(way, dtype, at, given)
        if found is not None:
            cause, node, instead = found
            self._add(node.where or where, other, "forward", cause, off(given, expected))
            return instead
        rounded = rounded_stretch(way, dtype, at, given)
        self._add(told, other, "forward", rounded, among + off(given, expected))
        return None

    def _layer(self, call: Call, other: Call) -> tuple[Layer | None, Weights]:
        """The model of a layer that gives what the first one gave: its own, or its pair's."""
        for layer in (call.layer, other.layer):
            weights = {} if layer is None else self._roles(layer)
            asked = self._asked(layer, weights, call.inputs[0], call.dtype)
            done = None if asked is None else asked.computed()
            if done is not None and fits(call.output, done.output):
                return layer, weights
        return None, {}

    def _asked(
        self, layer: Layer | None, weights: Weights, x: np.ndarray, dtype: str
    ) -> Asked | None:
        return None if layer is None else Asked(layer, weights, x, dtype, self._training)

    def _roles(self, layer: Layer) -> Weights:
        found = {}
        for role, (name, transpose) in layer.roles.items():
            pair = self._by_name[name]
            values = self._weights[pair.first]
            if name == pair.second:
                values = pair.to_second(values)
            found[role] = values if transpose is None else values.transpose(transpose)
        return found

    def _forward(self, call: Call, other: Call, asked: Asked | None) -> bool:
        """Whether the second's layer does on its own input what the first's does."""
        if asked is None:
            self._judged.unjudged.append(f"{call.module}: the suite has no model of {call.type}")
            if call.output.shape != other.output.shape or (call.output != other.output).any():
                words = f"{apart(call.output, other.output)}; no bound is known for {call.type}"
                if not np.array_equal(call.inputs[0], other.inputs[0]):
                    words += ", and its inputs differ already"
                self._part(call, other.module, "forward", None, words)
            return False
        done = asked.computed()
        if done is None:
            words = f"an input of shape {list(other.inputs[0].shape)} is none that it can take"
            self._part(call, other.module, "forward", None, words)
            return False
        if self._judged.agreed(other.output, done.output):
            return True
        cause = of_layer(asked, other.output)
        self._part(call, other.module, "forward", cause, off(other.output, done.output))
        return False

    # Gradients.

    def _parameters(self, nodes: Sequence[Node], side: int) -> dict[str, np.ndarray]:
        """The gradients of one run by the layers' names, in torch's form."""
        found = {}
        for node in nodes:
            for name, transpose in (node.layer.roles if node.layer else {}).values():
                pair = self._by_name[name]
                given = (self._first, self._second)[side].gradients.get(
                    (pair.first, pair.second)[side]
                )
                if given is None:
                    continue
                if side == 1 and name == pair.first:
                    given = pair.to_first(given)
                if side == 0 and name == pair.second:
                    given = pair.to_second(given)
                found[name] = given if transpose is None else given.transpose(transpose)
        return found

    def _gradients(self, ours: Mapping[Key, Gradient], theirs: Mapping[Key, Gradient]) -> None:
        """Held to what the first does: where that is no pullback, both must stop it alike."""
        for key, one in theirs.items():
            mine = ours.get(key)
            if mine is None:
                continue
            layer, told = self._told(key, one)
            if fits(mine.given, mine.expected):
                if not self._judged.agreed(one.given, one.expected):
                    self._add(layer, told, "gradient", None, off(one.given, one.expected))
            elif not mine.given.any():
                self._judged.compared += 1
                if one.given.any():
                    words = "a gradient comes back where the first model stops it"
                    self._add(layer, told, "gradient", None, words)
            else:
                self._judged.unjudged.append(f"{layer}: the first model's own gradient is none "
                                             "that the suite knows")  # fmt: skip

    def _told(self, key: Key, one: Gradient) -> tuple[str, str]:
        kind, place = key
        if kind == "parameter":
            pair = self._by_name[place[0]]
            return owner(pair.first), f"the gradient of {pair.second}"
        if kind == "input":
            return place[0], f"the gradient of the input of {self._modules[place[0]]}"
        inside = one.passed[0] if len(set(one.passed)) == 1 else ""
        if kind == "model input":
            return inside or "the input", "the gradient of the model's input"
        told = f"the gradient of the output of {self._modules[place[0]]}"
        return inside or f"code after {place[0]}", told

    # Running statistics.

    def _statistics(self, node: Node, other: Call) -> None:
        layer = node.layer
        if layer is None or layer.kind != "batch_norm" or not self._training:
            return
        if layer.momentum is None or "running_var" not in layer.roles:
            return
        if (node.call.module, 1) in self._pair_of:
            if node.call.nth == 0:
                words = f"{node.call.module}: running statistics of a norm that is called twice"
                self._judged.unjudged.append(words)
            return
        weights = self._roles(layer)
        given = []
        for side, trace in enumerate((self._first, self._second)):
            pairs = {role: self._by_name[layer.roles[role][0]] for role in running_statistics.ROLES}
            named = {role: (pair.first, pair.second)[side] for role, pair in pairs.items()}
            if any(name not in trace.state for name in named.values()):
                return
            given.append({role: trace.state[name] for role, name in named.items()})
        ours = Kept(layer, weights, node.call.inputs[0], node.call.dtype)
        biased = running_statistics.is_biased(ours, given[0])
        if biased is None:
            self._judged.unjudged.append(f"{node.call.module}: its running statistics")
            return
        kept = Kept(layer, weights, other.inputs[0], node.call.dtype)
        expected = kept.after(layer.momentum, biased=biased)
        wrong = [
            role
            for role in running_statistics.ROLES
            if not self._judged.agreed(given[1][role], expected[role])
        ]
        if wrong:
            cause = running_statistics.cause(kept, given[1], biased=biased)
            words = f"{wrong[0]}: {off(given[1][wrong[0]], expected[wrong[0]])}"
            self._part(node.call, other.module, "running statistics", cause, words)

    def _part(
        self, call: Call, other: str, aspect: Aspect, cause: Cause | None, words: str
    ) -> None:
        name = call.module if call.nth == 0 else f"{call.module} (call {call.nth + 1})"
        self._add(name, other, aspect, cause, words)

    def _add(self, layer: str, other: str, aspect: Aspect, cause: Cause | None, words: str) -> None:
        self._judged.partings.append(Parting(layer, other, aspect, cause, words))
