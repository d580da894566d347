"""What did not conform in a run, to be asked again; the run's own verdict stays as it was.

The answers are written to a folder inside the run's: a part that conforms is no run that does, and
what failed may be mended at the cost of what did not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from conformance.core.checks import Pattern
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import LAST_FAILED
from conformance.run.results import FILE, Record, Run, read


@dataclass(frozen=True)
class LastFailed:
    """The checks to ask again, and how they were asked.

    Attributes:
        folder: where their results go.
        checks: the ids of the checks.
        adapters: the run's adapters.
        cases: the run's cases from outside, as they were given.
        entry: what the header of the new run says of the old one.
    """

    folder: Path
    checks: tuple[str, ...]
    adapters: tuple[str, ...]
    cases: tuple[str, ...]
    entry: Mapping[str, Any]


def last_failed(folder: Path, patterns: Sequence[str] = ()) -> LastFailed:
    """Reads what did not conform in the run of a folder, and has not conformed since.

    Args:
        folder: the run's report folder.
        patterns: which of these checks are meant; all, if none.

    Raises:
        UsageError: if the folder holds no run, or nothing is left to ask again.
    """
    if not (folder / FILE).exists():
        raise UsageError(f"--last-failed: there is no run in {folder}; leave the option out")
    whole = read(folder)
    inside = folder / LAST_FAILED
    failed = [record for record in whole.records if not record.conforms]
    if not failed:
        what = (
            "everything conforms" if whole.footer else "nothing failed before the run was cut short"
        )
        raise UsageError(f"--last-failed: {what} in {folder}; leave the option out")
    mended = _mended_since(whole, inside)
    left = [record for record in failed if record.id not in mended]
    if not left:
        raise UsageError(
            f"--last-failed: what failed in {folder} conforms by now; leave the option out, and "
            "all is asked again"
        )
    chosen = tuple(record.id for record in left if not patterns or _is_meant(record, patterns))
    if not chosen:
        raise UsageError(f"--last-failed: nothing that failed in {folder} is {patterns[0]!r}")
    return LastFailed(
        inside,
        chosen,
        tuple(whole.header.get("environment", {}).get("adapters", ())),
        tuple(whole.header.get("cases", {}).values()),
        {
            "of": whole.header.get("checks", len(whole.records)),
            "started": whole.header.get("started", ""),
            "mended": sorted(mended),
        },
    )


def _mended_since(whole: Run, inside: Path) -> set[str]:
    """Returns the checks that conformed when they were asked again, of this run and no other."""
    if not (inside / FILE).is_file():
        return set()
    again = read(inside)
    entry = again.header.get("last_failed", {})
    if entry.get("started") != whole.header.get("started"):
        return set()
    return {*entry["mended"], *(record.id for record in again.records if record.conforms)}


def _is_meant(record: Record, patterns: Sequence[str]) -> bool:
    parts = (record.operation, record.implementation, record.device, record.case)
    return any(
        all(
            fnmatchcase(part, glob)
            for part, glob in zip(parts, vars(Pattern.parse(text)).values(), strict=True)
        )
        for text in patterns
    )
