"""The form of a results file, as msgspec checks it: what stands in a header, a check, a footer.

Fields that this version does not know are allowed everywhere, and are handed on.
"""

from typing import Annotated, TypedDict

import msgspec

from conformance.core.outside_files import Count
from conformance.core.verdict import Status

SHARD = r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}\Z"  # I/N, of at most 9,999.
Shard = Annotated[str, msgspec.Meta(pattern=SHARD)]


class Environment(TypedDict, total=False):
    """What a run was made on."""

    python: str | None
    platform: str | None
    system: str | None
    devices: dict[str, dict[str, str]]
    packages: dict[str, str]
    precision: dict[str, str]
    adapters: list[str]


class Part(TypedDict):
    """A shard of a run, or the whole of it, in the header of a merge."""

    suite: str | None
    started: str
    finished: str | None
    plan: str | None
    shard: Shard | None
    checks: Count


class MergedRun(TypedDict):
    """One run in the header of a merge."""

    name: str
    environment: Environment
    parts: Annotated[list[Part], msgspec.Meta(min_length=1)]
    missing: list[str]
    cut_short: list[str]


class Quick(TypedDict):
    """How many of how many cases a quick run asked."""

    asked: Count
    of: Count


class LastFailed(TypedDict):
    """The run whose failures were asked again: its checks, its start, what conformed since."""

    of: Count
    started: str
    mended: list[str]


class Header(TypedDict, total=False):
    """The first line; a merge has `runs`."""

    suite: str | None
    started: str
    checks: Count
    goldens: str
    environment: Environment
    format: int
    plan: str | None
    shard: Shard | None
    cases: dict[str, str]
    quick: Quick
    last_failed: LastFailed
    runs: Annotated[list[MergedRun], msgspec.Meta(max_length=1000)]


class Differs(TypedDict, total=False):
    """What differs first in a wrong answer."""

    name: str
    words: str
    wrong: int
    index: list[int]
    expected: str
    got: str


class EvidenceForm(TypedDict, total=False):
    """What was read off a wrong answer."""

    differs: Differs
    permutation: list[int]
    factor: float
    observed: list[str]
    done: str
    advice: str


class Footer(TypedDict):
    """The last line of a run that is whole."""

    finished: str
    counts: dict[Status, Count]


class MergeableHeader(TypedDict):
    """What a merge must know of the run whose header it is."""

    started: str
    checks: Count
    goldens: str
    environment: Environment
