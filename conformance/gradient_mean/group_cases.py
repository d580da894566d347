"""Cases in which terms, experts, rarely used layers, norms and clips need more than one mean.

Most are asked of the implementations that promise it: those whose names end in `_terms` divide each
term of a loss by its own count, and in `_find_unused` average what some micro-batches do not use;
those with `clip="norm"` clip the average to a norm of 1. A loop that promises nothing of it is not
asked.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from conformance.core.declarations import STEP_MEAN
from conformance.core.questions import Case, GradientQuestion
from conformance.gradient_mean.cases import (
    GradientCase,
    marks_of,
    promises_of,
    rotated,
    whole_batch,
)

Counts = tuple[tuple[float, ...], ...]
Shards = tuple[tuple[int, ...], ...]
Frameworks = tuple[str, ...]

# The counts of the first term and of the second; powers of two where a case is exact.
_OF_TWO_TERMS: dict[str, tuple[Counts, Counts]] = {
    "one-rank-of-two": (((4, 4),), ((0, 2),)),
    "other-rank-of-two": (((8, 8),), ((4, 0),)),
    "one-rank": (((4,), (4,)), ((2,), (0,))),
    "unequal": (((8, 16), (32, 8)), ((2, 1), (4, 1))),
    "falling": (((8, 2), (2, 4)), ((4, 1), (1, 2))),
    "four-ranks": (((8, 8, 16, 32),), ((2, 8, 2, 4),)),
    "with-gaps": (((0, 2, 1, 1), (4, 0, 0, 8)), ((0, 2, 1, 0), (1, 0, 0, 4))),
    "three-ranks": (((5, 2, 4), (1, 3, 6)), ((3, 1, 4), (0, 2, 3))),
    "three-micro-batches": (((3, 1), (1, 1), (2, 5)), ((2, 1), (0, 1), (1, 2))),
}
_ALL: Frameworks = ()
_TORCH: Frameworks = ("torch",)


def families() -> tuple[GradientCase, ...]:
    """Returns all of these cases, in the order in which they are asked."""
    return (
        *_terms(),
        *_experts(),
        *_clipped(),
        *_rarely_used(),
        *_whole_batch_norms(),
        *_attention(),
    )


def _case(
    family: str, head: str, question: GradientQuestion, about: str, frameworks: Frameworks
) -> GradientCase:
    w, k = question.world_size, question.micro_batches
    first = "-".join(f"{n:g}" for n in (question.counts or question.shards)[0])
    words = [head, f"w{w}", f"n{first}", f"k{k}", question.dtype, *marks_of(question)]
    ranks, parts = "s" * (w > 1), "es" * (k > 1)
    return Case(
        operation="gradient_mean",
        name="-".join(words),
        family=family,
        about=f"{about}, {w} rank{ranks}, {k} micro-batch{parts}",
        clauses=(),
        question=question,
        frameworks=frameworks,
    )


def _terms() -> Iterator[GradientCase]:
    """Counts the items of two heads apart, the second of which has fewer."""
    rows: tuple[tuple[str, str, dict[str, Any], Frameworks], ...] = (
        ("two_heads", "one-rank-of-two", {}, _ALL),
        ("two_heads", "unequal", {}, _TORCH),
        ("two_heads", "one-rank", {}, _TORCH),
        ("two_heads", "with-gaps", {"starts": "different"}, _ALL),
        ("two_next", "other-rank-of-two", {}, _TORCH),
        ("two_next", "falling", {}, _ALL),
        ("two_next", "four-ranks", {"observe": "step"}, _TORCH),
        ("two_next", "three-ranks", {"loss": "cross_entropy", "tier": "bounded"}, _ALL),
        ("two_heads", "three-micro-batches", {"dtype": "f64", "tier": "bounded"}, _TORCH),
    )
    for model, name, words, frameworks in rows:
        first, second = _OF_TWO_TERMS[name]
        is_of_tokens = model == "two_next"
        family = "step-terms-bounded" if words.get("tier") else "step-terms"
        if family == "step-terms" and is_of_tokens:
            family = "step-terms-tokens"
        question = GradientQuestion(
            model,
            _roomy(first, 4 if is_of_tokens else 1),
            counts=first,
            terms=(second,),
            items="tokens" if is_of_tokens else "samples",
            **words,
        )
        about = "two heads whose items are counted apart, the second's fewer"
        case = _case(family, f"terms-{model.replace('_', '-')}", question, about, frameworks)
        yield replace(
            case,
            clauses=("M1", "M7"),
            promises=(STEP_MEAN,),
            asked_of=("*_terms",),
            against=("one-count-for-all-terms",),
        )


def _roomy(counts: Counts, each: int) -> Shards:
    """Gives every rank samples of `each` items for its items, and every second rank one more."""
    return tuple(
        tuple(-(-int(max(count, 1)) // each) + rank % 2 for rank, count in enumerate(row))
        for row in counts
    )


def _experts() -> Iterator[GradientCase]:
    """Has experts, which code may hold on one axis and average on the other."""
    rows: tuple[tuple[str, Shards, dict[str, Any], Frameworks], ...] = (
        ("experts", ((2, 2, 2, 2),), {}, _ALL),
        ("experts", ((1, 2, 4, 1), (2, 1, 1, 4)), {"starts": "different"}, _TORCH),
        ("experts-step", ((1, 2), (2, 1)), {"observe": "step"}, _TORCH),
        ("experts-bounded", ((3, 1, 2, 5),), {"tier": "bounded"}, _TORCH),
    )
    for family, shards, words, frameworks in rows:
        question = GradientQuestion("experts", shards, **words)
        about = "two experts after a dense layer, which each see every sample"
        yield replace(
            _case(family, "experts", question, about, frameworks),
            clauses=("D2", "M8"),
            promises=promises_of(question),
            against=("experts-scaled-by-the-group",),
        )
    counts = ((2, 1, 4, 1),)
    question = GradientQuestion("experts", ((3, 2, 4, 2),), counts=counts)
    about = "two experts after a dense layer, one mean over all items"
    yield replace(
        _case("experts-step", "experts-step-mean", question, about, _ALL),
        clauses=("M1", "M8"),
        promises=(STEP_MEAN,),
        against=("experts-scaled-by-the-group",),
    )


def _clipped() -> Iterator[GradientCase]:
    """Promises an average that is clipped to a norm of 1, once, after all micro-batches."""
    rows: tuple[tuple[str, str, Shards, str, bool, Frameworks], ...] = (
        ("clipped", "mlp", ((2, 2),), "f32", False, _ALL),
        ("clipped", "mlp", ((2, 3), (1, 2)), "f32", False, _ALL),
        ("clipped", "linear", ((1, 2, 3, 1), (2, 1, 2, 2)), "f64", True, _TORCH),
        ("clipped-tied", "tied", ((1, 2), (2, 1)), "f32", False, _TORCH),
        ("clipped-convolutions", "convnet", ((1, 1), (2, 1)), "f32", False, _TORCH),
    )
    for family, model, shards, dtype, is_apart, frameworks in rows:
        question = GradientQuestion(
            model,
            shards,
            dtype=dtype,
            starts="different" if is_apart else "equal",
            tier="bounded",
            observe="clipped",
        )
        about = f"{model}, the average clipped to a norm of 1"
        against = ["clipped-before-averaging", "norm-summed-over-replicas"]
        yield replace(
            _case(family, f"clipped-{model}", question, about, frameworks),
            clauses=("D2", "M9"),
            promises=("rank_mean",),
            against=(*against, *["clipped-in-every-micro-batch"] * (len(shards) > 1)),
        )


def _rarely_used() -> Iterator[GradientCase]:
    """Uses a layer in the first micro-batch alone, and asks who finds what is unused."""
    rows: tuple[tuple[str, Shards, dict[str, Any]], ...] = (
        ("rarely-used", rotated((2, 2), 2), {}),
        ("rarely-used", rotated((1, 2, 4, 1), 2), {"starts": "different"}),
        ("rarely-used-step", rotated((2, 1), 3), {"observe": "step"}),
        ("rarely-used-bounded", rotated((3, 1, 2), 2), {"tier": "bounded"}),
    )
    for family, shards, words in rows:
        question = GradientQuestion("gated", shards, **words)
        about = "a layer that the first micro-batch alone uses"
        yield replace(
            _case(family, "rarely-used", question, about, _TORCH),
            clauses=("D2", "D13", "M10"),
            promises=("rank_mean",),
            asked_of=("*_find_unused",),
            against=("used-in-an-earlier-micro-batch",),
        )


def _whole_batch_norms() -> Iterator[GradientCase]:
    """Trains a batch norm with the whole batch's statistics, of ranks with unequal shards."""
    rows: tuple[tuple[Shards, Frameworks], ...] = (
        (((1, 3),), _ALL),
        (((2, 5), (4, 3)), _TORCH),
    )
    for shards, frameworks in rows:
        question = GradientQuestion("batch_norm", shards, tier="bounded")
        about = "a batch norm in training on whole batches, of unequal shards"
        yield replace(
            _case("whole-batch-norm", "whole-batch-norm", question, about, frameworks),
            clauses=("M11",),
            promises=("sample_mean",),
            asked_of=whole_batch(),
            against=("statistics-of-ranks-averaged",),
        )


def _attention() -> Iterator[GradientCase]:
    """Weighs tokens that see the ones before them, so that none of a sequence stands alone."""
    rows: tuple[tuple[Counts, str, Frameworks], ...] = (
        (((1, 3), (2, 5)), "f32", _ALL),
        (((5, 2, 4),), "f32", _TORCH),
        (((1, 3, 7, 2), (3, 0, 1, 5)), "f64", _TORCH),
    )
    for counts, dtype, frameworks in rows:
        shards = tuple(tuple(1 + int(n) // 3 for n in row) for row in counts)
        question = GradientQuestion(
            "attention",
            shards,
            loss="cross_entropy",
            dtype=dtype,
            tier="bounded",
            counts=counts,
            items="tokens",
        )
        about = "causal attention, one mean over all tokens"
        yield replace(
            _case("step-attention", "step-mean-attention", question, about, frameworks),
            clauses=("M1", "M4"),
            promises=(STEP_MEAN,),
        )
