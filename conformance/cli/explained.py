"""Explanations of checks, cases, clauses, mistakes, implementations, and the words of output."""

from collections.abc import Sequence
from difflib import get_close_matches

from conformance.cli.terms import meaning, meanings
from conformance.compare.catalogue import all_mistakes
from conformance.compare.mistakes import PortingMistake
from conformance.core.clauses import Clause, all_clauses
from conformance.core.implementations import Implementation
from conformance.core.mistake import Mistake
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase
from conformance.core.versions import Span
from conformance.run.adapters import gather
from conformance.run.known import Known
from conformance.run.plan import known_differences
from conformance.run.results import Run
from conformance.subjects import all_cases


def explain(*names: str, adapters: Sequence[str] = ()) -> str:
    """Explains ids, as `conformance list` prints them; a case also by its bare name.

    >>> print(explain("no-transpose").splitlines()[0])
    no-transpose, a known mistake of channel_shuffle

    Raises:
        UsageError: if nothing has one of these ids; the message names the nearest.
    """
    implementations, differences = gather(adapters), known_differences()
    return "\n\n".join(_explained(name, implementations, differences, adapters) for name in names)


def _explained(
    name: str,
    implementations: Sequence[Implementation],
    differences: Sequence[Known],
    adapters: Sequence[str],
) -> str:
    for clause in all_clauses():
        if clause.id == name:
            return _clause(clause)
    for mistake in all_mistakes():
        if mistake.name == name:
            return _mistake(mistake)
    for entry in differences:
        if name == entry.mistake:
            return _known(entry)
    for case in all_cases():
        if name in (case.id, case.name):
            return _case(case)
    for declared in implementations:
        if declared.id == name:
            return _implementation(declared)
    if words := meaning(name):
        return words
    owner, at, rest = name.partition("@")
    device, _, case_name = rest.partition(":")
    owner_declared = next(
        (implementation for implementation in implementations if implementation.id == owner), None
    )
    asked_case = next(
        (c for c in all_cases() if c.name == case_name and owner.startswith(c.operation)), None
    )
    if at and owner_declared is not None and asked_case is not None:
        rerun = Run({"environment": {"adapters": list(adapters)}}, ()).rerun(name)
        return (
            f"{name}, a check on {device}\n\n{_implementation(owner_declared)}"
            f"\n\n{_case(asked_case)}\n\nTo run it:\n    {rerun}"
        )
    names = [
        *(c.id for c in all_clauses()),
        *(m.name for m in all_mistakes()),
        *(entry.mistake for entry in differences if entry.mistake),
        *(c.name for c in all_cases()),
        *(i.id for i in implementations),
        *meanings(),
    ]
    written = {known.lower(): known for known in names}
    near = get_close_matches((case_name or name).lower(), written, n=3, cutoff=0.3)
    nearest = ", ".join(written[each] for each in near) or "nothing"
    raise UsageError(f"nothing is called {name!r}; nearest: {nearest}")


def photographs_among(names: Sequence[str]) -> AnyCase:
    """Returns the first of these cases that shuffles photographs.

    Raises:
        UsageError: if none does.
    """
    for case in all_cases():
        question = case.question
        drawable = case.kind == "shuffle" and (question.fill, question.dtype) == (
            "photographs",
            "u8",
        )
        if drawable and (case.id in names or case.name in names):
            return case
    raise UsageError(f"{', '.join(names)} has no photographs to draw; photographs-u8 has")


def _case(case: AnyCase) -> str:
    lines = [f"{case.id}, a case of the family {case.family}", f"    {case.about}", ""]
    lines += [f"    {key} = {value}" for key, value in case.parameters().items()]
    if case.refusal is not None:
        words = f" with the words {case.refusal.words!r}" if case.refusal.words else ""
        lines.append(f"    right is a {case.refusal.type}{words}; without the promise `native`,")
        lines.append("    any error will do")
    if case.promises:
        lines.append(f"    asked of implementations that promise {' or '.join(case.promises)}")
    if case.frameworks:
        lines.append(f"    asked of {' and '.join(case.frameworks)}")
    if case.asked_of:
        lines.append(f"    asked of {', '.join(case.asked_of)}")
    if case.against:
        lines.append(f"    made against {' and '.join(case.against)}")
    if case.on_the_fly:
        lines.append("    made when it is asked, and compared by hash")
    words_of = {clause.id: clause.words for clause in all_clauses()}
    return "\n".join([*lines, "", *(f"    {c}: {words_of[c]}" for c in case.clauses)])


def _clause(clause: Clause) -> str:
    cases = [case.name for case in all_cases() if clause.id in case.clauses]
    shown = ", ".join(cases[:6]) + (f" and {len(cases) - 6} more" if len(cases) > 6 else "")
    lines = [
        f"{clause.id}, a clause of {clause.operation}: {clause.verdict}",
        f"    {clause.words}",
    ]
    lines.append(f"    source: {clause.source}; {clause.where}")
    if versions := Span(clause.since, clause.until).words:
        lines.append(f"    holds {versions}")
    if clause.article:
        lines += [f"    the article: {clause.article}", f"    in English: {clause.article_en}"]
    if clause.evidence:
        lines.append(f"    evidence: {clause.evidence}")
    return "\n".join([*lines, f"    asked by {len(cases)} cases: {shown}"])


def _known(entry: Known) -> str:
    lines = [f"{entry.mistake}, a known difference of code that uses {entry.adapters}"]
    lines += [f"    {entry.words}", f"    reference: {entry.reference}, since {entry.dated}"]
    return "\n".join([*lines, f"    may be so in {', '.join(entry.checks)}; it does not count"])


def _mistake(mistake: Mistake[object] | PortingMistake) -> str:
    lines = [f"{mistake.name}, a known mistake of {mistake.operation}"]
    lines += [f"    what was done: {mistake.done}", f"    what to write instead: {mistake.advice}"]
    return "\n".join([*lines, *([f"    seen: {mistake.seen}"] if mistake.seen else [])])


def _implementation(declared: Implementation) -> str:
    layout = f", channels last: {declared.layout}" if declared.layout else ""
    return (
        f"{declared.id}, an implementation\n    framework {declared.framework}, "
        f"promise {declared.held_to}{layout}\n    {declared.origin}:{declared.line}"
    )
