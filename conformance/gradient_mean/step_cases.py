"""Cases of means over a whole step's items, and of means over micro-batches.

Counts are exact where they, W and K are such that every way to divide by them is: powers of two,
and at most two micro-batches, since a mean that is kept up to date divides the third by 3.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from conformance.core.declarations import BY_MICRO_BATCH, STEP_MEAN, averaged
from conformance.core.questions import Case, GradientQuestion
from conformance.gradient_mean.cases import GradientCase, gathering, marks_of, promises_of
from conformance.gradient_mean.models import SPECTROMETER, TOKEN_SPECTROMETER, TOKENS, model_of

Counts = tuple[tuple[float, ...], ...]
Shards = tuple[tuple[int, ...], ...]

_ALL: tuple[str, ...] = ()
_TORCH = ("torch",)
# Sums of the weights of each rank's items, row by row of K micro-batches, whose total is a power
# of two; their names say what is special about them. Those of micro-batches are none, lest every
# wrong divisor be a power of two, and one mistake's answer another's.
_EXACT: dict[str, Counts] = {
    "one-rank": ((4,),),
    "first-micro-batch-alone": ((4,), (0,)),
    "equal": ((4, 4),),
    "rank-without-items": ((0, 4),),
    "unequal": ((8, 16), (32, 8)),
    "falling": ((8, 2), (2, 4)),
    "few": ((1, 2), (4, 1)),
    "no-first-of-rank-0": ((0, 2), (1, 1)),
    "each-rank-once": ((2, 0), (0, 2)),
    "empty-micro-batch": ((0, 0), (4, 4)),
    "four-unequal": ((8, 8, 16, 32),),
    "four-with-none": ((0, 4, 2, 2),),
    "four-twice": ((1, 2, 1, 1), (2, 4, 1, 4)),
    "four-with-gaps": ((0, 2, 1, 1), (4, 0, 0, 8)),
    "eight-unequal": ((1, 2, 1, 4, 2, 1, 4, 1),),
    "eight-twice": ((1, 1, 1, 1, 2, 2, 4, 1), (4, 1, 2, 1, 1, 1, 8, 1)),
}
_FRACTIONS: dict[str, Counts] = {
    "fractions": ((0.5, 1), (0.5, 2)),
    "fractions-of-one-micro-batch": ((1, 2, 4, 1),),
    "fractions-and-none": ((0, 0.5), (0.5, 1)),
}
_BOUNDED: dict[str, Counts] = {
    "two-micro-batches": ((1,), (3,)),
    "three-micro-batches": ((1,), (3,), (2,)),
    "ranks": ((1, 3),),
    "ranks-and-micro-batches": ((1, 3), (2, 5)),
    "two-ranks-three": ((1, 3), (5, 2), (0, 7)),
    "three-ranks": ((5, 2, 4),),
    "three-ranks-twice": ((5, 2, 4), (1, 3, 6)),
    "three-ranks-five": ((1, 2, 3), (3, 1, 2), (5, 0, 1), (2, 2, 2), (0, 4, 1)),
    "four-ranks": ((1, 3, 7, 2), (3, 0, 1, 5)),
    "four-ranks-three": ((1, 3, 7, 2), (3, 0, 1, 5), (2, 2, 0, 6)),
    "eight-ranks": ((1, 3, 5, 7, 2, 4, 6, 8),),
    "two-ranks-five": ((3, 1), (1, 1), (2, 5), (0, 3), (1, 4)),
}


def families() -> tuple[GradientCase, ...]:
    """Returns all cases, in the order in which they are asked."""
    return (
        *_tokens(),
        *_samples(),
        *_rounding(),
        *_spectrometers(),
        *_micro_batches(),
        *_windows(),
        *_coupled(),
    )


def _shards(counts: Counts, each: int) -> Shards:
    """Gives every rank samples for its items, of `each` items; ranks differ, and most have room.

    A rank without items has a sample all the same in an even micro-batch, and none in an odd one
    that others have samples of.
    """
    return tuple(
        tuple(
            -(-int(2 * count + 1) // (2 * each)) + rank % 2
            if count
            else int(k % 2 == 0 or not any(row))
            for rank, count in enumerate(row)
        )
        for k, row in enumerate(counts)
    )


def _case(
    family: str,
    name: str,
    question: GradientQuestion,
    frameworks: tuple[str, ...],
    head: str = "step-mean-",
) -> GradientCase:
    w, k = question.world_size, question.micro_batches
    ks = "-".join(map(str, question.windows or (k,)))
    model = question.model.replace("_", "-")
    return Case(
        operation="gradient_mean",
        name=head + "-".join([model, f"w{w}", name, f"k{ks}", question.dtype, *marks_of(question)]),
        family=family,
        about=(
            f"{model.replace('-', ' ')}, one mean over {float(question.all_items):g} "
            f"{question.items} of {w} rank{'s' * (w > 1)} and {k} micro-batch"
            f"{'es' * (k > 1)}: {name.replace('-', ' ')}"
        ),
        clauses=tuple(_clauses(question)),
        question=question,
        promises=(STEP_MEAN,),
        frameworks=frameworks,
    )


def _clauses(question: GradientQuestion) -> Iterator[str]:
    yield "M1"
    if any(0 in row for row in question.counts):
        yield "M2"
    if question.items == "tokens":
        yield "M4"
    if question.starts == "different":
        yield "D1"


def _of_shards(model: str, shards: Shards, **words: Any) -> GradientQuestion:
    words.setdefault("loss", "cross_entropy" if model == "classifier" else "mse")
    return GradientQuestion(model, shards, **words)


def _of_tokens(model: str, counts: Counts, **words: Any) -> GradientQuestion:
    question = GradientQuestion(model, ((0,),))
    (tokens, *_) = model_of(question).sample
    return GradientQuestion(model, _shards(counts, tokens), counts=counts, items="tokens", **words)


def _of_samples(model: str, counts: Counts, **words: Any) -> GradientQuestion:
    return GradientQuestion(model, _shards(counts, 1), counts=counts, **words)


def _tokens() -> Iterator[GradientCase]:
    """Weighs tokens of sequences: every layout of counts, and fractions."""
    in_jax = ("unequal", "empty-micro-batch", "four-with-none", "eight-twice", "equal")
    for name, counts in _EXACT.items():
        asked = _ALL if name in in_jax else _TORCH
        yield _case("step-tokens", name, _of_tokens("tokens", counts), asked)
    for name in ("one-rank", "unequal", "rank-without-items", "four-twice", "each-rank-once"):
        yield _case("step-tokens", name, _of_tokens("tied", _EXACT[name]), _TORCH)
    for name, counts in _FRACTIONS.items():
        for model in ("tokens", "tied"):
            asked = _ALL if (model, name) == ("tokens", "fractions") else _TORCH
            question = _of_tokens(model, counts, fractions=True)
            yield _case("step-tokens", name, question, asked)
    for name, dtype, starts, observe in (
        ("unequal", "f64", "equal", "gradients"),
        ("four-unequal", "f64", "different", "gradients"),
        ("falling", "f32", "different", "step"),
        ("eight-unequal", "f32", "different", "gradients"),
        ("no-first-of-rank-0", "f32", "equal", "step"),
    ):
        question = _of_tokens("tokens", _EXACT[name], dtype=dtype, starts=starts, observe=observe)
        yield _case("step-tokens", name, question, _TORCH)


def _samples() -> Iterator[GradientCase]:
    """Weighs samples: the models that there are, and narrow dtypes."""
    for model, dtype, names in (
        ("linear", "f32", ("unequal", "equal", "four-twice")),
        ("linear", "bf16", ("rank-without-items", "few")),
        ("linear", "f16", ("few", "four-with-none")),
        ("mlp", "f32", ("one-rank", "falling", "empty-micro-batch", "eight-unequal")),
        ("mlp", "f64", ("each-rank-once", "four-with-gaps")),
        ("frozen", "f32", ("unequal", "four-with-none")),
        ("unused", "f32", ("falling", "four-unequal")),
        ("two_heads", "f32", ("unequal", "four-twice")),
        ("convnet", "f32", ("falling", "rank-without-items")),
        ("max_pool", "f32", ("unequal",)),
        ("frozen_norm", "f32", ("falling", "four-unequal")),
    ):
        for name in names:
            is_in_jax = (model, name) in (
                ("linear", "unequal"),
                ("mlp", "falling"),
                ("mlp", "four-with-gaps"),
                ("two_heads", "four-twice"),
                ("frozen", "unequal"),
                ("convnet", "falling"),
            )
            asked = _ALL if is_in_jax and dtype != "f16" else _TORCH
            question = _of_samples(model, _EXACT[name], dtype=dtype)
            yield _case("step-samples", name, question, asked)
    for name, counts in _FRACTIONS.items():
        yield _case("step-samples", name, _of_samples("mlp", counts, fractions=True), _TORCH)
    for name, starts, observe in (
        ("unequal", "different", "gradients"),
        ("four-unequal", "equal", "step"),
    ):
        question = _of_samples("mlp", _EXACT[name], starts=starts, observe=observe)
        yield _case("step-samples", name, question, _TORCH)


def _rounding() -> Iterator[GradientCase]:
    """Takes counts that divide nothing exactly, and logarithms of exponentials."""
    in_jax = ("two-micro-batches", "ranks-and-micro-batches", "three-ranks-twice", "four-ranks")
    for name, counts in _BOUNDED.items():
        question = _of_tokens("tokens", counts, loss="cross_entropy", tier="bounded")
        yield _case("step-bounded", name, question, _ALL if name in in_jax else _TORCH)
    for model, name, dtype, loss in (
        ("tokens", "ranks-and-micro-batches", "f64", "mse"),
        ("tokens", "three-ranks", "f64", "cross_entropy"),
        ("tied", "three-ranks-twice", "f32", "mse"),
        ("tied", "two-micro-batches", "f32", "cross_entropy"),
        ("tokens", "two-ranks-three", "f32", "cross_entropy"),
    ):
        question = _of_tokens(
            model, _BOUNDED[name], loss=loss, dtype=dtype, starts="different", tier="bounded"
        )
        yield _case("step-bounded", name, question, _TORCH)
    for model, name, loss in (
        ("classifier", "ranks", "cross_entropy"),
        ("classifier", "three-ranks-five", "cross_entropy"),
        ("layer_norm", "two-ranks-three", "mse"),
        ("mlp", "eight-ranks", "mse"),
        ("mlp", "four-ranks-three", "mse"),
        ("mlp", "two-ranks-five", "mse"),
    ):
        question = _of_samples(model, _BOUNDED[name], loss=loss, tier="bounded")
        asked = _ALL if name in ("ranks", "two-ranks-five") else _TORCH
        yield _case("step-bounded", name, question, asked)


def _spectrometers() -> Iterator[GradientCase]:
    """Reads every item's weight off the gradient; W, K, items and samples are pairwise coprime."""
    for shards, counts, items, tier, frameworks in (
        (((2, 1), (3, 7)), ((8, 2), (2, 4)), "tokens", "exact", _ALL),
        (((1, 2, 1, 3),), ((1, 4, 1, 2),), "tokens", "exact", _TORCH),
        (((4, 2), (2, 5)), ((2, 1), (1, 4)), "samples", "exact", _ALL),
        # W = 3, K = 2, 35 tokens of 11 samples.
        (((3, 2, 1), (1, 2, 2)), ((9, 7, 3), (2, 6, 8)), "tokens", "bounded", _ALL),
        # W = 2, K = 3, 35 tokens of 13 samples; a micro-batch in which rank 1 has none.
        (((2, 3), (2, 1), (4, 1)), ((7, 9), (3, 0), (14, 2)), "tokens", "bounded", _TORCH),
        # W = 3, K = 5, 22 of 29 samples.
        (
            ((1, 2, 3), (3, 1, 2), (4, 1, 2), (2, 2, 1), (1, 3, 1)),
            ((1, 1, 3), (2, 1, 1), (3, 0, 2), (2, 2, 0), (0, 3, 1)),
            "samples",
            "bounded",
            _TORCH,
        ),
    ):
        model = TOKEN_SPECTROMETER if items == "tokens" else SPECTROMETER
        question = _of_shards(model, shards, loss="output", tier=tier, counts=counts, items=items)
        samples = sum(map(sum, shards))
        name = f"{float(question.all_items):g}-of-{samples * (TOKENS if items == 'tokens' else 1)}"
        yield _case("step-spectrometer", name, question, frameworks)


