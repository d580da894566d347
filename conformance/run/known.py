"""Known differences: dated entries of `impls/known.toml`, with an upstream reference."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from conformance.core.outcomes import UsageError


@dataclass(frozen=True)
class Known:
    """An entry: the checks that differ, the date of the entry, what differs, and the issue.

    `checks` are shell globs over check ids. `since` and `until` are the first and the last version
    that differs, as in `torch 2.12`; empty where all supported versions differ.
    """

    checks: tuple[str, ...]
    dated: date
    words: str
    reference: str
    since: str = ""
    until: str = ""


def read(path: Path) -> tuple[Known, ...]:
    """Reads the entries of a file; without a file there are none.

    Raises:
        UsageError: if the file is not TOML of this form; the message names the file.
    """
    if not path.is_file():
        return ()
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("known", [])
        return tuple(Known(**{**entry, "checks": _several(entry["checks"])}) for entry in entries)
    except (tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: {error}") from error


def entry_for(check_id: str, entries: Sequence[Known]) -> Known | None:
    """Returns the first entry that matches a check, or None."""
    return next((e for e in entries if any(fnmatchcase(check_id, glob) for glob in e.checks)), None)


def _several(globs: str | list[str]) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)
