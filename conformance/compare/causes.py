"""What was done instead, where a port's layer gives something else: named only on evidence.

A cause is a change that a port is known to make. It is tried on the layer's own captured input,
and has a name only if it gives what the port gave, inside the derived error.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations

import ml_dtypes
import numpy as np

from conformance.arithmetic.running import UNIT_ROUNDOFF, Approximate
from conformance.compare import functions
from conformance.compare.catalogue import Cause
from conformance.compare.code_between import (
    Applied,
    Expression,
    Place,
    evaluate,
    nodes_of,
    replaced,
)
from conformance.compare.distance import fits
from conformance.compare.functions import Function
from conformance.compare.layers import Computed, compute, sides_of
from conformance.compare.trace import Layer

Weights = Mapping[str, np.ndarray]
# What frameworks take where nothing is said: torch, Flax and Keras.
DEFAULT_EPSILONS = {
    "batch_norm": (1e-5, 1e-3),
    "layer_norm": (1e-5, 1e-6, 1e-3),
    "group_norm": (1e-5, 1e-6, 1e-3),
}
_USUAL_EPSILONS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0)


@dataclass(frozen=True)
class Asked:
    """A layer, what it was given, and what came back."""

    layer: Layer
    weights: Weights
    x: np.ndarray
    dtype: str
    training: bool

    def computed(
        self,
        layer: Layer | None = None,
        weights: Weights | None = None,
        x: np.ndarray | None = None,
        dtype: str | None = None,
    ) -> Computed | None:
        """The layer with something else in it; None where shapes do not go together."""
        try:
            return compute(
                dtype or self.dtype,
                layer or self.layer,
                self.weights if weights is None else weights,
                self.x if x is None else x,
                training=self.training,
            )
        except ValueError:
            return None


def of_layer(asked: Asked, given: np.ndarray) -> Cause | None:
    """The one change that gives the output; None where none does, or several that differ."""
    found = [
        (cause, computed.output.value)
        for cause, computed in _changes(asked, given)
        if computed is not None and fits(given, computed.output)
    ]
    alike = all(np.array_equal(value, found[0][1]) for _, value in found)
    names = {cause.name for cause, _ in found}
    return found[0][0] if found and (alike or len(names) == 1) else None


def _changes(asked: Asked, given: np.ndarray) -> Iterator[tuple[Cause, Computed | None]]:
    kind = asked.layer.kind
    if kind in ("linear", "conv"):
        yield from _kernels(asked)
        yield from _precisions(asked, given)
    if kind == "conv":
        yield from _paddings(asked)
    if kind in DEFAULT_EPSILONS:
        yield from _epsilons(asked, given)
        if kind == "batch_norm":
            other = "its running statistics" if asked.training else "the batch's statistics"
            with_other = replace(asked, training=not asked.training).computed()
            yield Cause("statistics", f"it normalised by {other}"), with_other
        yield from _precisions(asked, given)
    if "bias" in asked.weights:
        without = {role: v for role, v in asked.weights.items() if role != "bias"}
        yield Cause("bias-left-out", "its bias is not added"), asked.computed(weights=without)


def _kernels(asked: Asked) -> Iterator[tuple[Cause, Computed | None]]:
    """Every order of the kernel's axes that keeps its shape, and the kernel turned around."""
    weight = asked.weights["weight"]
    names = "OI" if weight.ndim == 2 else "OIHW"
    for order in permutations(range(weight.ndim)):
        moved = weight.transpose(order)
        if moved.shape == weight.shape and not np.array_equal(moved, weight):
            axes = "".join(names[axis] for axis in order)
            yield (
                Cause(
                    "kernel-not-transposed",
                    f"it multiplied by its kernel with axes {axes} where {names} is right",
                ),
                asked.computed(weights={**asked.weights, "weight": moved}),
            )
    if weight.ndim == 4:
        turned = weight[..., ::-1, ::-1]
        if not np.array_equal(turned, weight):
            yield (
                Cause(
                    "kernel-flipped", "it convolved (kernel turned around) where torch correlates"
                ),
                asked.computed(weights={**asked.weights, "weight": turned}),
            )


def _paddings(asked: Asked) -> Iterator[tuple[Cause, Computed | None]]:
    """SAME as XLA has it, VALID, and every padding that gives an output of the given shape."""
    layer = asked.layer
    kernel, spatial = asked.weights["weight"].shape[2:], asked.x.shape[2:]
    own = sides_of(layer, kernel, spatial)
    same = sides_of(replace(layer, padding="SAME"), kernel, spatial)
    seen = {own}
    if same not in seen:
        seen.add(same)
        yield (
            Cause(
                "same-padding",
                f"it padded {list(same)}, which is SAME, where {list(own)} is right",
            ),
            asked.computed(replace(layer, padding=same)),
        )
    for before_h in range(kernel[0]):
        for after_h in range(kernel[0]):
            sides = ((before_h, after_h),) * 2
            if len(set(kernel)) == 1 and sides not in seen:
                seen.add(sides)
                words = "which is VALID, " if not before_h and not after_h else ""
                yield (
                    Cause("padding", f"it padded {list(sides)}, {words}where {list(own)} is right"),
                    asked.computed(replace(layer, padding=sides)),
                )


