"""Changes of an original's weights, and the traces that a narrower type leaves."""

from collections.abc import Iterator, Mapping
from itertools import permutations

import ml_dtypes
import numpy as np

from conformance.compare.catalogue import Cause
from conformance.compare.judge import Followed, Place
from conformance.compare.trace import owner


def narrowed(place: Place, followed: Followed) -> Cause | None:
    """Whether the port's value there has only the bits of a narrower type."""
    calls = followed.traces[0].calls
    if place.call >= len(calls):
        return None
    call = calls[place.call]
    other = followed.values.like(call.output, 2.0**-4)
    for kind, name in ((ml_dtypes.bfloat16, "bfloat16"), (np.float16, "float16")):
        if other is None or not np.array_equal(other.astype(kind).astype(np.float64), other):
            continue
        with np.errstate(over="ignore"):
            whole = call.output.value.astype(kind).astype(np.float64)
        if not np.array_equal(whole, call.output.value):
            product = any(part in call.type for part in ("Linear", "Conv", "Dense", "Einsum"))
            cause = "reduced-precision-matmul" if product else "reduced-precision"
            return Cause(
                cause, f"it computed in {name}: every number that it gave is one of {name}"
            )
    return None


def weight_changes(
    place: Place, followed: Followed, weights: Mapping[str, np.ndarray]
) -> Iterator[tuple[Cause, str, dict[str, np.ndarray]]]:
    """Weights turned, left out, moved by one, or with their gates in another order."""
    calls = followed.traces[0].calls
    module = calls[min(place.call, len(calls) - 1)].module if calls else ""
    near = {module, module.rpartition(".")[0]}
    own = {n: w for n, w in weights.items() if owner(n) in near}
    for name, weight in own.items():
        last = name.replace("/", ".").rpartition(".")[2]
        for cause, words, changed in _otherwise(last, weight):
            yield Cause(cause, words), owner(name) or place.name, {name: changed}
    yield from _gates(own)


def _otherwise(last: str, weight: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    for order in permutations(range(weight.ndim)) if 2 <= weight.ndim <= 4 else ():
        turned = weight.transpose(order)
        if turned.shape == weight.shape and not np.array_equal(turned, weight):
            words = f"it multiplied by its kernel with axes {list(order)}"
            yield "kernel-not-transposed", words, turned
    if weight.ndim >= 2:
        moved = (1, 0, *range(2, weight.ndim))
        other = weight.reshape([weight.shape[i] for i in moved]).transpose(moved)
        words = "its kernel is reshaped where its axes are to be moved"
        yield "kernel-not-transposed", words, other
    if weight.ndim >= 3:
        words = "its kernel is turned around, as in a convolution of mathematics"
        yield "kernel-flipped", words, np.flip(weight, tuple(range(2, weight.ndim)))
    if "bias" in last:
        which = "its bias" if last == "bias" else last
        yield "bias-left-out", f"{which} is not added", np.zeros(weight.shape)
        yield "bias-added-twice", f"{which} is added twice", 2 * weight
    if weight.ndim == 1 and last in ("weight", "scale"):
        yield "norm-weight-plus-one", "it multiplies by 1 + w", 1 + weight
        yield "scale-left-out", "its weight is not multiplied by", np.ones(weight.shape)
    if weight.ndim == 1 and last not in ("weight", "running_mean", "running_var") and (
        "bias" not in last
    ):  # fmt: skip
        yield "layer-scale-left-out", f"{last} is left out", np.ones(weight.shape)


def _gates(own: Mapping[str, np.ndarray]) -> Iterator[tuple[Cause, str, dict[str, np.ndarray]]]:
    rows = {n: w for n, w in own.items() if "_ih" in n or "_hh" in n}
    hidden = next((w.shape[1] for n, w in rows.items() if "weight_hh" in n), 0)
    count = next(iter(rows.values())).shape[0] // hidden if hidden else 0
    for order in permutations(range(count)) if 3 <= count <= 4 else ():
        if order != tuple(range(count)):
            changed = {
                n: np.concatenate([np.split(w, count)[i] for i in order]) for n, w in rows.items()
            }
            names = "ifgo" if count == 4 else "rzn"
            letters = "".join(names[i] for i in order)
            words = f"its gates are in the order {letters}, by rows of its weights"
            yield Cause("gate-order", words), owner(next(iter(rows))), changed