def _micro_batches() -> Iterator[GradientCase]:
    """Averages over micro-batches where others add them up."""
    rows: tuple[tuple[str, Shards, str, str, tuple[str, ...]], ...] = (
        ("mlp", ((2, 2),), "f32", "exact", _ALL),
        ("mlp", ((1, 2), (2, 1)), "f32", "exact", _ALL),
        ("mlp", ((2, 2), (2, 2)), "f64", "exact", _TORCH),
        ("linear", ((1, 1),) * 2, "f16", "exact", _TORCH),
        ("linear", ((1,), (2,)), "f32", "exact", _TORCH),
        ("linear", ((2,), (2,)), "f32", "exact", _ALL),
        ("tied", ((1, 1, 1, 1), (2, 2, 2, 2)), "f32", "exact", _TORCH),
        ("two_heads", ((1, 0, 1, 0), (0, 1, 1, 2)), "f32", "exact", _TORCH),
        ("frozen", ((1, 2, 4, 1), (2, 4, 1, 1)), "f32", "exact", _ALL),
        ("convnet", ((2, 1), (1, 2)), "f32", "exact", _TORCH),
        ("mlp", ((1, 2, 1, 4, 2, 1, 4, 1),) * 2, "f32", "exact", _TORCH),
        ("mlp", ((1, 2, 1, 4, 2, 1, 4, 1), (2, 2, 2, 2, 2, 2, 2, 2)), "f32", "exact", _ALL),
        ("mlp", ((1, 3), (3, 1), (2, 2)), "f32", "bounded", _ALL),
        ("mlp", ((5, 2, 4), (1, 3, 2)), "f32", "bounded", _ALL),
        ("classifier", ((2, 3), (3, 2), (1, 1), (2, 1), (1, 4)), "f32", "bounded", _TORCH),
        ("layer_norm", ((1,), (2,), (3,)), "f64", "bounded", _TORCH),
        ("mlp", ((1, 3, 2, 2), (2, 1, 1, 3), (2, 2, 2, 1)), "f64", "bounded", _TORCH),
        ("unused", ((2, 1), (1, 2)), "f32", "exact", _TORCH),
    )
    for number, (model, shards, dtype, tier, frameworks) in enumerate(rows):
        question = _of_shards(
            model,
            shards,
            dtype=dtype,
            starts="different" if number % 4 == 3 else "equal",
            tier=tier,
            observe="step" if number % 5 == 4 else "gradients",
        )
        yield _averaged(question, f"n{_row(shards[0])}", "micro-batches", frameworks)
    for shards, frameworks in (
        (((7, 7, 7),) * 5, _ALL),
        (((4, 4),) * 2, _ALL),
        (((5, 2, 7), (7, 5, 2)), _TORCH),
    ):
        tier = "exact" if len(shards[0]) == 2 else "bounded"
        question = _of_shards(SPECTROMETER, shards, loss="output", tier=tier)
        yield _averaged(question, f"n{_row(shards[0])}", "micro-batch-spectrometer", frameworks)


