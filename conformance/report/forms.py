"""The files beside results.jsonl, each made of a run alone: a new form is a line in `FORMS`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from conformance.report import agreement, step_summary
from conformance.results import Run

FORMS: Mapping[str, Callable[[Run], str]] = {
    "agreement.txt": agreement.text,
    "summary.md": step_summary.text,
}


def write(run: Run, folder: Path) -> None:
    """Put every form into the folder."""
    for name, form in FORMS.items():
        (folder / name).write_text(form(run), encoding="utf-8", errors="backslashreplace")
