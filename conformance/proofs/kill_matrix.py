"""The kill matrix: which case kills which mistake, and whether its diagnosis names the mistake."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.core.questions import AnyCase
from conformance.subjects import all_cases, catalogue, subject_of

# Cases of so many families must kill a mistake.
FAMILIES = 3


@dataclass(frozen=True)
class Kill:
    """A mistake whose answer to a case is wrong; `names` are the mistakes that fit the answer."""

    mistake: str
    operation: str
    case: str
    family: str
    names: tuple[str, ...]

    @property
    def is_named(self) -> bool:
        """Says whether the answer shows this mistake and no other."""
        return self.names == (self.mistake,)

    @property
    def is_misnamed(self) -> bool:
        """Says whether the answer shows another mistake alone, which is worse than no name."""
        return len(self.names) == 1 and not self.is_named


def kills(
    cases: Iterable[AnyCase] | None = None, progress: Callable[[AnyCase], None] = lambda _: None
) -> list[Kill]:
    """Answers every case with every mistake, by the definition: no framework takes part.

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
    kills: Iterable[Kill], cases: Iterable[AnyCase] = (), operation: str | None = None
) -> list[str]:
    """Returns a line for each thing that the suite fails to prove.

    A mistake must be killed by enough families, be named by some case, and never get another
    mistake's name; a case must kill a mistake or say why it cannot.
    """
    all_kills = list(kills)
    lines = []
    for mistake in catalogue(operation):
        own_kills = [kill for kill in all_kills if kill.mistake == mistake.name]
        families = {kill.family for kill in own_kills}
        if len(families) < FAMILIES:
            killers = ", ".join(sorted(families)) or "none"
            lines.append(f"{mistake.name}: killed by {len(families)} families ({killers})")
        if not any(kill.is_named for kill in own_kills):
            lines.append(f"{mistake.name}: no case names it")
        lines += [
            f"{mistake.name}: {kill.case} gives it the name {kill.names[0]}"
            for kill in own_kills
            if kill.is_misnamed
        ]
    return lines + _idlers(all_kills, tuple(cases))


def _idlers(kills: Sequence[Kill], cases: Sequence[AnyCase]) -> list[str]:
    """Lists cases that kill nothing for no reason, or not the mistakes that they are against."""
    killed = {(kill.case, kill.mistake) for kill in kills}
    names = {mistake.name for mistake in catalogue()}
    lines = [f"{case}: kills nothing" for case, why in idle(kills, cases).items() if not why]
    for case in cases:
        for name in case.against:
            if name not in names:
                lines.append(f"{case.id}: is against {name}, which is no known mistake")
            elif (case.id, name) not in killed:
                lines.append(f"{case.id}: is against {name}, and does not kill it")
    return lines


def idle(kills: Iterable[Kill], cases: Iterable[AnyCase]) -> dict[str, str]:
    """Returns the cases that kill no mistake, each with its reason, which may be empty.

    Cases about a framework's own class are left out: the tests have broken classes for them.
    """
    killers = {kill.case for kill in kills}
    return {
        case.id: _why_idle(case)
        for case in cases
        if case.id not in killers and case.kind != "behaviour"
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


def twins(kills: Iterable[Kill]) -> list[tuple[str, str]]:
    """Returns pairs of mistakes that no case tells apart: answers of each also fit the other."""
    fits: dict[str, set[frozenset[str]]] = {}
    for kill in kills:
        fits.setdefault(kill.mistake, set()).add(frozenset(kill.names))
    names = sorted(fits)
    return [
        (first, second)
        for i, first in enumerate(names)
        for second in names[i + 1 :]
        if all(second in names_of_kill for names_of_kill in fits[first])
        and all(first in names_of_kill for names_of_kill in fits[second])
    ]


def matrix(kills: Iterable[Kill], operation: str) -> tuple[list[str], dict[str, Counter[str]]]:
    """Returns the families in the order of the cases, and the kills of each mistake by family."""
    rows: dict[str, Counter[str]] = {mistake.name: Counter() for mistake in catalogue(operation)}
    for kill in kills:
        if kill.operation == operation:
            rows[kill.mistake][kill.family] += 1
    families = list(dict.fromkeys(case.family for case in all_cases()))
    return [f for f in families if any(row[f] for row in rows.values())], rows


def as_objects(kills: Iterable[Kill]) -> list[dict[str, Any]]:
    """Returns an object for each pair of mistake and case that kills it."""
    return [
        {
            "id": kill.mistake,
            "operation": kill.operation,
            "case": kill.case,
            "family": kill.family,
            "names": list(kill.names),
        }
        for kill in kills
    ]
