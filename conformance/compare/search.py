"""Looks for what was done otherwise: changes to the original, at the place where the port parts.

A cause has a name only if the original, changed so, gives what the port gave, within the errors.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.attempts import WEAK, Attempts, Chosen, Try
from conformance.compare.catalogue import Cause
from conformance.compare.judge import Followed, Place, follow, place_of_forward
from conformance.compare.matching import Values, off
from conformance.compare.running_statistics import cause_of_statistics
from conformance.compare.trace import Asked, Model, Reached
from conformance.compare.weight_changes import narrowed
from conformance.compare.weights import Pair

_PLACES = 12


@dataclass(frozen=True)
class Finding:
    """One place where the port parts; without a cause where none of the known ones fits."""

    layer: str
    cause: Cause | None
    words: str


@dataclass
class _Search(Attempts):
    def findings(self, progress: Callable[[str], None]) -> list[Finding]:
        """Place after place, as long as a cause explains each."""
        findings: list[Finding] = []
        for _ in range(_PLACES):
            if not self.followed.is_parted and self.same_shapes():
                break
            place = place_of_forward(self.followed)
            progress(f"parts at {place.name}: trying causes")
            words = _words(place, self.followed)
            explained = self._explained(place)
            if explained is None:
                self.vain.add(place.name)
                # What is left out here may be done later: then neither has a name.
                weak = [i for i, f in enumerate(findings) if f.cause and f.cause.name in WEAK]
                if weak:
                    return [*findings[: weak[0]], replace(findings[weak[0]], cause=None)]
                is_new = not any(finding.layer == place.name for finding in findings)
                if is_new and (self._is_outside() or not self.same_shapes()):
                    findings.append(Finding(place.name, narrowed(place, self.followed), words))
                break
            for cause, layer in explained:
                if all((f.layer, f.cause) != (layer, cause) for f in findings):
                    findings.append(Finding(layer, cause, words))
                words = ""
        return findings

    def _is_outside(self) -> bool:
        """Whether an output is, or a running mean that no momentum explains."""
        means = [h for h in self.followed.parting("running statistics") if h.name.endswith("mean")]
        return bool(self.followed.parting("forward")) or any(
            cause_of_statistics(self.followed, held) is None for held in means
        )

    def same_shapes(self) -> bool:
        """Whether all outputs could be compared."""
        first, second = (trace.outputs for trace in self.followed.traces)
        return all(
            path in second and second[path].value.shape == at.value.shape
            for path, at in first.items()
        )

    def _explained(self, place: Place) -> list[tuple[Cause, str]] | None:
        """What gives the port's value at the place, or what is left of it, or all that comes out.

        A causal convolution's end, say, is cut off by what is called next: no port need hold it.
        """
        self.close = []
        found = self._first_of(self.attempts(place), place)
        calls = self.followed.traces[0].calls
        cut = calls[place.call : place.call + 2]
        if found is None and len(cut) == 2 and cut[1].depends & cut[0].bit and (
            cut[0].output.value.size != cut[1].output.value.size
        ):  # fmt: skip
            found = self._first_of(self.near(place), replace(place, call=place.call + 1))
        for attempt, call in self.beyond(place) if found is None else ():
            found = found or self._first_of(iter([attempt]), replace(place, call=call))
        if found is not None or not self.same_shapes():
            return found
        return self._first_of(self.near(place), replace(place, call=len(calls)))

    def _first_of(self, attempts: Iterator[Try], place: Place) -> list[tuple[Cause, str]] | None:
        """The first that explains something; a weak one that leaves a rest if there is no other."""
        weak: tuple[Try, Try, Followed] | None = None
        for attempt in attempts:
            furthest = self._furthest(attempt, place) if self._fits(attempt, place) else None
            if furthest is None:
                continue
            if not furthest[1].is_parted or not attempt.is_weak:
                return self._taken(attempt, *furthest)
            weak = weak or (None if attempt.also is not None else (attempt, *furthest))
        return self._taken(*weak) if weak else None

    def _taken(self, attempt: Try, tried: Try, followed: Followed) -> list[tuple[Cause, str]]:
        layers = self._layers(tried, attempt)
        self.asked = tried.asked, self.asked[1]
        self.chosen, self.followed = tried.chosen, followed
        return [*((attempt.cause, layer) for layer in layers), *(attempt.also or ())]

    def _furthest(self, attempt: Try, place: Place) -> tuple[Try, Followed] | None:
        """The change at all its places, if that explains all, or at those alike, or at one."""
        best, furthest = None, 0
        everywhere, alike = self.everywhere(attempt), self.everywhere(attempt, alike=True)
        if everywhere is not None and alike is not None and everywhere.chosen == alike.chosen:
            everywhere = None
        for tried in filter(None, (everywhere, alike, attempt)):
            followed = self.again(tried.asked)
            last = replace(place, call=max(place.call, tried.last))
            if followed is None or not self._is_further(followed, last):
                continue
            if not followed.is_parted:
                return tried, followed
            end = 0 if tried is everywhere else place_of_forward(followed).call
            if end >= furthest:
                best, furthest = (tried, followed), end
        return best

    def _layers(self, tried: Try, attempt: Try) -> list[str]:
        if tried is attempt or attempt.also is not None:
            return [attempt.layer]
        new = [s for s in self.sites() if s.number in tried.chosen and s.number not in self.chosen]
        return list(dict.fromkeys(map(self.layer, new)))

    def _fits(self, attempt: Try, place: Place) -> bool:
        """Whether the port holds what the changed original gives at the place."""
        asked = replace(attempt.asked, until=place.call)
        try:
            trace = self.plain(asked)
        except Reached as reached:
            match = self.followed.values.find(reached.call.output)
            if match is None:
                self.fails(attempt, reached.call.output)
            return match is not None and match.ratio <= 1
        if trace is None or place.call < len(self.followed.traces[0].calls):
            return False
        other = self.followed.traces[1].outputs
        for path, at in trace.outputs.items():
            if path not in other or other[path].value.shape != at.value.shape:
                return False
            match = Values([(0, other[path])]).find(at)
            if match is None or match.ratio > 1:
                return False
        return True

    def again(self, asked: Asked) -> Followed | None:
        """Both runs with a changed original; None where the change does not go with its shapes."""
        port = self.asked[1]
        if self.models[0].framework == "jax":  # The trace of a gradient has other equations.
            asked, port = replace(asked, seeds=None), replace(port, seeds=None)
        try:
            return follow(self.models, (asked, port), self.pairs)
        except Exception:  # noqa: BLE001  As above: then it is no cause.
            return None

    def _is_further(self, followed: Followed, place: Place) -> bool:
        if not followed.is_parted:
            return True
        if place_of_forward(followed).call <= place.call:
            return False
        # A change that gives a value which the original has anyway is not shown by that value.
        before = self.followed.traces[0]
        own = Values([(0, v.at) for v in before.values if not v.backward])
        calls = followed.traces[0].calls
        later = [k for k in followed.forward if k >= place.call]
        matches = (own.find(calls[k].output) for k in later)
        return any(match is None or match.ratio > 1 for match in matches)


@dataclass
class Known:
    """What explained the other mode: it is tried first; and where nothing did."""

    chosen: Chosen
    findings: list[Finding]
    vain: set[str] = field(default_factory=set)


def search(
    models: tuple[Model, Model],
    asked: tuple[Asked, Asked],
    pairs: Sequence[Pair],
    followed: Followed,
    known: Known,
    progress: Callable[[str], None],
) -> tuple[list[Finding], Followed, frozenset[str]]:
    """Every place where the port parts, the run of an original changed so, and its new weights."""
    looking = _Search(models, asked, pairs, followed, {}, vain=known.vain)
    if known.chosen:
        again = replace(asked[0], change=models[0].change(known.chosen))
        tried = looking.again(again)
        if tried is not None and not tried.is_parted:
            return known.findings, tried, frozenset()
    findings = looking.findings(progress)
    before, after = asked[0].weights, looking.asked[0].weights
    changed = frozenset(name for name in after if after[name] is not before[name])
    if not changed and not looking.followed.is_parted:
        known.chosen, known.findings = looking.chosen, findings
    return findings, looking.followed, changed


def _words(place: Place, followed: Followed) -> str:
    """How far the most similar value of the port is off, or that there is none."""
    calls = followed.traces[0].calls
    if place.call < len(calls):
        at = calls[place.call].output
        other = followed.values.like(at, 0.5)
        if other is not None:
            return off(other, Approximate(at.value, at.error + 2.0**-52 * np.abs(at.value).max()))
    for held in followed.parting("forward"):
        expected = Approximate(held.first.value, held.first.error + held.second.error)
        return f"{held.name}: {off(held.second.value, expected)}"
    return ""
