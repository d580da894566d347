"""Cases of averages: models × W × shards × K × reductions × dtypes, and the spectrometer."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from conformance.core.checks import GATHERED, WHOLE_BATCH
from conformance.core.implementations import FRAMEWORKS, Implementation, own
from conformance.core.questions import Case, GradientQuestion
from conformance.gradient_mean.models import SPECTROMETER
from conformance.gradient_mean.pairwise import covering

GradientCase = Case[GradientQuestion]
Shards = tuple[int, ...]

# Samples of each rank, by world size: powers of two, so that a rank's mean divides exactly.
SPLITS: dict[str, dict[int, Shards]] = {
    "equal": {w: (2,) * w for w in (1, 2, 3, 4, 8)},
    "unequal": {2: (1, 2), 3: (2, 1, 1), 4: (1, 2, 4, 1), 8: (1, 2, 1, 4, 2, 1, 4, 1)},
    "one-each": {w: (1,) * w for w in (2, 3, 4, 8)},
    "one-alone": {2: (2, 1), 3: (2, 1, 2), 4: (2, 2, 1, 4), 8: (2, 2, 2, 1, 2, 2, 2, 4)},
    "too-few": {2: (1, 0), 3: (1, 0, 1), 4: (1, 0, 1, 0), 8: (1, 0, 1, 1, 0, 0, 1, 0)},
}
_SPLIT_WORDS = {
    "equal": "two samples each",
    "unequal": "unequal shards",
    "one-each": "one sample each",
    "one-alone": "one rank with a single sample",
    "too-few": "fewer samples than ranks",
    "growing": "micro-batches of different sizes",
}
_FACTORS: dict[str, list[Any]] = {
    "world": [2, 4, 8, 3, 1],
    "split": list(SPLITS),
    "k": [1, 2, 5],
    "dtype": ["f32", "f64", "bf16", "f16"],
    "model": [
        "linear",
        "mlp",
        "convnet",
        "max_pool",
        "frozen_norm",
        "tied",
        "frozen",
        "unused",
        "two_heads",
    ],
    "reduction": ["mean", "sum"],
    "starts": ["equal", "different"],
    "observe": ["gradients", "step"],
}
# JAX is asked every value of these factors, but not every pair of values.
_NOT_PAIRED_IN_JAX = [("world", "model"), ("split", "model"), ("dtype", "model")]
_FAMILIES = {
    **dict.fromkeys(("linear", "mlp", "two_heads"), "dense"),
    **dict.fromkeys(("convnet", "max_pool", "frozen_norm"), "convolutions-and-norms"),
    **dict.fromkeys(("tied", "frozen", "unused"), "special-parameters"),
}
# JAX compiles for every question, and so is asked one question of each kind; torch is asked all.
_ALL: tuple[str, ...] = ()
_TORCH = ("torch",)
# Sums of so few bits leave no room for these models.
_TOO_WIDE = {"f16": ("convnet", "max_pool"), "bf16": ("convnet", "max_pool", "frozen_norm")}


def families() -> tuple[GradientCase, ...]:
    """Returns all cases, in the order in which they are asked."""
    return (
        *_covering(),
        *_two_unequal(),
        *_growing(),
        *_three_ranks(),
        *_eight_apart(),
        *_spectrometers(),
        *_bounded(),
        *_noises(),
    )


def rotated(shards: Shards, k: int) -> tuple[Shards, ...]:
    """Makes K micro-batches of as many samples, whose shards go round among the ranks.

    >>> rotated((1, 3), 3)
    ((1, 3), (3, 1), (1, 3))
    """
    turns = (turn % len(shards) for turn in range(k))
    return tuple((*shards[turn:], *shards[:turn]) for turn in turns)


def _possible(row: dict[str, Any]) -> bool:
    model, world, split, k, dtype = (
        row.get(factor) for factor in ("model", "world", "split", "k", "dtype")
    )
    if world is not None and split is not None and world not in SPLITS[split]:
        return False
    if model is not None and model in _TOO_WIDE.get(dtype or "", ()):
        return False
    if model in ("convnet", "max_pool") and k == 5:
        # These combinations take the longest to compile, and show nothing more.
        return False
    return not (dtype == "bf16" and ((k or 1) > 1 or world == 3))


def _covering() -> Iterator[GradientCase]:
    """Covers every pair of values of any two factors that can occur together, in few cases.

    Only torch is asked each model with each W, each split and each dtype: JAX compiles a program
    for every question, and takes as long for one question as torch for twenty.
    """
    shared = covering(_FACTORS, _possible, apart=_NOT_PAIRED_IN_JAX)
    for row in shared:
        yield _of_row(row)
    for row in covering(_FACTORS, _possible, covered=shared):
        yield replace(_of_row(row), frameworks=_TORCH)


def _of_row(row: dict[str, Any]) -> GradientCase:
    question = GradientQuestion(
        model=row["model"],
        shards=rotated(SPLITS[row["split"]][row["world"]], row["k"]),
        reduction=row["reduction"],
        dtype=row["dtype"],
        starts=row["starts"],
        observe=row["observe"],
    )
    marks = [
        mark
        for mark, chosen in (
            ("sum", row["reduction"] == "sum"),
            ("apart", row["starts"] == "different"),
            ("step", row["observe"] == "step"),
        )
        if chosen
    ]
    return _case(_FAMILIES[row["model"]], question, row["split"], marks)


def _two_unequal() -> Iterator[GradientCase]:
    """Takes 1 and 3 samples, whose sum is a power of two, so that sample means are exact."""
    for model in ("mlp", "tied", "convnet"):
        question = GradientQuestion(model, rotated((1, 3), 2))
        case = _case(_FAMILIES[model], question, "unequal", ["samples"])
        yield replace(case, promises=("sample_mean",), clauses=("P14", "J11", "J16"))


def _growing() -> Iterator[GradientCase]:
    """Takes micro-batches of different sizes: code that stacks them must pad the shorter ones."""
    shards = ((1, 1), (2, 2), (4, 4))
    yield _case("dense", GradientQuestion("mlp", shards), "growing")
    # Two heads have two targets: the number of targets is not the number of samples.
    yield replace(
        _case("dense", GradientQuestion("two_heads", shards), "growing"), frameworks=_TORCH
    )


def _three_ranks() -> Iterator[GradientCase]:
    """Takes W = 3, where averaging in every backward multiplies by the rounded 1/3 again (D12)."""
    for model, split, k in (
        ("mlp", "unequal", 2),
        ("convnet", "one-each", 2),
        ("tied", "equal", 5),
    ):
        question = GradientQuestion(model, rotated(SPLITS[split][3], k))
        case = _case(_FAMILIES[model], question, split, ["again"])
        clauses = (*case.clauses, "D12")
        yield replace(
            case,
            promises=("rank_mean",),
            clauses=clauses,
            frameworks=_TORCH,
            against=("no-sync-around-backward-only",),
        )


def _eight_apart() -> Iterator[GradientCase]:
    """Starts eight ranks apart: they must be made equal, under every promise."""
    question = GradientQuestion("two_heads", rotated(SPLITS["one-each"][8], 1), starts="different")
    yield replace(_case("dense", question, "one-each", ["apart"]), frameworks=_TORCH)


def _case(
    family: str, question: GradientQuestion, split: str, marks: list[str] | None = None
) -> GradientCase:
    w, k = question.world_size, question.micro_batches
    name = [question.model.replace("_", "-"), f"w{w}", split, f"k{k}", question.dtype]
    about = [
        question.model.replace("_", " "),
        f"{w} rank{'s' * (w > 1)}",
        _SPLIT_WORDS[split],
        f"{k} micro-batch{'es' * (k > 1)}",
        question.dtype,
    ]
    if question.reduction == "sum":
        about.append("a loss that sums")
    if question.starts == "different":
        about.append("ranks that start apart")
    if question.observe == "step":
        about.append("the parameters after a step of SGD")
    return Case(
        operation="gradient_mean",
        name="-".join([*name, *(marks or [])]),
        family=family,
        about=", ".join(about),
        clauses=tuple(_clauses(question, split)),
        question=question,
        promises=promises_of(question),
    )


def marks_of(question: GradientQuestion) -> list[str]:
    """Returns the words at the end of a case's name: how it starts, what it asks, its tier."""
    marks = {
        "apart": question.starts == "different",
        "step": question.observe == "step",
        "rounding": question.tier == "bounded",
    }
    return [mark for mark, is_so in marks.items() if is_so]


