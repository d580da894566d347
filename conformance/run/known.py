"""Known differences: dated entries of `impls/known.toml`, with an upstream reference.

Most are about one implementation, which must go on to differ. An entry with `adapters` is about
code from outside that uses one framework in its plainest way: it may differ so, and need not.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from conformance.core.checks import Check
from conformance.core.implementations import is_outside
from conformance.core.outcomes import UsageError
from conformance.core.verdict import Verdict


@dataclass(frozen=True)
class Known:
    """An entry: the checks that differ, the date of the entry, what differs, and the issue.

    Attributes:
        checks: shell globs over check ids.
        seen: what the entry excuses, and nothing else: `STATUS PATTERN`, where the pattern is the
            name of a mistake or a shell glob over the reason.
        dated: when it was seen.
        words: what differs.
        reference: the upstream issue.
        since, until: the first and the last version that differs, as in `torch 2.12`; empty where
            all supported versions differ.
        adapters: the framework of the implementations from outside that the entry is about; empty
            where it is about the suite's own.
        mistake: the name of the difference, where it has one that a single answer cannot show.
    """

    checks: tuple[str, ...]
    seen: tuple[str, ...]
    dated: date
    words: str
    reference: str
    since: str = ""
    until: str = ""
    adapters: str = ""
    mistake: str = ""

    def matches(self, check: Check) -> bool:
        """Says whether the entry is about this check."""
        of = check.implementation
        if self.adapters and not (is_outside(of) and of.framework == self.adapters):
            return False
        return any(fnmatchcase(check.id, glob) for glob in self.checks)

    def excuses(self, verdict: Verdict) -> bool:
        """Says whether this is the difference on record, and not another under the same checks.

        >>> entry = Known(("*",), ("fail not-divided",), date(2026, 1, 1), "", "")
        >>> entry.excuses(Verdict("fail", mistake="not-divided")), entry.excuses(Verdict("crash"))
        (True, False)
        """
        for sign in self.seen:
            status, _, pattern = sign.partition(" ")
            if status == verdict.status and (
                pattern == verdict.mistake or fnmatchcase(verdict.reason, pattern)
            ):
                return True
        return False


def read(path: Path) -> tuple[Known, ...]:
    """Reads the entries of a file; without a file there are none.

    Raises:
        UsageError: if the file is not TOML of this form; the message names the file.
    """
    if not path.is_file():
        return ()
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("known", [])
        return tuple(
            Known(**{**entry, **{key: _several(entry[key]) for key in ("checks", "seen")}})
            for entry in entries
        )
    except (tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: {error}") from error


def entry_for(check: Check, entries: Sequence[Known]) -> Known | None:
    """Returns the first entry that is about a check, or None."""
    return next((entry for entry in entries if entry.matches(check)), None)


def _several(globs: str | list[str]) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)
