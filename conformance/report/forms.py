"""The files beside results.jsonl, each made of a summary: a new form is a line in `FORMS`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from conformance.core.report_folder import ReportFolder
from conformance.report import badge, junit, page, spreadsheet, step_summary
from conformance.report.comparison import legend, tally
from conformance.report.summary import Summary


def agreement_text(summary: Summary) -> str:
    """Makes `agreement.txt`: a line a case; of several places, a line a check that differs."""
    lines = [agreement.words for agreement in summary.agreements]
    if summary.comparisons:
        lines += ["", *legend(summary.run), tally(summary.comparisons), ""]
        differing = (c for c in summary.comparisons if c.kind not in ("same bits", "alone"))
        lines += [comparison.words for comparison in differing]
    return "\n".join(lines) + "\n"


FORMS: Mapping[str, Callable[[Summary], str]] = {
    "agreement.txt": agreement_text,
    "summary.md": step_summary.text,
    "checks.csv": spreadsheet.text,
    "junit.xml": junit.text,
    "badge.svg": badge.text,
}


def write(summary: Summary, folder: ReportFolder) -> Path | None:
    """Writes every form into the folder.

    Returns:
        Where the page is; None where it is not written, as where Jinja2 is not installed.
    """
    for name, form in FORMS.items():
        folder.write(name, form(summary))
    is_written = page.is_possible() and folder.write(page.NAME, page.text(summary))
    return folder.path / page.NAME if is_written else None