def promises_of(question: GradientQuestion) -> tuple[str, ...]:
    """Returns the promises whose implementations are asked an average; all where it is empty.

    A mean over samples does not promise the sum over a whole batch. And it is exact only over a
    power of two of samples: a sum of thirds may be fused with the multiplication by 1/3, which
    then does not round to the quotient.
    """
    counts = [sum(shards) for shards in question.shards]
    is_dyadic = all(count & (count - 1) == 0 for count in counts)
    if question.reduction == "sum" or (question.tier == "exact" and not is_dyadic):
        return ("rank_mean", "rank_sum")
    return ()


def _clauses(question: GradientQuestion, split: str) -> Iterator[str]:
    is_uneven = split not in ("equal", "one-each")
    yield "D2"
    if is_uneven and question.reduction == "mean":
        yield "D3"
        if not promises_of(question):
            # The case is asked of sample means too.
            yield from ("P14", "J11", "J16")
    if split == "too-few":
        yield "P4"
    if question.reduction == "sum":
        yield "D4"
    if question.micro_batches > 1:
        yield "D13"
    if question.starts == "different":
        yield "D1"
    if question.model == "tied":
        yield "D19"
    if question.model == "unused":
        yield "D17"
    if question.model == "frozen_norm":
        yield "D30"


def _spectrometers() -> Iterator[GradientCase]:
    """Reads the weight of each sample off the gradient: exact for powers of two, else bounded."""
    for world, shards, k, tier, frameworks in (
        (2, (4, 4), 3, "exact", _TORCH),
        (4, (2, 1, 4, 1), 1, "exact", _ALL),
        (8, (1,) * 8, 5, "exact", _TORCH),
        (3, (7, 7, 7), 5, "bounded", _ALL),
        (3, (5, 2, 7), 2, "bounded", _TORCH),
    ):
        question = GradientQuestion(
            SPECTROMETER,
            rotated(shards, k),
            loss="output",
            tier="exact" if tier == "exact" else "bounded",
        )
        split = "equal" if len(set(shards)) == 1 else "unequal"
        counts = "-".join(map(str, shards)) if split == "unequal" else str(shards[0])
        yield Case(
            operation="gradient_mean",
            name=f"spectrometer-w{world}-n{counts}-k{k}",
            family="spectrometer",
            about=f"the weight of every sample, {world} ranks of {counts} samples, K = {k}",
            clauses=tuple(_clauses(question, split)),
            question=question,
            promises=promises_of(question),
            frameworks=frameworks,
        )


