"""Looks for what was done otherwise: changes to the original, at the place where the port parts.

A cause has a name only if the original, changed so, gives what the port gave, within the errors.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Site
from conformance.compare.judge import Followed, Place, follow, place_of_forward
from conformance.compare.matching import Values, off
from conformance.compare.running_statistics import cause_of_statistics
from conformance.compare.trace import Asked, Call, Model, Reached, Trace
from conformance.compare.weight_changes import narrowed, weight_changes
from conformance.compare.weights import Pair

_PLACES = 12
# What other changes give as well, in other words: they are tried after all others of a place.
_WEAK = ("term-left-out", "factor-left-out", "norm-left-out")
_LATE = ("heads-split", "axes-not-swapped", "pooling", *_WEAK)
_ROTARY = "rotary-layout"
Chosen = dict[int, tuple[str, str]]


@dataclass(frozen=True)
class Finding:
    """One place where the port parts; without a cause where none of the known ones fits."""

    layer: str
    cause: Cause | None
    words: str


@dataclass(frozen=True)
class _Try:
    """A changed original: what is asked of it, and what was changed."""

    cause: Cause
    layer: str
    asked: Asked
    chosen: Chosen


@dataclass
class _Search:
    models: tuple[Model, Model]
    asked: tuple[Asked, Asked]
    pairs: Sequence[Pair]
    followed: Followed
    chosen: Chosen
    known: tuple[Chosen, list[Site]] | None = None

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
                # What is left out here may be done later: then neither has a name.
                weak = [i for i, f in enumerate(findings) if f.cause and f.cause.name in _WEAK]
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
        found = self._first_of(self._attempts(place), place)
        calls = self.followed.traces[0].calls
        cut = calls[place.call : place.call + 2]
        if found is None and len(cut) == 2 and cut[1].depends & cut[0].bit and (
            cut[0].output.value.size != cut[1].output.value.size
        ):  # fmt: skip
            found = self._first_of(self._near(place), replace(place, call=place.call + 1))
        if found is not None or not self.same_shapes():
            return found
        return self._first_of(self._near(place), replace(place, call=len(calls)))

    def _first_of(self, attempts: Iterator[_Try], place: Place) -> list[tuple[Cause, str]] | None:
        for attempt in attempts:
            furthest = self._furthest(attempt, place) if self._fits(attempt, place) else None
            if furthest is not None:
                tried, followed = furthest
                layers = self._layers(tried, attempt)
                self.asked = tried.asked, self.asked[1]
                self.chosen, self.followed = tried.chosen, followed
                return [(attempt.cause, layer) for layer in layers]
        return None

    def _furthest(self, attempt: _Try, place: Place) -> tuple[_Try, Followed] | None:
        """The change at all its places, if that explains more than the change at one."""
        best, furthest = None, 0
        for tried in filter(None, (self._everywhere(attempt), attempt)):
            followed = self.again(tried.asked)
            if followed is None or not self._is_further(followed, place):
                continue
            if not followed.is_parted:
                return tried, followed
            end = place_of_forward(followed).call
            if end >= furthest:
                best, furthest = (tried, followed), end
        return best

    def _attempts(self, place: Place) -> Iterator[_Try]:
        yield from self._near(place)
        for cause, layer, weights in weight_changes(place, self.followed, self.asked[0].weights):
            asked = replace(self.asked[0], weights={**self.asked[0].weights, **weights})
            yield _Try(cause, layer, asked, self.chosen)
        before = [site for site in self._sites() if site.since < place.since]
        yield from self._one_by_one(before[:-13:-1])

    def _sites(self) -> list[Site]:
        """Every function of the original, as it is changed by now, that could be changed."""
        if self.known is None or self.known[0] != self.chosen:
            recorder = self.models[0].change(self.chosen, records=True)
            self._plain(replace(self.asked[0], change=recorder))
            self.known = self.chosen, list(recorder.sites)
        return self.known[1]

    def _near(self, place: Place) -> Iterator[_Try]:
        """Changes of the functions of a place: one by one, then of several together."""
        sites = self._sites()
        near = [site for site in sites if place.since <= site.since <= place.call]
        yield from self._one_by_one(near)
        together: dict[tuple[str, str], list[tuple[Site, Option]]] = {}
        for site in near:
            for option in site.options:
                together.setdefault(option.key, []).append((site, option))
        heads = [next(((s, o) for o in s.options if o.cause.name == "heads-split"), None)
                 for s in near]  # fmt: skip
        rotary = _rotary(near)
        for rows in ([row for row in heads if row], *together.values()):
            if len(rows) > 1 or rows == rotary != []:
                yield self._changed(rows, self._layer(rows[0][0]))
        # What is rotated as soon as it is there is so before the next projection is called.
        homes = {site.module for site in near}
        early = _rotary([s for s in sites if s.since < place.since and s.module in homes])
        if early:
            yield self._changed([*early, *rotary], place.name)

    def _one_by_one(self, sites: Sequence[Site]) -> Iterator[_Try]:
        rows = [(s, o) for s in sites for o in s.options if o.cause.name != _ROTARY]
        rows.sort(key=lambda row: row[1].cause.name in _LATE)
        for site, option in rows:
            yield self._changed([(site, option)], self._layer(site))

    def _changed(self, rows: Sequence[tuple[Site, Option]], layer: str) -> _Try:
        chosen = {**self.chosen, **{site.number: option.key for site, option in rows}}
        asked = replace(self.asked[0], change=self.models[0].change(chosen))
        return _Try(rows[0][1].cause, layer, asked, chosen)

    def _everywhere(self, attempt: _Try) -> _Try | None:
        """The same change at every function that it can be made at."""
        new = set(attempt.chosen) - set(self.chosen)
        if not new or attempt.asked.change is None:
            return None
        key, sites = attempt.chosen[min(new)], self._sites()
        name = next(site.name for site in sites if site.number == min(new))
        chosen = dict(self.chosen)
        for site in sites:
            same = [o for o in site.options if o.cause.name == key[0]
                    and _kind(o.cause.words) == _kind(key[1])]  # fmt: skip
            same.sort(key=lambda option: option.key != key)
            if same and site.name == name and site.number >= min(new):
                chosen[site.number] = same[0].key
        if len(chosen) <= len(attempt.chosen):
            return None
        asked = replace(self.asked[0], change=self.models[0].change(chosen))
        return replace(attempt, asked=asked, chosen=chosen)

    def _layers(self, tried: _Try, attempt: _Try) -> list[str]:
        if tried is attempt:
            return [attempt.layer]
        new = [s for s in self._sites() if s.number in tried.chosen and s.number not in self.chosen]
        return list(dict.fromkeys(map(self._layer, new)))

    def _layer(self, site: Site) -> str:
        return _layer(site, self.followed.traces[0].calls)

    def _plain(self, asked: Asked) -> Trace | None:
        try:
            return self.models[0].run(replace(asked, seeds=None, keeps_values=False,
                                              anchored_calls=self._anchors()))  # fmt: skip
        except Reached:
            raise
        except Exception:  # noqa: BLE001  A change need not go together with the shapes that follow.
            return None

    def _anchors(self) -> dict[int, float]:
        unit = 2.0**-52
        return {
            number: match.furthest
            + unit * float(np.abs(self.followed.traces[0].calls[number].output.value).max())
            for number, match in self.followed.forward.items()
        }

    def _fits(self, attempt: _Try, place: Place) -> bool:
        """Whether the port holds what the changed original gives at the place."""
        asked = replace(attempt.asked, until=place.call)
        try:
            trace = self._plain(asked)
        except Reached as reached:
            match = self.followed.values.find(reached.call.output)
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
    """What explained the other mode: it is tried first."""

    chosen: Chosen
    findings: list[Finding]


def search(
    models: tuple[Model, Model],
    asked: tuple[Asked, Asked],
    pairs: Sequence[Pair],
    followed: Followed,
    known: Known,
    progress: Callable[[str], None],
) -> tuple[list[Finding], Followed, frozenset[str]]:
    """Every place where the port parts, the run of an original changed so, and its new weights."""
    looking = _Search(models, asked, pairs, followed, {})
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


def _rotary(sites: Sequence[Site]) -> list[tuple[Site, Option]]:
    return [(s, o) for s in sites for o in s.options if o.cause.name == _ROTARY]


def _kind(words: str) -> str:
    """A cause's words without their numbers: the same change at another size."""
    return "".join(c for c in words if not c.isdigit())


def _layer(site: Site, calls: Sequence[Call]) -> str:
    """The module at whose call a function is called, or what its data came from or go to."""
    since, module = site.since, site.module
    following = calls[since].module if since < len(calls) else ""
    before = calls[since - 1] if since else None
    if module and following == module:
        inner = before is not None and before.module.startswith(module + ".")
        return f"code after {before.module}" if before is not None and inner else module
    if following and (not module or following.startswith(module)):
        leads = before is None or calls[since].depends & before.bit
        if before is None or leads or not site.depends & before.bit:
            return f"code before {following}"
    return f"code after {before.module}" if before is not None else "code before the output"


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
