"""Draws cases of averaged gradients: models, W, shards, K, reductions and dtypes."""

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from conformance.core.declarations import STEP_MEAN, averaged
from conformance.core.questions import Case, GradientQuestion
from conformance.gradient_mean.cases import GradientCase, promises_of
from conformance.gradient_mean.definition import PROMISES
from conformance.gradient_mean.models import SPECTROMETER, model_of

_MODELS = (
    "linear",
    SPECTROMETER,
    "mlp",
    "tied",
    "frozen",
    "unused",
    "two_heads",
    "frozen_norm",
    "convnet",
    "max_pool",
)
_ROUNDING_MODELS = ("mlp", "classifier", "layer_norm", "convnet", SPECTROMETER)
# Sums of few bits have room for these models.
_NARROW_MODELS = ("linear", SPECTROMETER, "frozen", "unused")
# A mean over so many samples of a rank is exact.
_COUNTS = (1, 2, 4, 0)
_MOST_MICRO_BATCHES = 3


@st.composite
def cases(draw: st.DrawFn) -> GradientCase:
    """Draws a case that every implementation which promises what it asks must conform to.

    Some draws cannot be certified to be exact; the caller must leave them out.
    """
    kind = draw(st.integers(0, 5))
    return _named(draw(_exact() if kind < 4 else _bounded() if kind < 5 else _step()))


@st.composite
def _exact(draw: st.DrawFn) -> GradientQuestion:
    dtype = draw(st.sampled_from(("f32", "f32", "f64", "f16", "bf16")))
    model = draw(st.sampled_from(_NARROW_MODELS if dtype in ("f16", "bf16") else _MODELS))
    world = draw(st.sampled_from((2, 2, 2, 2, 4, 8, 1)))
    rows = draw(_shards(world, _COUNTS, 1 if dtype == "bf16" else _MOST_MICRO_BATCHES))
    spectral = model == SPECTROMETER
    return GradientQuestion(
        model,
        rows,
        loss="output" if spectral else "mse",
        reduction=draw(st.sampled_from(("mean",) if spectral else ("mean", "sum"))),
        dtype=dtype,
        starts=draw(st.sampled_from(("equal", "different"))),
        observe=draw(st.sampled_from(("gradients", "gradients", "step"))),
    )


@st.composite
def _bounded(draw: st.DrawFn) -> GradientQuestion:
    """Draws counts and numbers of ranks that divide nothing exactly."""
    model = draw(st.sampled_from(_ROUNDING_MODELS))
    world = draw(st.sampled_from((2, 3)))
    losses: dict[str, Any] = {"classifier": "cross_entropy", SPECTROMETER: "output"}
    return GradientQuestion(
        model,
        draw(_shards(world, (1, 2, 3, 5), 2)),
        loss=losses.get(model, "mse"),
        dtype=draw(st.sampled_from(("f32", "f64"))),
        starts=draw(st.sampled_from(("equal", "different"))),
        tier="bounded",
    )


@st.composite
def _step(draw: st.DrawFn) -> GradientQuestion:
    """Draws a mean over a step's items, whose counts divide nothing exactly."""
    tokens = draw(st.booleans())
    model = draw(st.sampled_from(("tokens", "tied") if tokens else ("mlp", "linear", "classifier")))
    each = model_of(GradientQuestion(model, ((1,),))).sample[0] if tokens else 1
    rows = draw(_shards(draw(st.sampled_from((1, 2, 2, 3, 4))), (1, 2, 3, 0), 3))
    counts = tuple(
        tuple(float(draw(st.integers(0, samples * each))) for samples in row) for row in rows
    )
    assume(any(map(any, counts)))
    return GradientQuestion(
        model,
        rows,
        loss=draw(st.sampled_from(("mse", "cross_entropy"))),
        starts=draw(st.sampled_from(("equal", "different"))),
        tier="bounded",
        counts=counts,
        items="tokens" if tokens else "samples",
        fractions=draw(st.booleans()),
    )


@st.composite
def _shards(
    draw: st.DrawFn, world: int, counts: tuple[int, ...], most_micro_batches: int
) -> tuple[tuple[int, ...], ...]:
    """Draws K micro-batches of W counts, none without a sample: JAX pads shards to another."""
    k = draw(st.integers(1, most_micro_batches))
    rows = tuple(tuple(draw(st.sampled_from(counts)) for _ in range(world)) for _ in range(k))
    assume(all(map(sum, rows)))
    return rows


def _named(question: GradientQuestion) -> GradientCase:
    """Names a case in the words of the suite's own cases."""
    marks = {
        "sum": question.reduction == "sum",
        "apart": question.starts == "different",
        "step": question.observe == "step",
        "rounding": question.tier == "bounded",
    }
    shards = "_".join(".".join(map(str, row)) for row in question.shards)
    name = [
        question.model.replace("_", "-"),
        f"w{question.world_size}",
        f"n{shards}",
        f"k{question.micro_batches}",
        question.dtype,
        *(mark for mark, is_so in marks.items() if is_so),
        *(f"items{'_'.join('.'.join(f'{n:g}' for n in row) for row in question.counts)}",)
        * bool(question.counts),
        *("fractions",) * question.fractions,
        "fuzz",
    ]
    return Case(
        operation="gradient_mean",
        name="-".join(name),
        family="fuzz",
        about="drawn",
        clauses=("D2",),
        question=question,
        promises=_promises(question),
    )


def _promises(question: GradientQuestion) -> tuple[str, ...]:
    """Returns the promises that a drawn question is asked of."""
    if question.counts:
        return (STEP_MEAN,)
    adding = promises_of(question) or PROMISES
    # A mean that is kept up to date divides the third micro-batch by 3.
    is_exact_in_any_way = question.tier == "bounded" or question.micro_batches < 3
    return (*adding, *map(averaged, adding)) if is_exact_in_any_way else adding
