"""Draws cases of channel shuffle: shapes, groups, dtypes, layouts, and what each asks."""

from typing import Any

from hypothesis import strategies as st

from conformance.channel_shuffle.cases import ACCEPTED, BIT_PATTERNS, COPIES, indivisible, make_case
from conformance.core.dtypes import DTYPES
from conformance.core.questions import Layout, Refusal, ShuffleCase, ShuffleQuestion

_MOST_FACTOR = 8
# A value that is to be drawn often stands more than once; the shrinker prefers the first values.
_SAMPLES, _SIDES = (1, 2, 3, 4, 2, 3, 0), (1, 2, 3, 4, 5, 2, 3, 4, 0)
# quint8 stands last, because torch shuffles it in four dimensions alone.
_DTYPES = ("f32", *(name for name in ACCEPTED if name not in ("f32", "quint8")), "quint8")
_ANYWHERE: tuple[Layout, ...] = ("contiguous", "transposed", "sliced", "expanded", "negative")
_BY_RANK: dict[int, Layout] = {4: "channels_last", 5: "channels_last_3d"}
# Transforms that compile anew for every shape are left to the suite's own cases.
_TRANSFORMS = ("plain", "plain", "plain", "eager", "vmapped")


@st.composite
def cases(draw: st.DrawFn) -> ShuffleCase:
    """Draws a case that every implementation which promises what it asks must conform to."""
    fields = draw(_shapes())
    if (refusal := _refusal_of(fields)) is not None:
        return _named(ShuffleQuestion(**fields), "refusals", refusal=refusal)
    fields |= draw(_contents(fields["shape"]))
    fields |= draw(_ways(fields))
    question = ShuffleQuestion(**fields)
    is_copy = question.fill in BIT_PATTERNS or question.observe == "effects"
    return _named(question, "fuzz", promises=COPIES if is_copy else ())


@st.composite
def _shapes(draw: st.DrawFn) -> dict[str, Any]:
    """Draws (N, C, *spatial) and g, which mostly divides C."""
    groups = draw(st.integers(1, _MOST_FACTOR))
    channels = groups * draw(st.integers(1, _MOST_FACTOR))
    # The shrinker goes to 0, which is a case that has an answer.
    odd = draw(st.integers(0, 39))
    if odd == 39:
        groups = -draw(st.integers(0, 3))
    elif odd in (37, 38):
        channels += draw(st.integers(1, groups))
    spatial = draw(st.lists(st.sampled_from(_SIDES), min_size=1, max_size=3))
    samples = draw(st.sampled_from(_SAMPLES))
    return {"shape": (samples, channels, *spatial), "groups": groups}


def _refusal_of(fields: dict[str, Any]) -> Refusal | None:
    channels, groups = fields["shape"][1], fields["groups"]
    if groups <= 0:
        words = f"Number of groups to divide channels in must be positive. Value of groups:{groups}"
        return Refusal("RuntimeError", words)
    return indivisible(channels, groups) if channels % groups else None


@st.composite
def _contents(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draws a dtype, and what the input holds."""
    dtype = draw(st.sampled_from(_DTYPES if len(shape) == 4 else _DTYPES[:-1]))
    fills: tuple[str, ...] = ("identity", "full-width")
    if DTYPES[dtype].kind in ("float", "complex"):
        fills = (*3 * fills, *BIT_PATTERNS)
    return {"dtype": dtype, "fill": draw(st.sampled_from(fills))}


@st.composite
def _ways(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """Draws how the case asks: with one thing out of the ordinary, or few that go together."""
    differentiable = DTYPES[fields["dtype"]].kind in ("float", "complex")
    plain = fields["fill"] not in BIT_PATTERNS
    ways = ["values", "then"]
    if differentiable and plain:
        ways += ["derivative", "derivative"]
    if fields["dtype"] != "quint8":
        # torch makes a quantised tensor contiguous, and cannot map over it.
        ways += ["layout", "layout", "effects", "transform"]
    match draw(st.sampled_from(ways)):
        case "then":
            channels = fields["shape"][1]
            divisors = [d for d in range(1, channels + 1) if channels % d == 0]
            return {"then": tuple(draw(st.lists(st.sampled_from(divisors), max_size=2)))}
        case "transform":
            transform = draw(st.sampled_from(_TRANSFORMS))
            mapped = (draw(st.integers(1, 3)),) if transform == "vmapped" else ()
            return {"transform": transform, "shape": (*mapped, *fields["shape"])}
        case "derivative":
            return {"derivative": draw(st.sampled_from(("vjp", "jvp", "double")))}
        case "layout":
            layout = draw(_layouts(len(fields["shape"])))
            with_gradient = differentiable and plain and draw(st.booleans())
            return {"layout": layout, "derivative": "vjp" if with_gradient else "none"}
        case "effects":
            return {"observe": "effects", "layout": draw(_layouts(len(fields["shape"])))}
    return {}


def _layouts(rank: int) -> st.SearchStrategy[Layout]:
    return st.sampled_from((*_ANYWHERE, *((_BY_RANK[rank],) if rank in _BY_RANK else ())))


def _named(question: ShuffleQuestion, family: str, **more: Any) -> ShuffleCase:
    """Names a case after all that it asks, in the words of the suite's own cases."""
    heads = [
        "no-alias" if question.observe == "effects" else "",
        f"bits-{question.fill}" if question.fill in BIT_PATTERNS else "",
        question.layout.replace("_", "-") if question.layout != "contiguous" else "",
        question.transform if question.transform != "plain" else "",
        question.derivative if question.derivative != "none" else "",
    ]
    is_identity = question.groups in (1, question.channels)
    name = [
        *filter(None, heads),
        question.dtype,
        "x".join(map(str, question.shape)),
        f"g{question.groups}",
        *(f"then{by}" for by in question.then),
        *(["full"] if question.fill == "full-width" else []),
        *(["moves-nothing"] if is_identity else []),
    ]
    return make_case(family, "fuzz-" + "-".join(name), "drawn", "S1", question, **more)