def _epsilons(asked: Asked, given: np.ndarray) -> Iterator[tuple[Cause, Computed | None]]:
    """Read off the answer first; then the usual ones, for the one that it is meant to be."""
    right = asked.layer.epsilon
    for value in dict.fromkeys([*_read_off(asked, given), *_USUAL_EPSILONS]):
        if value == right:
            continue
        is_default = value in DEFAULT_EPSILONS[asked.layer.kind]
        computed = asked.computed(replace(asked.layer, epsilon=value))
        if computed is not None and fits(given, computed.output):
            name = "default-epsilon" if is_default else "epsilon"
            words = f"its epsilon is {value:g} where {right:g} is right, by what it gave"
            if is_default:
                words += f"; a framework's default, write epsilon={right:g}"
            yield Cause(name, words), computed
            return


def _read_off(asked: Asked, given: np.ndarray) -> Iterator[float]:
    """The usual epsilon nearest to what the output shows, and what it shows, to three digits.

    y(ε') − y(ε) = (ε' − ε)·dy/dε to first order: a few steps of Gauss and Newton over all elements.
    """
    if given.shape != asked.x.shape:
        return
    estimate = asked.layer.epsilon
    for _ in range(8):
        here = asked.computed(replace(asked.layer, epsilon=estimate))
        step = max(estimate * 1e-3, 1e-9)
        beyond = asked.computed(replace(asked.layer, epsilon=estimate + step))
        if here is None or beyond is None:
            return
        slope = (beyond.output.value - here.output.value) / step
        error = given.astype(float) - here.output.value
        size = float((slope * slope).sum())
        if not np.isfinite(size) or size == 0:
            return
        estimate = max(estimate + float((slope * error).sum()) / size, 0.0)
    yield min(_USUAL_EPSILONS, key=lambda usual: abs(usual - estimate))
    yield float(f"{estimate:.3g}")


def _precisions(asked: Asked, given: np.ndarray) -> Iterator[tuple[Cause, Computed | None]]:
    """A narrower type for the operands, the result, or both: what it gave must have its bits."""
    kinds = ("linear", "conv")
    name = "reduced-precision-matmul" if asked.layer.kind in kinds else "reduced-precision"
    right = asked.computed()
    if right is None or asked.dtype in NARROW:
        return
    for dtype, told in (*NARROWING.items(), ("tf32", "TF32")):
        rounded = {role: narrowed(v, dtype) for role, v in asked.weights.items()}
        x = narrowed(asked.x, dtype)
        changed = not np.array_equal(x, asked.x) or any(
            not np.array_equal(v, asked.weights[role]) for role, v in rounded.items()
        )
        if changed and asked.layer.kind in kinds:
            words = f"it multiplied in {told}: what it gave is the answer to operands rounded to it"
            yield Cause(name, words), asked.computed(weights=rounded, x=x)
        if dtype == "tf32":
            continue
        inner = asked.computed(weights=rounded, x=x)
        through = _through(inner, given, dtype)
        if through is not None:
            words = f"it computed in {told}: every number that it gave is one of {told}"
            words += f", where the original gives {asked.dtype}"
            yield Cause(name, words), through


NARROWING = {"bf16": "bfloat16", "f16": "float16"}
NARROW = frozenset(NARROWING)


def narrowed(values: np.ndarray, dtype: str) -> np.ndarray:
    """Rounded to bf16, f16, or TF32's eleven bits, and back.

    >>> narrowed(np.float32([1 + 2**-9]), "bf16").tolist()
    [1.0]
    """
    if dtype == "tf32":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        half = (bits >> np.uint32(13) & np.uint32(1)) + np.uint32((1 << 12) - 1)
        kept = (bits + half) & np.uint32(0xFFFFE000)
        return kept.view(np.float32)
    kind = ml_dtypes.bfloat16 if dtype == "bf16" else np.float16
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32).astype(kind).astype(np.float32)


def _through(computed: Computed | None, given: np.ndarray, dtype: str) -> Computed | None:
    """The answer with the error of the narrow type added, if what was given has only its bits."""
    if computed is None or not np.array_equal(narrowed(given, dtype), given):
        return None
    value, error = computed.output.value, computed.output.error
    if np.array_equal(narrowed(value.astype(np.float32), dtype), value):
        return None  # the right answer has no more bits: nothing shows
    # Rounded after the product, after a bias, and by the framework's own sum.
    narrow = 3 * UNIT_ROUNDOFF[dtype] * (np.abs(value) + error)
    return Computed(Approximate(value, error + narrow), computed.pull, computed.state)


