"""CSV for a spreadsheet: one row a check."""

import csv
import io

from conformance.report.summary import Summary

COLUMNS = (
    "id", "operation", "implementation", "device", "case", "status", "mistake", "error_over_bound",
    "seconds", "clauses", "promise", "run", "reason",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def text(summary: Summary) -> str:
    """Makes `checks.csv`, with a header; it quotes what a spreadsheet would run as a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in summary.run.records:
        fields = {**vars(record), "clauses": " ".join(record.clauses)}
        writer.writerow(_cell(fields[name]) for name in COLUMNS)
    return stream.getvalue()


def _cell(value: object) -> object:
    """Returns what stands in a cell.

    >>> _cell("=1+1"), _cell(-0.5), _cell(None)
    ("'=1+1", -0.5, '')
    """
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
