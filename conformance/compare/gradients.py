"""The gradients that a run gave, each beside what its own captured cotangents make it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.code_between import Expression, Place, added, evaluate, nodes_of, places_of
from conformance.compare.layers import Computed
from conformance.compare.trace import Call, Layer, Trace


@dataclass(frozen=True)
class Node:
    """A call of a layer in one run.

    Attributes:
        call: as it was captured in this run.
        place: the name of its output in expressions: the call's key in the first model.
        layer: what both models' call should compute, with the weights' names of one of them.
        computed: the layer on this run's input; None where the layer is not known, or parted.
        way: what leads to its input; None where it is not known.
    """

    call: Call
    place: Place
    layer: Layer | None
    computed: Computed | None
    way: Expression | None


@dataclass(frozen=True)
class Gradient:
    """One gradient: what was given, what is expected, and the submodules that it passed."""

    given: np.ndarray
    expected: Approximate
    passed: tuple[str, ...] = ()


Key = tuple[str, Place]  # of the input, a parameter's, of the output; of a model's input


def gradients(
    trace: Trace,
    nodes: Sequence[Node],
    to_output: Expression | None,
    seed: np.ndarray,
    parameters: Mapping[str, np.ndarray],
) -> dict[Key, Gradient]:
    """Backwards, from the last layer to the first.

    Args:
        trace: the run.
        nodes: its layers, in the order of their calls.
        to_output: what leads from the layers to the output.
        seed: the output's cotangent.
        parameters: the run's gradients by the layers' names for them, in torch's form.
    """
    at = {node.place: node.call.output for node in nodes}
    at |= {("input", i): x for i, x in enumerate(trace.inputs)}
    between = _between(trace, nodes, to_output, seed, at)
    sums: dict[str, Approximate | None] = {}
    found: dict[Key, Gradient] = {}
    for node in reversed(nodes):
        if ("output", node.place) in between:
            found["output", node.place] = between["output", node.place]
        pulled = _pulled(node)
        if pulled is not None and node.call.input_cotangents[0] is not None:
            found["input", node.place] = Gradient(node.call.input_cotangents[0], pulled[0])
        for role, (name, _) in (node.layer.roles if node.layer else {}).items():
            if role in ("weight", "bias"):
                more = None if pulled is None else pulled[1].get(role)
                sums[name] = _sum(node.call.dtype, sums[name], more) if name in sums else more
    for name, total in sums.items():
        if total is not None and name in parameters:
            found["parameter", (name, 0)] = Gradient(parameters[name], total)
    return found | {key: one for key, one in between.items() if key[0] == "model input"}


def _pulled(node: Node) -> tuple[Approximate, dict[str, Approximate]] | None:
    dy = node.call.cotangent
    if node.computed is None or dy is None or not node.call.input_cotangents:
        return None
    return node.computed.pull(_exactly(dy))


def _sum(dtype: str, a: Approximate | None, b: Approximate | None) -> Approximate | None:
    return None if a is None or b is None else added(dtype, a, b)


def _exactly(values: np.ndarray) -> Approximate:
    return Approximate(values.astype(np.float64), np.zeros(values.shape))


def _between(
    trace: Trace,
    nodes: Sequence[Node],
    to_output: Expression | None,
    seed: np.ndarray,
    at: Mapping[Place, np.ndarray],
) -> dict[Key, Gradient]:
    """Of each layer's output the sum of what its users pull back; empty where a user is unknown."""
    users: list[tuple[Expression | None, np.ndarray | None, str]] = [
        (n.way, n.call.input_cotangents[0] if n.call.input_cotangents else None, n.call.dtype)
        for n in nodes
    ]
    users.append((to_output, seed, trace.dtype))
    total: dict[Place, Approximate] = {}
    passed: dict[Place, list[str]] = {}
    for way, dy, dtype in users:
        if way is None or dy is None or any(place not in at for place in places_of(way)):
            return {}
        _, pull = evaluate(way, dtype, at)
        for place, more in pull(_exactly(dy)).items():
            total[place] = added(dtype, total[place], more) if place in total else more
            passed.setdefault(place, []).extend(n.where for n in nodes_of(way) if n.where)
    found: dict[Key, Gradient] = {}
    for node in nodes:
        if node.call.cotangent is not None and node.place in total:
            found["output", node.place] = Gradient(
                node.call.cotangent, total[node.place], tuple(passed[node.place])
            )
    for i, given in enumerate(trace.input_cotangents):
        start: Place = ("input", i)
        if given is not None and start in total:
            found["model input", start] = Gradient(given, total[start], tuple(passed[start]))
    return found
