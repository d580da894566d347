"""Changes of what a step is given: steps in another order, or another value of the same shape."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, option
from conformance.compare.torch_called_model import SUMS, Called, changes
from conformance.compare.torch_layer_changes_model import ACTIVATION_CALLS, NORMS

_STEPS = (*ACTIVATION_CALLS, *NORMS)


@changes(*_STEPS)
def of_terms(call: Called) -> Iterator[Option]:
    """A step on one term of a sum, or on each, that the original does on the sum."""
    first, second = call.previous.terms or (None, None)
    if not all(isinstance(x, torch.Tensor) and x.shape == call.x.shape for x in (first, second)):
        return
    words = f"{call.name} was done to {{}} of two terms, not to their sum"
    for which, made in (
        ("the first", lambda: call.on(first)() + second),
        ("the second", lambda: first + call.on(second)()),
        ("each", lambda: call.on(first)() + call.on(second)()),
    ):
        yield option("order-of-steps", words.format(which), made)


@changes(*_STEPS)
def put_off(call: Called) -> Iterator[Option]:
    """A step that comes after a later one: here it is left out."""

    def left_out() -> Any:
        call.around.late = call
        return call.x * 1.0

    words = f"{call.name} comes after what follows it, not before"
    yield Option(Cause("order-of-steps", words), left_out, half="put off")


@changes(*_STEPS, *SUMS, "avg_pool2d", "adaptive_avg_pool2d", "mean")
def done_later(call: Called) -> Iterator[Option]:
    """The step before which one that was put off should have been."""
    if not isinstance(call.x, torch.Tensor) or not call.x.is_floating_point():
        return  # A batch norm counts its batches, say.

    def later() -> Any:
        late, call.around.late = call.around.late, None
        assert late is not None, "nothing was put off"
        return late.on(call())()

    words = "what was put off comes now"
    yield Option(Cause("order-of-steps", words), later, half="comes now")


@changes("mul", "__mul__")
def gates(call: Called) -> Iterator[Option]:
    """A gate whose activation is done to what is gated."""
    factors = call.args[:2]
    for own, other in (factors, factors[::-1]):
        act = call.around.made_by(own) if isinstance(own, torch.Tensor) else None
        if act is not None and isinstance(other, torch.Tensor) and other.shape == act.x.shape:
            words = f"{act.name} is done to the other one of two factors"
            yield option("gate-exchanged", words,
                         lambda act=act, other=other: act.x * act.on(other)())  # fmt: skip


@changes("add", "__add__", "mul", "__mul__", "cat", "concat", "matmul", "__matmul__")
def other_terms(call: Called) -> Iterator[Option]:
    """Another value in the place of one of two."""
    is_join = isinstance(call.x, tuple | list)
    values = list(call.x if is_join else call.args[:2])
    if len(values) != 2 or not all(isinstance(x, torch.Tensor) and x.ndim > 1 for x in values):
        return
    for place, which in ((0, "first"), (1, "second")):
        for words, other in call.around.like(values[place]):
            if other is values[1 - place]:
                continue
            both = [other if i == place else x for i, x in enumerate(values)]

            def made(both: list[Any] = both) -> Any:
                return call.on(both)() if is_join else call.func(*both, *call.args[2:])

            yield option("other-input", f"its {which} value is {words}", made)


def inputs(call: Called, kind: str) -> Iterator[Option]:
    """Of a submodule what it may be given instead, each a function that returns its arguments."""
    if "rms" in kind.lower() and call.args:
        words = "the mean is taken off, as in a layer norm"
        yield option("rms-norm-centred", words, lambda: call.func(
            call.x - call.x.mean(-1, True), *call.args[1:]))  # fmt: skip
    seen: list[Any] = []
    for x in call.args:
        if not isinstance(x, torch.Tensor) or any(x is y for y in seen):
            continue
        seen.append(x)
        for words, other in call.around.like(x):
            yield option("other-input", f"it was given {words}", _exchanged(call, x, other))


def _exchanged(call: Called, x: Any, other: Any) -> Callable[[], Any]:
    """Its arguments, with another tensor wherever one stands."""
    args = [other if y is x else y for y in call.args]
    return lambda: call.func(*args)
