"""Costs of checks, from the seconds of a recorded run, and the division of a run into shards.

`costs.toml` holds the mean seconds of a check of each implementation, and of the cases that take
most of a run how many times the mean their checks take; `python ci/costs.py` makes it from a
results file. An implementation that it lacks is taken to cost as much as its siblings.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import ceil
from pathlib import Path
from statistics import median

from conformance.core.checks import Check
from conformance.core.implementations import Implementation, own
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase
from conformance.run.results_form import SHARD

FILE = Path(__file__).parent / "costs.toml"
# A longer part of a shard would keep one of two slots busy while the other is idle.
LONGEST = 0.6


@cache
def recorded() -> Mapping[str, float]:
    """Returns the mean seconds of a check, by `operation/implementation`."""
    return {
        f"{operation}/{name}": float(seconds)
        for operation, table in _file()["seconds"].items()
        for name, seconds in table.items()
    }


@cache
def weights() -> Mapping[str, float]:
    """Returns how many times its implementations' mean a case takes, by `operation:case`."""
    return {
        f"{operation}:{name}": float(weight)
        for operation, table in _file()["weights"].items()
        for name, weight in table.items()
    }


@cache
def _file() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


@cache
def seconds_of(declared: Implementation) -> float:
    """Estimates the seconds of a check; without a record, by the median of its siblings."""
    costs = recorded()
    if declared.id in costs:
        return costs[declared.id]
    of_a_kind = (declared.operation, declared.framework)
    siblings = [
        costs[sibling.id]
        for sibling in own()
        if sibling.id in costs and (sibling.operation, sibling.framework) == of_a_kind
    ]
    return median(siblings or costs.values())


def seconds_of_case(declared: Implementation, case: AnyCase) -> float:
    """Estimates the seconds of a check from what its implementation and its case take."""
    return seconds_of(declared) * weights().get(case.id, 1.0)


def seconds(checks: Iterable[Check]) -> float:
    """Estimates the seconds of these checks, one after another."""
    return sum(seconds_of_case(check.implementation, check.case) for check in checks)


def groups_of(checks: Sequence[Check]) -> list[list[Check]]:
    """Groups the checks by implementation and device, the groups that take longest first."""
    by_owner: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        by_owner.setdefault((check.implementation.id, check.device), []).append(check)
    return sorted(by_owner.values(), key=seconds, reverse=True)


def shard_of(checks: Sequence[Check], shard: str) -> list[Check]:
    """Returns the I-th of N parts that take about as long, in the order of the checks.

    An implementation stays in one part, where its compiled code is used again, unless it would be
    most of the part. The same checks are divided in the same way on every machine.

    Raises:
        UsageError: if the shard is not I/N with 1 ≤ I ≤ N.
    """
    index, _, count = shard.partition("/")
    if not re.match(SHARD, shard) or int(index) > int(count):
        raise UsageError(f"--shard {shard}: I/N is meant, with 1 ≤ I ≤ N, as in 2/4")
    number = int(count)
    longest = LONGEST * seconds(checks) / number
    parts = [part for group in groups_of(checks) for part in _parts(group, longest)]
    loads = [0.0] * number
    own_ids: set[str] = set()
    for part in sorted(parts, key=seconds, reverse=True):
        lightest = loads.index(min(loads))
        loads[lightest] += seconds(part)
        if lightest == int(index) - 1:
            own_ids.update(check.id for check in part)
    return [check for check in checks if check.id in own_ids]


def _parts(group: Sequence[Check], longest: float) -> list[Sequence[Check]]:
    """Divides a group into as many parts as it takes, each with some checks of every family."""
    count = min(len(group), max(1, ceil(seconds(group) / longest)))
    return [group[first::count] for first in range(count)]
