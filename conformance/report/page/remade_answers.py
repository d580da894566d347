"""The answers that failing checks gave, made again.

A results file holds the SHA-256 of an answer, not the answer. Where a known mistake was named, its
code answers the case once more: where the hash is the recorded one, that is the answer, bit for
bit; where it is not (inside a bound a mistake has many answers), the page shows the mistake's own.
The permutation that the judge read off an answer stands in the record's evidence.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from conformance.channel_shuffle.diagnosis import answer_of
from conformance.core.comparison import Arrays, difference, sha256_of_answer
from conformance.core.dtypes import bits_of
from conformance.core.golden import Golden
from conformance.core.questions import AnyCase
from conformance.gradient_mean.diagnosis import as_answer
from conformance.gradient_mean.mistakes import MISTAKES
from conformance.gradient_mean.parts import ByRank, Parts
from conformance.gradient_mean.verdict import promised, with_positive_zeros
from conformance.report.page import charts, described
from conformance.run.goldens import Goldens
from conformance.run.results import Record, Run

PLACE = "CHECK"
MOST = 400  # Checks: each takes a few milliseconds and a kilobyte.
_MOST_ARRAYS = 4
_MOST_ELEMENTS = 300_000  # Elements of an input on which a mistake is tried again.


def remade(
    run: Run, by_id: Mapping[tuple[str, str], AnyCase], goldens: Goldens | None
) -> dict[int, dict[str, Any]]:
    """Returns what is known of the answers of failing checks, by the number of the check.

    Of many failing checks the first of each implementation come first.
    """
    answers: dict[int, dict[str, Any]] = {}
    cache: dict[tuple[str, str, tuple[str, ...], str | None, str], dict[str, Any]] = {}
    for number in _in_turn(run.records)[:MOST]:
        record = run.records[number]
        case = by_id.get((record.operation, record.case))
        golden = goldens.by_case.get(case.id) if goldens is not None and case is not None else None
        if case is None or golden is None or golden.hashes:
            continue
        key = (record.operation, record.case, record.fits, record.answer, record.promise)
        if key not in cache:
            with np.errstate(all="ignore"):  # Wrong code may overflow.
                cache[key] = _again(record, case, golden)
        moves = _moves(record, case, golden)
        if cache[key] or moves:
            answers[number] = {**cache[key], **moves}
    return answers


def _in_turn(records: Sequence[Record]) -> list[int]:
    """Returns the numbers of failing checks: the first of every implementation, then the second."""
    met: Counter[str] = Counter()
    turns = []
    for number, record in enumerate(records):
        if not record.conforms:
            turns.append((met[record.owner], number))
            met[record.owner] += 1
    return [number for _, number in sorted(turns)]


def _moves(record: Record, case: AnyCase, golden: Golden) -> dict[str, Any]:
    """Returns the permutation that was read off the answer, and what it did to photographs."""
    permutation, question = record.evidence.get("permutation"), case.question
    if case.kind != "shuffle" or not permutation:
        return {}
    if sorted(permutation) != list(range(question.channels)):
        return {}  # The file is damaged, or of a case that had other channels.
    moves: dict[str, Any] = {}
    if question.channels <= described.MOST_CHANNELS:
        moves["permutation"] = permutation
    if question.fill == "photographs" and "input" in golden.inputs:
        moves["photographs"] = charts.photographs(golden.inputs["input"][0][permutation])
    return moves


def _again(record: Record, case: AnyCase, golden: Golden) -> dict[str, Any]:
    if record.answer is None or not record.fits:
        return {}
    expected = golden.answers
    if case.kind == "average":
        expected = promised(golden.answers, record.promise)
    first: tuple[str, Arrays] | None = None
    for name, answer in _candidates(record, case, golden):
        if sha256_of_answer(answer) == record.answer:
            return {"mistake": name, "proved": True, **_beside(case, answer, expected)}
        first = first or (name, answer)
    if first is None:
        return {}
    name, answer = first
    return {"mistake": name, "proved": False, **_beside(case, answer, expected)}


def _candidates(record: Record, case: AnyCase, golden: Golden) -> Iterator[tuple[str, Arrays]]:
    """Yields what each mistake that fits answers."""
    question = case.question
    if sum(array.size for array in golden.inputs.values()) > _MOST_ELEMENTS:
        return
    if case.kind == "shuffle":
        if case.refusal is not None:
            return
        for name in record.fits:
            answer = answer_of(name, case, golden.inputs)
            if answer is not None:
                yield name, answer
    if case.kind == "average" and record.promise:
        parts = Parts(question, golden.inputs, record.promise)
        for mistake in MISTAKES:
            if mistake.name in record.fits:
                for by_rank in mistake.answers(parts):
                    yield mistake.name, _of_rank_0(parts, by_rank)


def _of_rank_0(parts: Parts, by_rank: ByRank) -> Arrays:
    """Returns what the judge takes the hash of: rank 0's answer, with its zeros positive."""
    return with_positive_zeros(as_answer(parts, by_rank[0]))


def _beside(case: AnyCase, answer: Arrays, expected: Arrays) -> dict[str, Any]:
    """Returns wrong arrays beside the right ones, and as a picture where there is one."""
    arrays = []
    for name, right in expected.items():
        apart = difference({name: answer[name]}, {name: right}) if name in answer else None
        if apart is not None:
            words = apart.words.removeprefix(f"{name}: ")
            pair = _from_the_first_wrong(right, answer[name])
            arrays.append([name, *map(described.elements_of, pair), words])
    beside: dict[str, Any] = {"arrays": arrays[:_MOST_ARRAYS]}
    if described.is_spectrometer(case):
        beside["weights"] = described.weights(next(iter(answer.values())))
    return beside


def _from_the_first_wrong(right: np.ndarray, got: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the elements of both from there on, in a row; arrays of other forms as they are."""
    if right.shape != got.shape or right.dtype != got.dtype:
        return right, got
    unequal = (bits_of(right) != bits_of(got)).reshape(right.size, -1).any(axis=1)
    first = int(unequal.argmax())
    return right.reshape(1, -1)[:, first:], got.reshape(1, -1)[:, first:]