def _bounded() -> Iterator[GradientCase]:
    """Asks what no lattice holds: exponentials, roots, and data that rounds."""
    for model, loss, split, world, k, dtype, frameworks in (
        ("classifier", "cross_entropy", "equal", 2, 1, "f32", _TORCH),
        ("classifier", "cross_entropy", "unequal", 4, 2, "f64", _TORCH),
        ("classifier", "cross_entropy", "unequal", 3, 1, "f32", _ALL),
        ("layer_norm", "mse", "equal", 3, 2, "f32", _TORCH),
        ("layer_norm", "mse", "unequal", 2, 1, "f64", _TORCH),
        ("mlp", "mse", "unequal", 3, 5, "f32", _TORCH),
        ("convnet", "mse", "equal", 4, 1, "f32", _TORCH),
        ("mlp", "mse", "equal", 2, 2, "f64", _TORCH),
    ):
        question = GradientQuestion(
            model,
            rotated(SPLITS[split][world], k),
            loss="cross_entropy" if loss == "cross_entropy" else "mse",
            dtype=dtype,
            starts="different" if k == 2 else "equal",
            tier="bounded",
        )
        apart = ["apart"] if k == 2 else []
        case = _case("bounded", question, split, [*apart, "rounding"])
        yield replace(case, frameworks=frameworks)
    yield from _batch_norms()


