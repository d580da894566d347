"""The cases of a quick run: few and cheap, and no known mistake passes them.

Together they kill every known mistake twice, and those that any one kind of implementation
(framework, promise, way to run) is asked kill it once, and once by name, where all cases together
do; and they cite every clause that any case cites. The cover is greedy, and then leaves out what
later choices made superfluous: the smallest one is hard to find, and little smaller.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from conformance.core.checks import Check, asks, undeclared
from conformance.core.implementations import Implementation, own
from conformance.core.questions import AnyCase
from conformance.proofs.kill_matrix import Kill
from conformance.run.costs import seconds_of_case
from conformance.subjects import all_cases

# Kills of each mistake among all the cases.
TIMES = 2
# Seconds of a case beside those of its checks.
_OVERHEAD = 0.05

# What a case is good for: of a kind of implementation or of all (None), a mistake; or a clause.
_Aim = tuple[str, tuple[Implementation | None, str]]


def small_cases() -> list[AnyCase]:
    """Returns the suite's cases, without those of large tensors."""
    return [case for case in all_cases() if not (case.kind == "shuffle" and case.on_the_fly)]


def quick_cover(cases: Sequence[AnyCase], kills: Iterable[Kill]) -> list[str]:
    """Chooses cases of the suite, and returns their ids in the suite's order.

    Args:
        cases: the cases to choose among.
        kills: which case kills which mistake.
    """
    aims = aims_of(cases, kills)
    left = _counts(aims)
    costs = {case.id: _seconds(case) for case in cases}
    chosen: set[str] = set()
    while any(left.values()):
        best = max(
            (name for name in costs if name not in chosen),
            key=lambda name: _gain(aims[name], left) / costs[name],
        )
        chosen.add(best)
        for aim in aims[best]:
            left[aim] = max(0, left[aim] - 1)
    in_order = [name for name in costs if name in chosen]
    idle = _superfluous(sorted(in_order, key=costs.__getitem__, reverse=True), aims)
    return [name for name in in_order if name not in idle]


def _counts(aims: Mapping[str, Collection[_Aim]]) -> dict[_Aim, int]:
    """Returns how many cases must have each aim: as often as is wanted, or as all cases do."""
    return {
        aim: min(count, TIMES if aim[0] == "killed" and aim[1][0] is None else 1)
        for aim, count in Counter(aim for reached in aims.values() for aim in reached).items()
    }


def _superfluous(chosen: Sequence[str], aims: Mapping[str, Collection[_Aim]]) -> set[str]:
    """Returns the cases without which the others do all that is wanted; dear ones come first."""
    wanted = _counts(aims)
    reached = Counter(aim for name in chosen for aim in aims[name])
    idle = set()
    for name in chosen:
        if all(reached[aim] > wanted[aim] for aim in aims[name]):
            idle.add(name)
            reached.subtract(aims[name])
    return idle


def aims_of(cases: Sequence[AnyCase], kills: Iterable[Kill]) -> Mapping[str, Collection[_Aim]]:
    """Returns what each case is good for: mistakes killed, mistakes named, clauses cited."""
    every_kind = kinds()
    asked = {case.id: [kind for kind in every_kind if takes(kind, case)] for case in cases}
    aims: dict[str, set[_Aim]] = defaultdict(set)
    for kill in kills:
        # Some cases are asked of implementations by name: nobody else's kind has them.
        for kind in (None, *asked[kill.case]):
            aims[kill.case].add(("killed", (kind, kill.mistake)))
            if kill.is_named:
                aims[kill.case].add(("named", (kind, kill.mistake)))
    for case in cases:
        aims[case.id] |= {("cited", (None, clause)) for clause in case.clauses}
    return aims


def takes(kind: Implementation, case: AnyCase) -> bool:
    """Says whether a case is asked of a kind of implementation, and gets an answer."""
    return asks(case, kind) and not undeclared(Check(kind, case, "cpu"))


def kinds() -> list[Implementation]:
    """Returns one implementation of each kind, under a name that no case asks for.

    Shuffles that take images alone, which most are that people bring, are kinds of their own.
    """
    as_shards = {
        replace(
            declared,
            name="any",
            layout=None,
            origin="",
            line=0,
            needs=(),
            devices="each",
            batch="shard",
            spans="processes",
        )
        for declared in own()
    }
    of_images = {
        replace(kind, ndim=(4,)) for kind in as_shards if kind.operation == "channel_shuffle"
    }
    return [*as_shards, *of_images]


def _gain(aims: Collection[_Aim], left: Mapping[_Aim, int]) -> int:
    return sum(left[aim] > 0 for aim in aims)


def _seconds(case: AnyCase) -> float:
    return _OVERHEAD + sum(
        seconds_of_case(declared, case) for declared in own() if asks(case, declared)
    )
