"""Holds a port, run as it is in its own types, to the same computation with float32's errors.

Where float64 agrees the function is right, and what is left is how it rounds. The port's weights
and constants are those that it has; each call of a submodule is judged from what came before it.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from conformance.compare.catalogue import Cause
from conformance.compare.load_model import Side, as_it_is
from conformance.compare.matching import Values
from conformance.compare.trace import Asked, Call, Model, Plain, Trace

_PRODUCTS = ("Linear", "Conv", "Dense", "Einsum", "Attention")


@dataclass(frozen=True)
class TooRough:
    """Where a port rounds more than float32 does.

    Attributes:
        place: the original's submodule, else the port's own.
    """

    place: str
    cause: Cause
    words: str


def too_rough(
    sides: tuple[Side, Side], models: tuple[Model, Model], asked: tuple[Asked, Asked],
    original: Trace,
) -> TooRough | None:  # fmt: skip
    """The first place whose value float32 cannot explain; None where nothing can be said.

    Nothing is said either where the original itself rounds more: then that is what is meant.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # They are of no run that anybody asked for.
            found = _rough(sides[1], models[1], asked[1], original)
            if found is None or _rough(sides[0], models[0], asked[0], original) is not None:
                return None
            return found
    except Exception:  # noqa: BLE001  A model that runs in float64 alone has no types of its own.
        return None


def _rough(side: Side, laid: Model, asked: Asked, original: Trace) -> TooRough | None:
    inputs = {k: x.astype(np.float32).astype(float) if x.dtype.kind == "f" else x
              for k, x in asked.inputs.items()}  # fmt: skip
    asked = replace(asked, inputs=inputs, seeds=None, keeps_values=False, charged=False)
    own = as_it_is(side).laid(laid.channels_from, laid.outputs_from)
    plain = own.plain(asked)
    return _first(own.in_float32(), asked, plain, original)


def _first(model: Model, asked: Asked, plain: Plain, original: Trace) -> TooRough | None:
    model.shapes(asked.inputs, training=asked.training)
    calls = model.run(asked).calls
    if [c.module.partition(" ")[0] for c in calls] != [path for path, _ in plain.calls]:
        return None
    apart = {
        number: float(np.abs(value - call.output.value).max(initial=0.0))
        for number, (call, (_, value)) in enumerate(zip(calls, plain.calls, strict=True))
    }
    if not all(map(np.isfinite, apart.values())):
        return None
    trace = model.run(replace(asked, anchored_calls=apart))
    for call, (path, value) in zip(trace.calls, plain.calls, strict=True):
        words = _outside(value, call.output.value, call.output.error)
        if words is not None:
            return TooRough(_in_original(call, original) or path, _cause(call, plain), words)
    return _of_outputs(trace, plain.outputs, plain)


def _of_outputs(
    trace: Trace, outputs: Mapping[str, np.ndarray], plain: Plain
) -> TooRough | None:  # fmt: skip
    for path, at in trace.outputs.items():
        words = _outside(outputs[path], at.value, at.error) if path in outputs else None
        if words is not None:
            last = trace.calls[-1].module if trace.calls else ""
            place = f"code after {last}" if last else "code before the output"
            return TooRough(place, _cause(None, plain), words)
    return None


def _outside(value: np.ndarray, right: np.ndarray, error: np.ndarray) -> str | None:
    if value.shape != right.shape:
        return None
    with np.errstate(all="ignore"):
        apart = np.abs(value - right)
        far = apart > error
    if not far.any():
        return None
    worst = int(np.argmax(np.where(far, apart, -1.0)))
    times = apart.reshape(-1)[worst] / np.broadcast_to(error, right.shape).reshape(-1)[worst]
    return (
        f"{int(far.sum())} of {far.size} elements are further off than float32 rounds, most by "
        f"{apart.reshape(-1)[worst]:.3g} at a value of {right.reshape(-1)[worst]:.6g}, {times:.3g} "
        "times the bound"
    )


def _cause(call: Call | None, plain: Plain) -> Cause:
    is_product = call is None or any(part in call.type for part in _PRODUCTS)
    name = "reduced-precision-matmul" if is_product else "reduced-precision"
    if plain.narrow:
        return Cause(name, f"as it runs it rounds to {', '.join(sorted(plain.narrow))}")
    words = "as it runs it rounds more than float32 does, as TF32 or bfloat16 operands do"
    return Cause(name, words)


def _in_original(call: Call, original: Trace) -> str | None:
    """The original's submodule that gave the same value."""
    theirs = Values([(number, c.output) for number, c in enumerate(original.calls)])
    match = theirs.find(call.output)
    return None if match is None else original.calls[match.number].module
