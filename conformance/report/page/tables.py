"""The data of the page: every text once, and a check as numbers that point at them."""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from conformance.core.clauses import all_clauses
from conformance.core.verdict import NOT_CONFORMING, STATUSES
from conformance.report.comparison import labels
from conformance.report.facts import sentences_of
from conformance.report.page import described, remade_answers
from conformance.report.page.sources import Sources
from conformance.report.page.status_signs import SIGNS, WORDS
from conformance.run.results import Record, Run
from conformance.subjects import all_cases, catalogue

HEX = 12  # Digits of an answer's SHA-256 that a reader is shown.

Item = TypeVar("Item", bound=Hashable)


class Index(Generic[Item]):
    """Items by the order in which they were met; each is kept once."""

    def __init__(self) -> None:
        """Begins without items."""
        self._places: dict[Item, int] = {}

    def __call__(self, item: Item) -> int:
        """Returns the place of an item."""
        return self._places.setdefault(item, len(self._places))

    @property
    def items(self) -> list[Item]:
        """The items, each at its place."""
        return list(self._places)


def of(run: Run) -> dict[str, Any]:
    """Returns everything that the script of the page needs.

    `checks` holds columns, one entry a check: owner, case, status, reason, mistakes, error ÷ bound,
    seconds, answer. `ids` has the ids that are not made of their parts as ours are, `evidence` what
    was read off wrong answers: sentences, as their places among the reasons.
    """
    owners: Index[tuple[str, str, str, str, str]] = Index()
    cases: Index[tuple[str, str]] = Index()
    reasons: Index[str] = Index()
    mistakes: Index[tuple[str | None, tuple[str, ...]]] = Index()
    answers: Index[str | None] = Index()
    clauses_of: dict[tuple[str, str], tuple[str, ...]] = {}
    columns: list[tuple[Any, ...]] = []
    several = len(run.runs) > 1
    ids: dict[int, str] = {}
    evidence: dict[int, list[int]] = {}
    for number, record in enumerate(run.records):
        case = (record.operation, record.case)
        clauses_of.setdefault(case, record.clauses)
        columns.append(
            (
                owners(owner_of(record, record.run if several else "")),
                cases(case),
                STATUSES.index(record.status),
                reasons(record.reason),
                mistakes((record.mistake, record.fits)),
                number_of(record.error_over_bound),
                number_of(record.seconds),
                answers(record.answer),
            )
        )
        if record.id != f"{record.owner}:{record.case}":
            ids[number] = record.id
        if not record.conforms and (sentences := sentences_of(record)):
            evidence[number] = [reasons(sentence) for sentence in sentences]
    goldens = described.goldens_of(run)
    by_id = {(case.operation, case.name): case for case in all_cases()}
    names = ("owner", "case", "status", "reason", "mistake", "ratio", "seconds", "answer")
    rows = zip(*columns, strict=True) if columns else ([] for _ in names)
    return {
        "statuses": [
            {"name": name, "sign": SIGNS[name], "words": WORDS[name], "bad": name in NOT_CONFORMING}
            for name in STATUSES
        ],
        "runs": labels(run),
        "rerun": run.rerun(remade_answers.PLACE).partition(remade_answers.PLACE),
        "owners": [dict(zip(OWNER, owner, strict=True)) for owner in owners.items],
        "implementations": Sources(run).of({owner[:2] for owner in owners.items}),
        "cases": [
            described.of_case(key, by_id.get(key), clauses_of[key], goldens) for key in cases.items
        ],
        "reasons": reasons.items,
        "mistakes": [[name, list(fits)] for name, fits in mistakes.items],
        "answers": [answer and answer[:HEX] for answer in answers.items],
        "checks": {name: list(column) for name, column in zip(names, rows, strict=True)},
        "ids": ids,
        "evidence": evidence,
        "remade": remade_answers.remade(run, by_id, goldens),
        "goldens": goldens is not None,
        "clauses": _clauses(clauses_of.values()),
        "catalogue": {
            mistake.name: [mistake.done, mistake.advice, mistake.seen] for mistake in catalogue()
        },
    }


OWNER = ("operation", "implementation", "device", "run", "promise")


def owner_of(record: Record, run: str) -> tuple[str, str, str, str, str]:
    """Returns whose check this is: operation, implementation, device, run (of several), promise."""
    return record.operation, record.implementation, record.device, run, record.promise


def number_of(value: float | None) -> float | str | None:
    """Rounds a number to three digits, or names one that JSON does not have.

    >>> number_of(0.123456), number_of(float("nan")), number_of(10**400), number_of(None)
    (0.123, 'nan', 'inf', None)
    """
    if value is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        return "inf"
    return float(f"{number:.3g}") if math.isfinite(number) else str(number)


def _clauses(cited: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    """Returns the words and the source of each clause that a check cites."""
    used = {clause for clauses in cited for clause in clauses}
    return {
        clause.id: [
            clause.words,
            f"{clause.source}: {clause.where}",
            clause.verdict,
            clause.article,
            clause.article_en,
        ]
        for clause in all_clauses()
        if clause.id in used
    }
