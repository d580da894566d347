"""Every mistake against every case: which case kills it, and whether the answer names it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from conformance.channel_shuffle.diagnosis import ACCEPTED, accepted_refusal, answer_of, diagnose
from conformance.core.implementations import PROMISES
from conformance.core.questions import (
    AnyCase,
    BehaviourQuestion,
    Case,
    GradientQuestion,
    ShuffleQuestion,
    VirtualQuestion,
)
from conformance.core.verdict import is_right, promised
from conformance.gradient_mean import diagnosis as gradient_diagnosis
from conformance.gradient_mean import virtual_diagnosis
from conformance.gradient_mean.diagnosis import wrong_answers
from conformance.gradient_mean.parts import Work
from conformance.gradient_mean.virtual_mistakes import WRONG, Ranks
from conformance.gradient_mean.virtual_mistakes import wrong_answers as wrong_at_scale
from conformance.mistakes import catalogue
from conformance.run.goldens import make
from conformance.subjects import all_cases

FAMILIES = 3  # of which a mistake must be killed by at least one case each


@dataclass(frozen=True)
class Kill:
    """A mistake whose answer to a case is wrong; `names` are those that the answer fits."""

    mistake: str
    operation: str
    case: str
    family: str
    names: tuple[str, ...]

    @property
    def is_named(self) -> bool:
        """Whether the answer shows this mistake and no other."""
        return self.names == (self.mistake,)

    @property
    def is_misnamed(self) -> bool:
        """Whether the answer shows another mistake, and only that: worse than no name."""
        return len(self.names) == 1 and not self.is_named


def kills(
    cases: Iterable[AnyCase] | None = None, progress: Callable[[AnyCase], None] = lambda _: None
) -> list[Kill]:
    """Ask every mistake every case, in the oracle's terms: no framework takes part."""
    found = []
    for case in all_cases() if cases is None else cases:
        progress(case)
        if isinstance(case.question, ShuffleQuestion):
            found += _shuffle_kills(case)
        if isinstance(case.question, GradientQuestion):
            found += _one_each(_gradient_kills(case))
        if isinstance(case.question, VirtualQuestion):
            found += _one_each(_virtual_kills(case))
    return found


def _shuffle_kills(case: AnyCase) -> list[Kill]:
    def kill(name: str, names: tuple[str, ...]) -> Kill:
        return Kill(name, case.operation, case.id, case.family, names)

    golden = make(case)
    if case.refusal is not None:  # any answer at all is wrong: whoever accepts is killed
        accepted = answer_of(ACCEPTED, case, golden.inputs)
        if accepted is None:
            return []
        return [kill(ACCEPTED, accepted_refusal(case, golden.inputs, accepted).names)]
    answered = ((m.name, answer_of(m.name, case, golden.inputs)) for m in catalogue(case.operation))
    return [
        kill(name, diagnose(case, golden.inputs, given, golden.answers).names)
        for name, given in answered
        if given is not None
    ]


def _one_each(kills: Iterable[Kill]) -> list[Kill]:
    """The kill of each mistake: the last in which it has its name, else the first."""
    found: dict[str, Kill] = {}
    for kill in kills:
        if kill.mistake not in found or kill.is_named:
            found[kill.mistake] = kill
    return list(found.values())


def _gradient_kills(case: Case[GradientQuestion]) -> Iterator[Kill]:
    """Under every promise that is asked, as W ranks show it and as one process does."""
    golden = make(case)
    for promise in case.promises or PROMISES[case.operation]:
        expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
        work = Work(case.question, golden.inputs, promise)
        for ranks in {case.question.world_size, 1}:
            for mistake, alternatives in wrong_answers(work, ranks):
                # Of orders of a sum one will do: they go wrong together.
                for given in alternatives[:1] if mistake.is_by_element else alternatives:
                    if is_right(given, expected, bounds):
                        continue
                    names = gradient_diagnosis.diagnose(work, expected, bounds, given).names
                    yield Kill(mistake.name, case.operation, case.id, case.family, names)


