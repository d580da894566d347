"""What leads to each layer of a model, and to its output: expressions over its layers' outputs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.compare.code_between import Expression, Place, explain, substituted
from conformance.compare.trace import Trace


@dataclass(frozen=True)
class Ways:
    """Of each call of a module with weights what its first input is made of, and of the output.

    None where nothing explains it.
    """

    to_call: Mapping[Place, Expression | None]
    to_output: Expression | None


def ways_of(trace: Trace, modules: Collection[str]) -> Ways:
    """Down to the outputs of `modules` and the model's inputs; other submodules are looked into."""
    known: dict[Place, Expression | None] = {}
    to_call: dict[Place, Expression | None] = {}
    sources: list[tuple[Place, np.ndarray]] = [
        (("input", i), x) for i, x in enumerate(trace.inputs)
    ]
    for call in trace.calls:
        found = [explain(x, sources, call.dtype) for x in call.inputs]
        ways = [None if way is None else substituted(way, known) for way in found]
        if call.module in modules:
            to_call[call.key] = ways[0] if ways else None
        else:
            known[call.key] = _through(call.module, call.inputs, call.output, call.dtype, ways)
        sources.append((call.key, call.output))
    end = explain(trace.output, sources, trace.dtype)
    return Ways(to_call, None if end is None else substituted(end, known))


def _through(
    module: str,
    inputs: Sequence[np.ndarray],
    output: np.ndarray,
    dtype: str,
    ways: Sequence[Expression | None],
) -> Expression | None:
    """What a submodule without weights does, of what leads to it."""
    own: list[tuple[Place, np.ndarray]] = [
        (("argument of " + module, i), x) for i, x in enumerate(inputs)
    ]
    found = explain(output, own, dtype, module)
    if found is None:
        return None
    return substituted(found, {place: way for (place, _), way in zip(own, ways, strict=True)})
