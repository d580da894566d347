"""The data of the page: every text once, and a check as numbers that point at them."""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from conformance.core.clauses import all_clauses
from conformance.core.verdict import NOT_CONFORMING, STATUSES
from conformance.report.comparison import labels
from conformance.report.page import remade, told
from conformance.report.page.signs import SIGNS, WORDS
from conformance.report.page.sources import Sources
from conformance.run.results import Record, Run
from conformance.subjects import all_cases, catalogue

HEX = 12  # digits of an answer's SHA-256 that a reader is shown

Item = TypeVar("Item", bound=Hashable)


class Index(Generic[Item]):
    """Items by the order in which they were met; each is kept once."""

    def __init__(self) -> None:
        self._places: dict[Item, int] = {}

    def __call__(self, item: Item) -> int:
        """The place of an item."""
        return self._places.setdefault(item, len(self._places))

    @property
    def items(self) -> list[Item]:
        """The items, each at its place."""
        return list(self._places)


def of(run: Run) -> dict[str, Any]:
    """Everything the script of the page needs.

    `checks` holds columns, one entry a check: owner, case, status, reason, mistakes, error ÷ bound,
    seconds, answer. `ids` has the ids that are not made of their parts as ours are.
    """
    owners: Index[tuple[str, str, str, str, str]] = Index()
    cases: Index[tuple[str, str]] = Index()
    reasons: Index[str] = Index()
    mistakes: Index[tuple[str | None, tuple[str, ...]]] = Index()
    answers: Index[str | None] = Index()
    clauses_of: dict[tuple[str, str], tuple[str, ...]] = {}
    columns: list[tuple[Any, ...]] = []
    ids: dict[int, str] = {}
    for number, record in enumerate(run.records):
        case = (record.operation, record.case)
        clauses_of.setdefault(case, record.clauses)
        columns.append(
            (
                owners(owner_of(record)),
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
    goldens = told.goldens_of(run)
    by_id = {(case.operation, case.name): case for case in all_cases()}
    names = ("owner", "case", "status", "reason", "mistake", "ratio", "seconds", "answer")
    rows = zip(*columns, strict=True) if columns else ([] for _ in names)
    return {
        "statuses": [
            {"name": name, "sign": SIGNS[name], "words": WORDS[name], "bad": name in NOT_CONFORMING}
            for name in STATUSES
        ],
        "runs": labels(run),
        "rerun": run.rerun(remade.PLACE).partition(remade.PLACE),
        "owners": [dict(zip(OWNER, owner, strict=True)) for owner in owners.items],
        "implementations": Sources(run).of({owner[:2] for owner in owners.items}),
        "cases": [
            told.of_case(key, by_id.get(key), clauses_of[key], goldens) for key in cases.items
        ],
        "reasons": reasons.items,
        "mistakes": [[name, list(fits)] for name, fits in mistakes.items],
        "answers": [answer and answer[:HEX] for answer in answers.items],
        "checks": {name: list(column) for name, column in zip(names, rows, strict=True)},
        "ids": ids,
        "given": remade.given(run, by_id, goldens),
        "goldens": goldens is not None,
        "clauses": _clauses(clauses_of.values()),
        "catalogue": {
            mistake.name: [mistake.done, mistake.advice, mistake.seen] for mistake in catalogue()
        },
    }


OWNER = ("operation", "implementation", "device", "run", "promise")


def owner_of(record: Record) -> tuple[str, str, str, str, str]:
    """Whose check this is: operation, implementation, device, run and promise."""
    return (
        record.operation,
        record.implementation,
        record.device,
        record.run,
        record.promise,
    )


def number_of(value: float | None) -> float | str | None:
    """A number of three digits that JSON has, or the name of one that it has not.

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
    """The words and the source of each clause that a check cites."""
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
