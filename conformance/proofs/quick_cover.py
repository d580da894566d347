"""The cases of a quick run: few and cheap, and no known mistake passes them.

Of every kind of implementation (framework, promise, way to run) they kill every known mistake
twice, in one of them by name, where all cases together do; and they cite every clause that any case
cites. The cover is greedy: the smallest one is hard to find, and would change with every new case.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from conformance.core.checks import asks
from conformance.core.implementations import Implementation, own
from conformance.core.questions import AnyCase
from conformance.proofs.kill_matrix import Kill
from conformance.run.costs import seconds_of
from conformance.subjects import all_cases

# Kills of each mistake among the cases.
TIMES = 2
# Seconds of a case beside those of its checks.
_OVERHEAD = 0.05

_Aim = tuple[str, Hashable]


def small_cases() -> list[AnyCase]:
    """Returns the suite's cases, without those of large tensors."""
    return [case for case in all_cases() if not (case.kind == "shuffle" and case.on_the_fly)]


def quick_cover(cases: Sequence[AnyCase], kills: Iterable[Kill]) -> list[str]:
    """Chooses cases of the suite, and returns their ids in the suite's order.

    Args:
        cases: the cases to choose among.
        kills: which case kills which mistake.
    """
    aims = _aims(cases, kills)
    left: dict[_Aim, int] = {}
    for reached in aims.values():
        left |= {aim: TIMES if aim[0] == "killed" else 1 for aim in reached}
    costs = {case.id: _seconds(case) for case in cases}
    chosen: set[str] = set()
    while any(left.values()):
        best = max(
            (name for name in costs if name not in chosen),
            key=lambda name: _gain(aims[name], left) / costs[name],
        )
        if not _gain(aims[best], left):
            break  # A mistake that one case alone kills cannot be killed twice.
        chosen.add(best)
        for aim in aims[best]:
            left[aim] = max(0, left[aim] - 1)
    return [case.id for case in cases if case.id in chosen]


def _aims(cases: Sequence[AnyCase], kills: Iterable[Kill]) -> Mapping[str, Collection[_Aim]]:
    """Returns what each case is good for: mistakes killed, mistakes named, clauses cited."""
    every_kind = _kinds()
    kinds = {case.id: [kind for kind in every_kind if asks(case, kind)] for case in cases}
    aims: dict[str, set[_Aim]] = defaultdict(set)
    for kill in kills:
        # Some cases are asked of implementations by name: nobody else's kind has them.
        for kind in (None, *kinds[kill.case]):
            aims[kill.case].add(("killed", (kind, kill.mistake)))
            if kill.is_named:
                aims[kill.case].add(("named", (kind, kill.mistake)))
    for case in cases:
        aims[case.id] |= {("cited", clause) for clause in case.clauses}
    return aims


def _kinds() -> list[Implementation]:
    """Returns one implementation of each kind, under a name that no case asks for."""
    return list(
        {
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
    )


def _gain(aims: Collection[_Aim], left: Mapping[_Aim, int]) -> int:
    return sum(left[aim] > 0 for aim in aims)


def _seconds(case: AnyCase) -> float:
    return _OVERHEAD + sum(seconds_of(declared) for declared in own() if asks(case, declared))
