"""Every mistake against every case: which case kills it, and whether the answer names it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.core.questions import AnyCase
from conformance.subjects import all_cases, catalogue, subject_of

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
    """Asks every mistake every case, in terms of the definition: no framework takes part.

    Returns one kill per mistake and case, preferably one in which the mistake is named.
    """
    by_pair: dict[tuple[str, str], Kill] = {}
    for case in all_cases() if cases is None else cases:
        progress(case)
        subject = subject_of(case)
        if case.kind == "behaviour":
            continue
        for wrong in subject.wrong_answers(case, subject.solve(case)):
            kill = Kill(wrong.mistake, case.operation, case.id, case.family, wrong.names)
            if (case.id, wrong.mistake) not in by_pair or kill.is_named:
                by_pair[case.id, wrong.mistake] = kill
    return list(by_pair.values())


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
        if case.id not in killing and case.kind != "behaviour"
    }


def _why_idle(case: AnyCase) -> str:
    question = case.question
    if case.refusal is not None:
        return "asks for an error, and whoever gives an answer shows no more than that"
    if case.kind == "average":
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