def _row(shards: tuple[int, ...]) -> str:
    return str(shards[0]) if len(set(shards)) == 1 else "-".join(map(str, shards))


def _averaged(
    question: GradientQuestion, name: str, family: str, frameworks: tuple[str, ...]
) -> GradientCase:
    w, k = question.world_size, question.micro_batches
    adding = promises_of(question) or BY_MICRO_BATCH
    return replace(
        _case(family, name, question, frameworks, "micro-mean-"),
        about=(
            f"{question.model.replace('_', ' ')}, {w} rank{'s' * (w > 1)}, the mean of {k} "
            f"micro-batch{'es' * (k > 1)}"
        ),
        clauses=("M3", "D1") if question.starts == "different" else ("M3",),
        promises=tuple(map(averaged, adding)),
    )


def _windows() -> Iterator[GradientCase]:
    """Takes two or three steps, and looks at the last: what is left over from the others shows."""
    for lengths, counts, tier, frameworks in (
        ((2, 2), ((8, 3), (1, 5), (1, 2), (4, 1)), "exact", _ALL),
        ((2, 1), ((7, 2), (2, 4), (4, 4)), "exact", _TORCH),
        ((1, 2), ((3, 1, 2, 4), (1, 2, 1, 1), (2, 4, 1, 4)), "exact", _TORCH),
        ((3, 2), ((5, 2), (1, 3), (2, 2), (3, 1), (2, 5)), "bounded", _ALL),
        ((1, 1, 1), ((5, 2, 4), (1, 3, 6), (2, 2, 7)), "bounded", _TORCH),
    ):
        question = _of_tokens(
            "tokens",
            counts,
            loss="cross_entropy" if tier == "bounded" else "mse",
            tier=tier,
            windows=lengths,
        )
        family = "step-windows" if tier == "exact" else "step-windows-bounded"
        yield _of_windows(_case(family, "windows", question, frameworks))
    for model, lengths, shards, tier, frameworks in (
        ("mlp", (2, 2), ((2, 2), (1, 2), (2, 1), (2, 2)), "exact", _ALL),
        ("linear", (2, 1), ((2, 1), (1, 2), (2, 4)), "exact", _TORCH),
        ("two_heads", (1, 1), ((1, 2, 4, 1), (2, 4, 1, 1)), "exact", _TORCH),
        ("mlp", (3, 2), ((1, 3), (3, 1), (2, 2), (5, 2), (1, 1)), "bounded", _ALL),
        ("classifier", (3, 1), ((5, 2, 4), (1, 3, 2), (2, 2, 2), (4, 1, 3)), "bounded", _TORCH),
        ("layer_norm", (2, 2, 1), ((2,), (3,), (1,), (2,), (3,)), "bounded", _ALL),
        ("mlp", (5, 3), ((2, 3),) * 8, "bounded", _TORCH),
    ):
        question = _of_shards(model, shards, tier=tier, windows=lengths)
        last = question.window(-1)[0]
        adding = promises_of(last) or BY_MICRO_BATCH
        family = "windows" if tier == "exact" else "windows-bounded"
        if lengths == (5, 3):
            family = "micro-batches"
        case = replace(
            _case(family, f"windows-n{_row(shards[0])}", question, frameworks, ""),
            clauses=("M3", "M5"),
            promises=(*adding, *map(averaged, adding)),
        )
        yield _of_windows(case)