def gathering() -> tuple[str, ...]:
    """Names the implementations that a loss over all samples is asked of."""
    return (*whole_batch("one_process"), GATHERED)


def whole_batch(*runs: str) -> tuple[str, ...]:
    """Names the implementations that a whole batch's norm is asked of, least demanding first.

    Args:
        runs: how they run; every way where none is named.
    """

    def demands(declared: Implementation) -> tuple[int, bool, int]:
        return FRAMEWORKS.index(declared.framework), declared.devices != "one", len(declared.needs)

    whole = [d for d in own() if d.batch == "whole" and (not runs or d.runs in runs)]
    return (*(declared.name for declared in sorted(whole, key=demands)), WHOLE_BATCH)


def _batch_norms() -> Iterator[GradientCase]:
    """Trains a batch norm, with its rank's statistics or with the whole batch's."""
    for family, whole, sizes, loss, dtype, frameworks in (
        ("batch-norm", False, (4, 4), "mse", "f32", _TORCH),
        ("batch-norm", False, (4, 5, 6), "mse", "f32", _ALL),
        ("batch-norm", True, (4, 4), "mse", "f32", _ALL),
        ("convolutions-and-norms", True, (4, 5, 6), "mse", "f64", _ALL),
        ("bounded", True, (3, 5), "cross_entropy", "f32", _ALL),
    ):
        split = "equal" if len(set(sizes)) == 1 else "unequal"
        question = GradientQuestion(
            "batch_norm",
            (sizes,),
            loss="cross_entropy" if loss == "cross_entropy" else "mse",
            dtype=dtype,
            tier="bounded",
        )
        statistics = "whole-batch" if whole else "own-shard"
        yield Case(
            operation="gradient_mean",
            name=f"batch-norm-{statistics}-w{len(sizes)}-{split}-{loss.replace('_', '-')}-{dtype}",
            family=family,
            about=(
                "a batch norm in training on one batch, whose samples all count"
                if whole
                else f"a batch norm in training: each of {len(sizes)} ranks uses its own statistics"
            ),
            clauses=tuple(_clauses(question, split)),
            question=question,
            promises=("sample_mean",) if whole else ("rank_mean", "rank_sum"),
            frameworks=frameworks,
            asked_of=whole_batch() if whole else (),
        )


def _noises() -> Iterator[GradientCase]:
    """Asks torch's dropouts, of which every rank draws its own noise; JAX's losses take no key."""
    for model, family, world, samples, k in (
        ("dropout", "spectrometer", 2, 2, 2),
        ("dropout", "special-parameters", 4, 1, 1),
        ("channel_dropout", "convolutions-and-norms", 2, 4, 1),
        ("channel_dropout", "spectrometer", 8, 1, 2),
        ("dropout", "bounded", 3, 5, 1),
    ):
        question = GradientQuestion(
            model,
            ((samples,) * world,) * k,
            loss="output",
            tier="exact" if family != "bounded" else "bounded",
            observe="noise",
        )
        yield Case(
            operation="gradient_mean",
            name=f"{model.replace('_', '-')}-w{world}-n{samples}-k{k}",
            family=family,
            about=f"the noise of a dropout on every sample, {world} ranks of {samples}, K = {k}",
            clauses=("D32",),
            question=question,
            promises=("rank_mean", "rank_sum"),
            frameworks=_TORCH,
            against=("shared-dropout-key",),
        )
