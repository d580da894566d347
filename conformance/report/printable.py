"""A run whose every text may be printed: a line of bounded length, which each form then quotes."""

from dataclasses import fields, replace
from typing import Any

from conformance.core.outside_words import each_text, one_line
from conformance.run.results import Record, Run


def printable(run: Run) -> Run:
    """Returns the run with its texts as lines; results.jsonl alone has them as they were."""
    header = {name: each_text(value, one_line) for name, value in run.header.items()}
    if "cases" in header:
        # A case is part of the line that asks it again, which is of use only when whole.
        header["cases"] = each_text(run.header["cases"], _whole)
    return Run(header, tuple(map(_record, run.records)), run.footer)


def _record(record: Record) -> Record:
    changed: dict[str, Any] = {
        field.name: each_text(getattr(record, field.name), one_line) for field in fields(record)
    }
    return replace(record, **changed)


def _whole(text: str) -> str:
    return one_line(text, None)
