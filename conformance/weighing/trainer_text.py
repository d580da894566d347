"""The verdicts on trainers on a terminal: the verdict first, and one fact a line."""

from collections.abc import Iterator, Sequence

from conformance.weighing.mistakes import words
from conformance.weighing.trainer import Part, TrainerVerdict

_SIGNS = {"conforms": "✓", "fail": "✗", "error": "✗", "not-exercised": "–", "unsupported": "–"}
_WINDOWS = {
    "full": "full windows",
    "last": "last window",
    "uneven": "steps that not all ranks took",
}


def lines(trainer: str, verdict: TrainerVerdict) -> Iterator[str]:
    """Yield what is told of one question to one trainer."""
    question = verdict.question
    asked = f"W = {question.world}, K = {question.accumulate}, {_counts(question.lengths)}"
    names = [
        (" and " if part.are_facts else " or ").join(part.names)
        for part in verdict.parts
        if part.names
    ]
    title = "; ".join(dict.fromkeys(names)) or verdict.status
    if verdict.status == "fail" and not names:
        title = "another formula than promised"
    yield f"{_SIGNS[verdict.status]} {trainer}, {question.name} ({asked}): {title}"
    if verdict.problem:
        yield f"    {verdict.problem}"
    for part in verdict.parts:
        yield from _part(part, verdict.promise)
    for fact in verdict.samples:
        yield f"    {fact}"


def _counts(lengths: Sequence[int]) -> str:
    low, high = min(lengths), max(lengths)
    items = str(low) if low == high else f"{low} to {high}"
    return f"{len(lengths)} samples of {items} items"


def _part(part: Part, promise: str) -> Iterator[str]:
    where = _WINDOWS[part.kind]
    if part.status == "conforms":
        yield f"    {where}: {part.formula}, as promised"
        return
    told = f"    {where}: {part.formula or part.status}"
    yield f"{told} where {promise} is promised" if part.status == "fail" else told
    yield from (f"      {line}" for line in part.lines)
    for name in part.names:
        if words(name).done and not part.are_facts:
            yield f"      {words(name).done}"
        if words(name).advice:
            yield f"      write: {words(name).advice}"


def status_of(verdicts: Sequence[TrainerVerdict]) -> int:
    """Return the exit status: 0 all as promised, 1 not, 3 nothing known of some."""
    statuses = {verdict.status for verdict in verdicts}
    if statuses & {"fail", "error"}:
        return 1
    return 0 if "conforms" in statuses and "not-exercised" not in statuses else 3
