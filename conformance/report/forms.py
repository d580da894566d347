"""The files beside results.jsonl, each made of a summary: a new form is a line in `FORMS`."""

from collections.abc import Callable, Mapping
from pathlib import Path

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


def write(summary: Summary, folder: Path) -> Path | None:
    """Writes every form into the folder.

    Returns:
        Where the page is; None where Jinja2, which makes it, is not installed.
    """
    for name, form in FORMS.items():
        _write(form(summary), folder / name)
    file = folder / page.NAME
    if not page.is_possible():
        file.unlink(missing_ok=True)  # The page of another run would be taken for that of this run.
        return None
    _write(page.text(summary), file)
    return file


def _write(text: str, file: Path) -> None:
    # A lone surrogate, of an exception's message, has no place in UTF-8.
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
