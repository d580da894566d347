"""The files beside results.jsonl, each made of a run alone: a new form is a line in `FORMS`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from conformance.report import agreement, badge, junit, page, spreadsheet, step_summary
from conformance.run.results import Run

FORMS: Mapping[str, Callable[[Run], str]] = {
    "agreement.txt": agreement.text,
    "summary.md": step_summary.text,
    "checks.csv": spreadsheet.text,
    "junit.xml": junit.text,
    "badge.svg": badge.text,
}


def write(run: Run, folder: Path) -> Path | None:
    """Put every form into the folder.

    Returns:
        Where the page is; None where Jinja2, which it is made with, is not installed.
    """
    for name, form in FORMS.items():
        _put(form(run), folder / name)
    shown = folder / page.NAME
    if not page.is_possible():
        shown.unlink(missing_ok=True)  # that of another run would be taken for this one's
        return None
    _put(page.text(run), shown)
    return shown


def _put(text: str, file: Path) -> None:
    # A lone surrogate, of an exception's message, has no place in UTF-8.
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
