"""What holds from one version of a package on, or up to one: data, and never an `if` in the code.

An implementation says so by `needs` in its decorator. Clauses say so by `since` and `until`, and so
do the entries of `impls/known.toml`; `impls/versions.toml` says what single cases are made of. Each
names a package and a version, as in `since = "jax 0.8.2"`; both ends are included.
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from operator import gt, lt
from pathlib import Path

import msgspec
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from conformance.core.checks import Check
from conformance.core.clauses import all_clauses
from conformance.core.implementations import own_folder
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import read_entries

FILE = "versions.toml"


@dataclass(frozen=True)
class Span:
    """Versions of packages, from the first to the last; empty where there is no such end.

    >>> Span(since="jax 0.8.2").words
    'since jax 0.8.2'
    """

    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        for end in (self.since, self.until):
            if end:
                _parsed(end)

    @property
    def words(self) -> str:
        """The ends that there are."""
        ends = {"since": self.since, "until": self.until}
        return ", ".join(f"{name} {end}" for name, end in ends.items() if end)

    @property
    def outside(self) -> str:
        """The installed package whose version is not among these; empty where there is none.

        A package that is not installed is not outside: that is said elsewhere.
        """
        for end, is_outside in ((self.since, lt), (self.until, gt)):
            if end:
                package, version = _parsed(end)
                here = installed(package)
                if here is not None and is_outside(here, version):
                    return f"{package} {here}"
        return ""


@dataclass(frozen=True)
class Need:
    """What these checks are made of, and the versions that have it; `checks` are shell globs."""

    checks: tuple[str, ...]
    words: str
    span: Span


def refusal(check: Check) -> str:
    """Why a check cannot be asked with the versions that are here; empty where it can."""
    for requirement in map(Requirement, check.implementation.needs):
        version = installed(requirement.name)
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            return f"needs {requirement}; here is {requirement.name} {version}"
    for need in needs():
        here = need.span.outside
        if here and any(fnmatchcase(check.id, glob) for glob in need.checks):
            return f"{need.words} ({need.span.words}); here is {here}"
    for clause in check.case.clauses:
        span = _spans().get(clause)
        if span is not None and (here := span.outside):
            return f"{clause} holds {span.words}; here is {here}"
    return ""


@cache
def needs() -> tuple[Need, ...]:
    """The entries of impls/versions.toml."""
    return read(own_folder() / FILE)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    checks: list[str]
    words: str
    since: str = ""
    until: str = ""


def read(path: Path) -> tuple[Need, ...]:
    """The entries of a file.

    Raises:
        UsageError: naming the place, if it is not TOML of this form.
    """
    return tuple(
        Need(tuple(entry.checks), entry.words, span_of(entry.since, entry.until, place))
        for place, entry in read_entries(path, "needs", _Entry)
    )


def span_of(since: str, until: str, place: str) -> Span:
    """Returns the span of an entry.

    Raises:
        UsageError: naming the place, if an end is no package and version.
    """
    try:
        return Span(since, until)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


@cache
def installed(package: str) -> Version | None:
    """The version of a package, without what its builder added; None where it is not here."""
    try:
        return Version(Version(importlib.metadata.version(package)).public)
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return None


@cache
def _spans() -> Mapping[str, Span]:
    spans = {clause.id: Span(clause.since, clause.until) for clause in all_clauses()}
    return {name: span for name, span in spans.items() if span.words}


def _parsed(end: str) -> tuple[str, Version]:
    try:
        package, version = end.split()
        return package, Version(version)
    except ValueError as error:  # InvalidVersion is one
        raise UsageError(f"{end!r} is no package and version, as in 'jax 0.8.2'") from error
