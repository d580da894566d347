import csv
import io

from conformance.report.spreadsheet import COLUMNS, text
from conformance.report.summary import summarize
from conformance.run.results import Run
from tests.report import hostile
from tests.report.records import record


def rows(run):
    return list(csv.DictReader(io.StringIO(text(summarize(run)), newline="")))


def test_every_check_is_a_row():
    found = rows(Run({}, (record("a", "x", "1", reason='a, "b"\nc', error_over_bound=0.25),), {}))
    assert list(found[0]) == list(COLUMNS)
    assert found[0]["reason"] == 'a, "b" c'
    assert found[0]["error_over_bound"] == "0.25"
    assert found[0]["id"] == "channel_shuffle/a@cpu:x"


def test_nothing_in_it_is_a_formula():
    run = hostile.run()
    assert len(rows(run)) == len(run.records)
    assert all(not value.startswith("=") for row in rows(run) for value in row.values())
    assert any(value.startswith("'=cmd") for row in rows(run) for value in row.values())
