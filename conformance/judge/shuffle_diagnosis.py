"""What a wrong answer about channel shuffle looks like."""

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from conformance.cases.case import ShuffleCase, ShuffleQuestion
from conformance.dtypes import DTYPES, bits_of
from conformance.judge.comparison import difference
from conformance.judge.likeness import likeness
from conformance.judge.permutations import channel_permutation, cycles, stays_in_groups
from conformance.mistakes import catalogue
from conformance.oracle import channel_shuffle as oracle

Arrays = Mapping[str, np.ndarray]
IN_GROUPS = "shuffled-within-groups"


@dataclass(frozen=True)
class Diagnosis:
    """The names of the mistakes that give this very answer, and what else can be read off it."""

    names: tuple[str, ...]
    evidence: str = ""


def diagnose(case: ShuffleCase, inputs: Arrays, given: Arrays, expected: Arrays) -> Diagnosis:
    """Name a wrong answer: by what it did to memory, by recomputing every mistake, by its values.

    The answer is known to be wrong. Names that the answer cannot tell apart are all given.
    """
    question = case.question
    if question.observe == "effects" and _touched_memory(given, expected):
        return Diagnosis(("aliased-or-mutated",))
    permutation = _read_permutation(question, inputs, given)
    evidence = "" if permutation is None else _in_words(permutation, question)
    fits = {m.name for m in catalogue(case.operation) if _gives(m.name, case, inputs, given)}
    if _lost_width(question, given, expected):
        fits.add("narrow-round-trip")
    if _lost_values(inputs, given, expected):
        fits.add("value-changing-copy")
    names = tuple(m.name for m in catalogue(case.operation) if m.name in fits)
    return Diagnosis(_with_or_without_in_groups(names, permutation, question), evidence)


def _with_or_without_in_groups(
    names: tuple[str, ...], permutation: tuple[int, ...] | None, question: ShuffleQuestion
) -> tuple[str, ...]:
    """The mistake that is "any other permutation that never leaves a group" has its own rule.

    It fits where the permutation read off stays inside; a nearer name goes before it. But where
    there is one group, or two channels in each, hardly anything else can be seen: then both stand.
    """
    others = tuple(name for name in names if name != IN_GROUPS)
    groups = int(question.groups)
    fits = IN_GROUPS in names if permutation is None else stays_in_groups(permutation, groups)
    says_little = groups == 1 or question.channels <= 2 * groups
    return (*others, IN_GROUPS) if fits and (not others or says_little) else others


def accepted_refusal(case: ShuffleCase) -> Diagnosis:
    """An answer came where an error is promised."""
    question, groups = case.question, case.question.groups
    whole = isinstance(groups, int) and groups > 0 and len(question.shape) > 1
    if whole and question.channels % groups:
        return Diagnosis(("indivisible-accepted",))
    return Diagnosis(())


def _gives(name: str, case: ShuffleCase, inputs: Arrays, given: Arrays) -> bool:
    wrong = answer_of(name, case, inputs)
    return wrong is not None and difference(given, wrong) is None


def answer_of(name: str, case: ShuffleCase, inputs: Arrays) -> Arrays | None:
    """The answer of a known mistake to a case; None where it has none, or the right one."""
    mistake = _BY_NAME[name]
    try:
        wrong = oracle.answer(case.question, inputs, mistake.wrong)
    except (ValueError, IndexError, ZeroDivisionError):
        return None  # such code raises on this shape
    if difference(wrong, oracle.answer(case.question, inputs)) is None:
        return None
    return wrong


_BY_NAME = {mistake.name: mistake for mistake in catalogue("channel_shuffle")}


def _touched_memory(given: Arrays, expected: Arrays) -> bool:
    return any(
        name in given and difference({name: given[name]}, {name: expected[name]}) is not None
        for name in ("shares_memory", "input_after")
        if name in expected
    )


def _read_permutation(
    question: ShuffleQuestion, inputs: Arrays, given: Arrays
) -> tuple[int, ...] | None:
    if question.transform == "vmapped" or question.then or question.observe == "convolutions":
        return None
    return channel_permutation(inputs["input"], given.get("output", np.empty(0)))


def _in_words(permutation: tuple[int, ...], question: ShuffleQuestion) -> str:
    right = tuple(oracle.permutation(question.channels, int(question.groups)).tolist())
    if permutation == right:
        return "the channels of the output stand right"
    seems = likeness(permutation, int(question.groups))
    told = f"it moves the channels as {cycles(permutation)}, the right way is {cycles(right)}"
    return f"{told}: your code seems to do {seems}" if seems else told


def _lost_width(question: ShuffleQuestion, given: Arrays, expected: Arrays) -> bool:
    """Whether the answer is the right one after a cast to some narrower dtype and back."""
    dtype = DTYPES[question.dtype]
    narrower = (
        row.carrier
        for row in DTYPES.values()
        if row.bits < dtype.bits
        and row.kind in (dtype.kind, "float" if dtype.kind == "integer" else dtype.kind)
        and row.jax is not None
    )
    return any(difference(given, _cast(expected, to, dtype.carrier)) is None for to in narrower)


def _cast(arrays: Arrays, to: np.dtype, carrier: np.dtype) -> Arrays:
    with np.errstate(all="ignore"):
        return {
            name: array.astype(to).astype(carrier) if array.dtype == carrier else array
            for name, array in arrays.items()
        }


# What each answer is a copy of.
_SOURCES = {
    "output": "input",
    "input_cotangent": "cotangent",
    "output_tangent": "tangent",
    "cotangent_cotangent": "second",
}


def _lost_values(inputs: Arrays, given: Arrays, expected: Arrays) -> bool:
    """Whether every wrong element is a zero or a NaN where a special value was to be copied."""
    wrong = [
        name
        for name, right in expected.items()
        if name not in given or difference({name: given[name]}, {name: right}) is not None
    ]
    return bool(wrong) and all(
        name in _SOURCES
        and name in given
        and _lost_in(inputs[_SOURCES[name]], given[name], expected[name])
        for name in wrong
    )


def _lost_in(source: np.ndarray, got: np.ndarray, right: np.ndarray) -> bool:
    """A permutation keeps the multiset of bit patterns; where that is kept, nothing was lost."""
    if right.dtype != got.dtype or right.shape != got.shape or right.dtype.kind not in "fcV":
        return False
    if _multiset(got) == _multiset(source):
        return False
    right_parts, got_parts = _real_parts(right), _real_parts(got)
    wrong = bits_of(right_parts) != bits_of(got_parts)
    before, after = right_parts[wrong], got_parts[wrong].astype(np.float64)
    least = float(ml_dtypes.finfo(right_parts.dtype).smallest_normal)
    with np.errstate(all="ignore"):
        wide = before.astype(np.float64)
        special = ~np.isfinite(wide) | (np.abs(wide) < least)
    return bool(special.all() and (np.isnan(after) | (after == 0)).all())


def _real_parts(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _multiset(array: np.ndarray) -> bytes:
    return np.sort(bits_of(_real_parts(array))).tobytes()