def of_stretch(
    expression: Expression, dtype: str, at: Mapping[Place, np.ndarray], given: np.ndarray
) -> tuple[Cause, Applied, Expression] | None:
    """The one function that, in another's place, gives what was given; None if none or several."""
    found = []
    for node in nodes_of(expression):
        shape = _shape_before(node, dtype, at)
        for cause, function in _instead(node.function, shape):
            other = replaced(expression, node, function)
            try:
                value, _ = evaluate(other, dtype, at)
            except (ValueError, IndexError):
                continue
            if fits(given, value):
                found.append((cause, node, other, value.value))
    alike = all(np.array_equal(value, found[0][3]) for *_, value in found)
    names = {(cause.name, node.where) for cause, node, *_ in found}
    return found[0][:3] if found and (alike or len(names) == 1) else None


def rounded_stretch(
    expression: Expression, dtype: str, at: Mapping[Place, np.ndarray], given: np.ndarray
) -> Cause | None:
    """Whether what was given is the right answer in a narrower type."""
    right, _ = evaluate(expression, dtype, at)
    for narrow, told in NARROWING.items():
        plain = right.value.astype(np.float32)
        if dtype in NARROW or not np.array_equal(narrowed(given, narrow), given):
            continue
        if np.array_equal(narrowed(plain, narrow), plain):
            continue
        if fits(given, evaluate(expression, narrow, at)[0]) or fits(
            given,
            Approximate(right.value, right.error + UNIT_ROUNDOFF[narrow] * np.abs(right.value)),
        ):
            return Cause("reduced-precision", f"every number of it is one of {told}")
    return None


def _shape_before(node: Applied, dtype: str, at: Mapping[Place, np.ndarray]) -> tuple[int, ...]:
    return tuple(evaluate(node.arguments[0], dtype, at)[0].value.shape)


def _instead(right: Function, shape: tuple[int, ...]) -> Iterator[tuple[Cause, Function]]:
    family: Callable[..., Iterator[tuple[Cause, Function]]] | None = {
        "pointwise": _other_pointwise,
        "shuffle": _other_shuffles,
        "flatten": _other_flattens,
        "pool": _other_pools,
    }.get(right.family)
    if family is not None:
        yield from family(right, shape)


def _other_pointwise(right: Function, _: tuple[int, ...]) -> Iterator[tuple[Cause, Function]]:
    for other in functions.POINTWISE:
        if other.name == right.name:
            continue
        words = f"what came out is {other.name} where {right.name} is right"
        name = "activation"
        if other.name == "gelu (tanh)" and right.name == "gelu (erf)":
            name = "tanh-gelu"
        elif other.name == "gelu (erf)" and right.name == "gelu (tanh)":
            name = "erf-gelu"
        yield Cause(name, words), other
    yield Cause("activation", f"nothing was done where {right.name} is right"), functions.IDENTITY


def _other_shuffles(right: Function, shape: tuple[int, ...]) -> Iterator[tuple[Cause, Function]]:
    groups = right.settings[0] if right.settings else 1
    if not isinstance(groups, int) or len(shape) < 3:
        return
    channels = shape[1]
    yield (
        Cause(
            "inverse-groups", f"shuffled with {channels // groups} groups where {groups} is right"
        ),
        functions.shuffle(channels // groups),
    )
    yield Cause("no-transpose", "the channels are in the order they had"), functions.IDENTITY
    for axis in range(2, len(shape)):
        if shape[axis] % groups == 0:
            yield (
                Cause(
                    "wrong-axis-channels-last", f"spatial axis {axis - 2} is shuffled, not channels"
                ),
                functions.shuffle(groups, axis),
            )


def _other_flattens(right: Function, _: tuple[int, ...]) -> Iterator[tuple[Cause, Function]]:
    first = right is functions.FLATTEN
    other = functions.FLATTEN_CHANNELS_LAST if first else functions.FLATTEN
    was, is_right = ("(H, W, C)", "(C, H, W)") if first else ("(C, H, W)", "(H, W, C)")
    yield (
        Cause(
            "reinterpreted-layout",
            f"flattened in the order {was} where the next kernel's rows are in the order "
            f"{is_right}: move the channels before the reshape",
        ),
        other,
    )


def _other_pools(right: Function, shape: tuple[int, ...]) -> Iterator[tuple[Cause, Function]]:
    kind, side, stride, pads, counted = right.settings if len(right.settings) == 5 else (None,) * 5
    if kind is None or len(shape) != 4:
        return
    for other in functions.pools(shape, "max") + functions.pools(shape, "avg"):
        its = other.settings
        if its == right.settings:
            continue
        words = f"what came out is {other.name} where {right.name} is right"
        if its[:3] == (kind, side, stride) and its[3] != pads:
            total = max((-(-shape[2] // its[2]) - 1) * its[2] + its[1] - shape[2], 0)  # type: ignore[operator]
            is_same = its[3] == (total // 2, total - total // 2)
            yield Cause("same-padding" if is_same else "padding", words), other
        elif its[:4] == (kind, side, stride, pads) and its[4] != counted:
            yield Cause("padding", words), other
        else:
            yield Cause("pooling", words), other