def _virtual_kills(case: Case[VirtualQuestion]) -> Iterator[Kill]:
    """Of thousands of ranks that are missing, two stand for all: the first and the second."""
    golden = make(case)
    ranks = Ranks(case.question, golden.inputs)
    expected = promised(golden.answers, PROMISES[case.operation][0])
    for name in WRONG:
        for gradient in islice(wrong_at_scale(name, ranks), 4):
            given = virtual_diagnosis.as_answer(gradient)
            if is_right([given], expected, {}):
                continue
            names = virtual_diagnosis.names_of(ranks, given)
            yield Kill(name, case.operation, case.id, case.family, names)


def shortcomings(
    found: Iterable[Kill], cases: Iterable[AnyCase] = (), operation: str | None = None
) -> list[str]:
    """What the suite fails to prove, one line each; empty where it proves that it would catch all.

    A mistake must be killed by enough families, be named by some case, and be given no other
    mistake's name; a case must kill a mistake or say why it cannot.
    """
    everything = list(found)
    lines = []
    for mistake in catalogue(operation):
        mine = [kill for kill in everything if kill.mistake == mistake.name]
        families = {kill.family for kill in mine}
        if len(families) < FAMILIES:
            told = ", ".join(sorted(families)) or "none"
            lines.append(f"{mistake.name}: killed by {len(families)} families ({told})")
        if not any(kill.is_named for kill in mine):
            lines.append(f"{mistake.name}: no case names it")
        lines += [
            f"{mistake.name}: {kill.case} gives it the name {kill.names[0]}"
            for kill in mine
            if kill.is_misnamed
        ]
    return lines + _idlers(everything, tuple(cases))


def _idlers(found: Sequence[Kill], cases: Sequence[AnyCase]) -> list[str]:
    """Cases that kill nothing for no reason, or not the mistakes that they were made against."""
    killed = {(kill.case, kill.mistake) for kill in found}
    known = {mistake.name for mistake in catalogue()}
    lines = [f"{case}: kills nothing" for case, why in idle(found, cases).items() if not why]
    for case in cases:
        for name in case.against:
            if name not in known:
                lines.append(f"{case.id}: is against {name}, which is no known mistake")
            elif (case.id, name) not in killed:
                lines.append(f"{case.id}: is against {name}, and does not kill it")
    return lines


def idle(found: Iterable[Kill], cases: Iterable[AnyCase]) -> dict[str, str]:
    """Cases that kill no mistake, of those that are asked of implementations, and why none.

    A reason is empty where there is none. What is asked of a framework's own class has broken
    classes for mistakes, in the tests.
    """
    killing = {kill.case for kill in found}
    return {
        case.id: _why_idle(case)
        for case in cases
        if case.id not in killing and not isinstance(case.question, BehaviourQuestion)
    }


def _why_idle(case: AnyCase) -> str:
    question = case.question
    if case.refusal is not None:
        return "asks for an error, and whoever gives an answer shows no more than that"
    if isinstance(question, GradientQuestion):
        return "one rank has nobody to average with" if question.world_size == 1 else ""
    if 0 in question.shape:
        return "has no elements: each order of none is right"
    return "one channel has one order" if question.channels == 1 else ""


def twins(found: Iterable[Kill]) -> list[tuple[str, str]]:
    """Pairs of mistakes that no case tells apart: whatever kills one also fits the other."""
    fits: dict[str, set[frozenset[str]]] = {}
    for kill in found:
        fits.setdefault(kill.mistake, set()).add(frozenset(kill.names))
    names = sorted(fits)
    return [
        (first, second)
        for i, first in enumerate(names)
        for second in names[i + 1 :]
        if all(second in seen for seen in fits[first])
        and all(first in seen for seen in fits[second])
    ]


def matrix(found: Iterable[Kill], operation: str) -> tuple[list[str], dict[str, Counter[str]]]:
    """The families in the order of the cases, and for each mistake the kills by family."""
    rows: dict[str, Counter[str]] = {mistake.name: Counter() for mistake in catalogue(operation)}
    for kill in found:
        if kill.operation == operation:
            rows[kill.mistake][kill.family] += 1
    families = list(dict.fromkeys(case.family for case in all_cases()))
    return [f for f in families if any(row[f] for row in rows.values())], rows


def as_objects(found: Iterable[Kill]) -> list[dict[str, Any]]:
    """One object for each (mistake, case) that kills."""
    return [
        {
            "id": kill.mistake,
            "operation": kill.operation,
            "case": kill.case,
            "family": kill.family,
            "names": list(kill.names),
        }
        for kill in found
    ]
