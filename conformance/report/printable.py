"""A run whose every text may be printed: a line of bounded length, which each form then quotes."""

from functools import cache

from conformance.core.outside_words import each_text, one_line
from conformance.run.results import Record, Run


def printable(run: Run) -> Run:
    """Returns the run with its texts as lines; results.jsonl alone has them as they were."""
    line = cache(one_line)  # Most texts of a run are those of many checks.
    header = {name: each_text(value, line) for name, value in run.header.items()}
    if "cases" in header:
        # A case is part of the line that asks it again, which is of use only when whole.
        header["cases"] = each_text(run.header["cases"], _whole)
    records = tuple(Record(**each_text(vars(record), line)) for record in run.records)
    return Run(header, records, run.footer)


def _whole(text: str) -> str:
    return one_line(text, None)