def _of_windows(case: GradientCase) -> GradientCase:
    question = case.question
    return replace(
        case,
        about=f"{question.model.replace('_', ' ')}, windows of "
        f"{', '.join(map(str, question.windows))} micro-batches on {question.world_size} ranks, "
        "of which the last one is looked at",
        clauses=tuple(dict.fromkeys((*case.clauses, "M5"))),
    )


def _coupled() -> Iterator[GradientCase]:
    """Takes a loss whose gradient by each rank's outputs needs all ranks' outputs."""
    for family, model, shards, tier, frameworks in (
        ("coupled", "linear", ((2, 2),), "exact", _ALL),
        ("coupled", "mlp", ((2, 2), (1, 1)), "exact", _ALL),
        ("coupled", "tied", ((1, 1, 1, 1),), "exact", _TORCH),
        ("coupled-convolutions", "convnet", ((2, 2),), "exact", _TORCH),
        ("coupled-bounded", "mlp", ((2, 2, 2),), "bounded", _ALL),
        ("coupled-bounded", "layer_norm", ((3, 3), (2, 2)), "bounded", _TORCH),
    ):
        question = _of_shards(model, shards, loss="coupled", tier=tier)
        yield replace(
            _case(family, f"n{_row(shards[0])}", question, frameworks, "coupled-"),
            about=f"{model.replace('_', ' ')}, a loss that couples the samples of "
            f"{question.world_size} ranks, {question.micro_batches} micro-batches",
            clauses=("M6",),
            promises=("sample_mean",),
            asked_of=gathering(),
        )
