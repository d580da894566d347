import pytest
from click.testing import CliRunner

from conformance.cli import commands
from conformance.core import report_folder
from conformance.core.report_folder import IGNORED, LOCK, ReportFolder
from conformance.report import forms, page
from conformance.report.summary import summarize
from conformance.run.results import Run
from tests.report import hostile
from tests.report.records import ENVIRONMENT, record, results

RUN = summarize(
    Run({"checks": 1, "environment": ENVIRONMENT}, (record("a", "x", "1", reason="\udc80"),), {})
)

REPORTS = {*forms.FORMS, page.NAME}


def write(summary, folder):
    """A report as the command line writes it."""
    with ReportFolder(folder) as opened:
        opened.clear()
        page_file = forms.write(summary, opened)
    assert not opened.shortfall
    return page_file


def names_in(folder):
    return {path.name for path in folder.iterdir()} - {LOCK, IGNORED}


def test_a_run_that_begins_knows_every_form_that_an_older_run_left():
    assert set(report_folder.REPORTS) == REPORTS


def test_every_form_is_written(tmp_path):
    assert write(RUN, tmp_path) == tmp_path / page.NAME
    assert names_in(tmp_path) == REPORTS


def test_a_folder_that_has_a_report_gets_the_new_one(tmp_path):
    write(summarize(hostile.run()), tmp_path)
    write(RUN, tmp_path)
    assert "hacked" not in (tmp_path / page.NAME).read_text()


def test_without_jinja2_there_is_no_page_and_none_of_an_older_run(tmp_path, monkeypatch):
    write(RUN, tmp_path)
    monkeypatch.setattr(page, "is_possible", lambda: False)
    assert write(RUN, tmp_path) is None
    assert names_in(tmp_path) == set(forms.FORMS)


@pytest.mark.parametrize("finished", [True, False])
def test_hostile_names_break_no_form(tmp_path, finished):
    write(summarize(hostile.run(finished)), tmp_path)
    assert all((tmp_path / name).stat().st_size for name in (*forms.FORMS, page.NAME))


def report(tmp_path, *options):
    file = results(tmp_path / "run", [record("a", "x", "1")])
    call = ["report", str(file), "--to", str(tmp_path / "to"), *options]
    return CliRunner().invoke(commands, call, catch_exceptions=False)


def test_the_last_line_of_a_report_is_where_the_page_is_and_open_opens_it(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("click.launch", opened.append)
    assert report(tmp_path).output.splitlines()[-1] == str(tmp_path / "to" / page.NAME)
    assert opened == []
    report(tmp_path, "--open")
    assert opened == [str(tmp_path / "to" / page.NAME)]


def test_without_jinja2_the_last_line_says_what_to_install(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("click.launch", opened.append)
    monkeypatch.setattr(page, "is_possible", lambda: False)
    done = report(tmp_path, "--open")
    assert done.exit_code == 0
    assert "pip install jinja2" in done.output.splitlines()[-1]
    assert opened == []
