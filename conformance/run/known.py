"""Known differences: dated entries of `impls/known.toml`, with an upstream reference.

Most are about one implementation, which must go on to differ. An entry with `adapters` is about
code from outside that uses one framework in its plainest way: it may differ so, and need not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from conformance.core.checks import Check
from conformance.core.implementations import is_outside
from conformance.core.outside_files import read_entries
from conformance.core.verdict import Verdict
from conformance.core.versions import span_of

# What an entry excuses: a status that does not conform, a blank, and a pattern.
_Sign = Annotated[str, msgspec.Meta(pattern=r"^(fail|error|crash|timeout) ")]

_Words = Annotated[str, msgspec.Meta(min_length=1)]


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
        file: where the entry stands.
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
    file: str = "impls/known.toml"

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


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    checks: str | list[str]
    seen: _Sign | list[_Sign]
    dated: date
    words: _Words
    reference: _Words
    since: str = ""
    until: str = ""
    adapters: Literal["", "torch", "jax", "numpy"] = ""
    mistake: str = ""


def read(path: Path, name: str = "") -> tuple[Known, ...]:
    """Reads the entries of a file, which this name or its path stands for; none without a file.

    Raises:
        UsageError: if the file is not TOML of this form; the message names the place.
    """
    if not path.is_file():
        return ()
    return tuple(
        Known(
            _several(entry.checks),
            _several(entry.seen),
            entry.dated,
            entry.words,
            entry.reference,
            span.since,
            span.until,
            entry.adapters,
            entry.mistake,
            name or str(path),
        )
        for place, entry in read_entries(path, "known", _Entry)
        for span in [span_of(entry.since, entry.until, place)]
    )


def entry_for(check: Check, entries: Sequence[Known], verdict: Verdict) -> Known | None:
    """Returns the entry that excuses a verdict, else the first that is about its check, or None."""
    about = [entry for entry in entries if entry.matches(check)]
    excusing = (entry for entry in about if entry.excuses(verdict))
    return next(excusing, about[0] if about else None)


def _several(globs: str | list[str]) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)
