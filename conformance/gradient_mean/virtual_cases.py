"""Cases of averages over 16 to 4,096 ranks, where code that is right at 8 ranks may break.

W is a power of two throughout, so that dividing by W is exact, wherever the code divides.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from conformance.core.questions import Case, VirtualQuestion
from conformance.gradient_mean.virtual_definition import PROMISES

WORLDS = (16, 64, 256, 1024, 4096)
_PAST_THE_DTYPE: tuple[Literal["alike", "swallowed"], ...] = ("alike", "swallowed")
_ABOUT = {
    "one-hot": "the weight of every sample",
    "small": "sums with room for any order",
    "alike": "sums of equal gradients that pass what the dtype can count to",
    "swallowed": "one loud rank among quiet ones, which a running sum swallows",
    "overflowing": "a mean inside the dtype of a sum outside",
}
# These carry sums in float32 at least. pmean sums in the gradients' own dtype and in any order, so
# it is not asked where the answer depends on the order.
_CARRIES_FLOAT32 = ("torch_virtual_vmap", "numpy_virtual_definition", "*_float32")
_SUMS_IN_DTYPE = ("*_virtual_pmean",)


def cases() -> tuple[Case[VirtualQuestion], ...]:
    """Returns all cases, in the order in which they are asked."""
    return (*_spectrometers(), *_small(), *_narrow(), *_overflowing())


def _spectrometers() -> Iterator[Case[VirtualQuestion]]:
    for world in WORLDS:
        yield _case(VirtualQuestion(world, "one-hot"))
    for world, n, k, dtype in ((64, 2, 2, "f32"), (256, 1, 3, "f64")):
        yield _case(VirtualQuestion(world, "one-hot", n, k, dtype))
    for world, dtype in ((256, "bf16"), (1024, "bf16"), (1024, "f16"), (4096, "f16")):
        yield _case(VirtualQuestion(world, "one-hot", dtype=dtype))


def _small() -> Iterator[Case[VirtualQuestion]]:
    for world in WORLDS:
        for dtype in ("f32", "f16", "bf16"):
            yield _case(VirtualQuestion(world, "small", dtype=dtype))
    for world, n, k, dtype in (
        (16, 2, 2, "f32"),
        (64, 1, 2, "bf16"),
        (256, 4, 1, "f64"),
        (1024, 2, 1, "f16"),
        (4096, 2, 2, "f32"),
    ):
        yield _case(VirtualQuestion(world, "small", n, k, dtype))


def _narrow() -> Iterator[Case[VirtualQuestion]]:
    """Counts beyond 2^8 in bfloat16 and beyond 2^11 in float16."""
    for dtype, worlds in (("bf16", (256, 1024, 4096)), ("f16", (1024, 4096))):
        for world in worlds:
            for fill in _PAST_THE_DTYPE:
                yield _case(VirtualQuestion(world, fill, dtype=dtype), _CARRIES_FLOAT32)


def _overflowing() -> Iterator[Case[VirtualQuestion]]:
    for world in (1024, 4096):
        yield _case(VirtualQuestion(world, "overflowing", dtype="f16"), _CARRIES_FLOAT32)
    question = VirtualQuestion(4096, "overflowing", dtype="f16", divided="after")
    yield _case(question, _SUMS_IN_DTYPE, ("J4",))


def _case(
    question: VirtualQuestion, asked_of: Sequence[str] = (), clauses: Sequence[str] = ()
) -> Case[VirtualQuestion]:
    w, n, k = question.world_size, question.samples, question.micro_batches
    fill = "spectrometer" if question.fill == "one-hot" else question.fill
    name = [f"virtual-{fill}-w{w}-n{n}-k{k}-{question.dtype}"]
    about = f"{w:,} virtual ranks of {n}, K = {k}, {question.dtype}: {_ABOUT[question.fill]}"
    if question.divided == "after":
        name.append("sum-first")
        about += "; summed first, it overflows"
    if k > 1:
        clauses = (*clauses, "D13")
    return Case(
        operation="gradient_mean",
        name="-".join(name),
        family=f"virtual-{fill}",
        about=about,
        clauses=("D2", *clauses),
        question=question,
        promises=PROMISES,
        asked_of=tuple(asked_of),
        on_the_fly=True,
    )
