"""What is tried where a port parts: changes of the original there, one by one and together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Site
from conformance.compare.judge import Followed, Place
from conformance.compare.trace import Asked, Call, Model, Reached, Trace
from conformance.compare.weight_changes import weight_changes
from conformance.compare.weights import Pair

Chosen = dict[int, tuple[str, str]]
Row = tuple[Site, Option]
# What other changes give as well, in other words: they are tried after all others of a place.
_ORDER, _OTHER = "order-of-steps", "other-input"
WEAK = (_ORDER, _OTHER, "term-left-out", "factor-left-out", "norm-left-out")
_LATE = ("heads-split", "axes-not-swapped", "pooling", "sum-or-product", *WEAK)
_LATER_STEPS = 6  # So many steps are tried for one that was put off.
_ROTARY = "rotary-layout"
# Of two changes at once the nearest few, each with this many others, none of which is weak.
_NEAREST, _OTHERS = 3, 40
_STRIDES = 20  # So many convolutions may have the stride of one of a place.
_BEFORE = 20  # So many functions before a place are tried one by one.
_EARLY = 3  # So many calls earlier may be what is exchanged with something at a place.
_SINGLE = (*_LATE, _ROTARY, "rotary-sign", "position-offset", "sum-or-mean")


@dataclass(frozen=True)
class Try:
    """A changed original.

    Attributes:
        cause, layer: what is done otherwise, and where.
        asked: what is asked of it.
        chosen: all changes of functions, those that were made before too.
        last: after how many calls the last change comes.
        also: the second of two changes, neither of which explains anything alone.
        is_put_off: whether a step is left out and comes later.
        is_gone: whether an activation is left out.
    """

    cause: Cause
    layer: str
    asked: Asked
    chosen: Chosen
    last: int = 0
    also: tuple[tuple[Cause, str], ...] | None = None
    is_put_off: bool = False
    is_gone: bool = False

    @property
    def is_weak(self) -> bool:
        """Whether another may say more of a place where it leaves something unexplained."""
        return self.cause.name in WEAK or self.also is not None or self.is_gone


@dataclass
class Attempts:
    """A search as far as it has come: the original as it is changed by now, beside the port.

    Attributes:
        followed: both runs.
        chosen: what is changed in the original by now.
        known: every function that could be changed then.
        close: attempts at a place that fail, with how far each is off.
        vain: places at which nothing fitted in the other mode: there little is tried.
    """

    models: tuple[Model, Model]
    asked: tuple[Asked, Asked]
    pairs: Sequence[Pair]
    followed: Followed
    chosen: Chosen
    known: tuple[Chosen, list[Site]] | None = None
    close: list[tuple[float, Try]] = field(default_factory=list)
    vain: set[str] = field(default_factory=set)

    def attempts(self, place: Place) -> Iterator[Try]:
        """Everything that is tried at a place, what says most first."""
        yield from self.near(place)
        yield from self._put_off(place)
        for cause, layer, weights in weight_changes(place, self.followed, self.asked[0].weights):
            asked = replace(self.asked[0], weights={**self.asked[0].weights, **weights})
            yield Try(cause, layer, asked, self.chosen)
        if place.name in self.vain:
            return
        before = [site for site in self.sites() if site.since < place.since]
        yield from self._one_by_one(before[: -_BEFORE - 1 : -1])
        for site in self.sites():
            if place.since <= site.since <= place.call:
                for option in site.options:
                    if option.cause.name == _OTHER:
                        yield self._changed([(site, option)], place.name)
        yield from self._exchanged(place)
        yield from self._two_at_once()

    def _exchanged(self, place: Place) -> Iterator[Try]:
        """Two activations each in the place of the other; a stride that another layer has."""
        sites = [site for site in self.sites() if place.since <= site.since]
        near = [site for site in sites if site.since <= place.call]
        homes = {site.module for site in near}
        early = [site for site in self.sites() if site.module in homes
                 and place.since - _EARLY <= site.since < place.since]  # fmt: skip
        for first, second in combinations([*early, *near], 2):
            rows = [*_in_place_of(first, second), *_in_place_of(second, first)]
            if len(rows) == 2 and first.name != second.name:
                yield replace(self._changed(rows, place.name), also=())
        strides = [(s, o) for s in sites for o in s.options if o.cause.name == "stride"]
        for row in strides:
            for other in strides[:_STRIDES]:
                if row[0] in near and other[0].number > row[0].number:
                    yield replace(self._changed([row, other], self.layer(row[0])), also=())

    def beyond(self, place: Place) -> Iterator[tuple[Try, int]]:
        """A gate that is no gate in the port, by the product behind it, and the call after that."""
        for site in self.sites():
            if place.call < site.since <= place.call + _EARLY:
                for option in site.options:
                    if option.cause.name == "gate-exchanged":
                        yield self._changed([(site, option)], self.layer(site)), site.since

    def _two_at_once(self) -> Iterator[Try]:
        """Two changes of a place: one of those that come nearest alone, and any other."""
        ranked = [row[1] for row in sorted(self.close, key=lambda row: row[0])]
        seen = set()
        for first in ranked[:_NEAREST]:
            for second in ranked[:_OTHERS]:
                new = [set(t.chosen) - set(self.chosen) for t in (first, second)]
                key = frozenset((id(first), id(second)))
                if first is second or new[0] & new[1] or key in seen:
                    continue
                if not new[0] and not new[1] and first.layer == second.layer:
                    continue
                seen.add(key)
                yield self._both(first, second)

    def fails(self, attempt: Try, at: Approximate) -> None:
        """Notes how far off an attempt is, if it may be one of two changes."""
        is_one = len(set(attempt.chosen) - set(self.chosen)) <= 1 and attempt.also is None
        if attempt.cause.name in _SINGLE or not is_one:
            return
        other = self.followed.values.like(at, 1.0)
        if other is not None:
            distance = float(np.abs(other - at.value).sum() / np.abs(at.value).sum())
            self.close.append((distance, attempt))

    def _both(self, first: Try, second: Try) -> Try:
        chosen, own = {**first.chosen, **second.chosen}, self.asked[0].weights
        changed = [{n: w for n, w in t.asked.weights.items() if w is not own.get(n)}
                   for t in (first, second)]  # fmt: skip
        asked = replace(self.asked[0], weights={**own, **changed[0], **changed[1]},
                        change=self.models[0].change(chosen))  # fmt: skip
        also = ((second.cause, second.layer),)
        return Try(first.cause, first.layer, asked, chosen, max(first.last, second.last), also)

    def sites(self) -> list[Site]:
        """Every function of the original, as it is changed by now, that could be changed."""
        if self.known is None or self.known[0] != self.chosen:
            recorder = self.models[0].change(self.chosen, records=True)
            self.plain(replace(self.asked[0], change=recorder))
            self.known = self.chosen, list(recorder.sites)
        return self.known[1]

    def _put_off(self, place: Place) -> Iterator[Try]:
        """A step of a place that is left out there, and comes after a later one, and its like."""
        steps = [(s, o) for s in self.sites() for o in s.options if o.half == "put off"]
        later = [(s, o) for s in self.sites() for o in s.options if o.half == "comes now"]
        for step in steps:
            if not place.since <= step[0].since <= place.call:
                continue
            others = [row for row in steps if row[1].key == step[1].key and row[0] is not step[0]]
            for row in [r for r in later if r[0].number > step[0].number][:_LATER_STEPS]:
                count = sum(step[0].number < s.number <= row[0].number
                            for s, _ in later if s.name == row[0].name)  # fmt: skip
                pairs = [step, row]
                for other in others:
                    alike = [r for r in later if r[0].name == row[0].name
                             and r[0].number > other[0].number]  # fmt: skip
                    pairs += [other, *alike[count - 1 : count]]
                if others and not len(pairs) % 2:
                    yield self._changed(pairs, place.name)
                yield self._changed([step, row], place.name)

    def near(self, place: Place) -> Iterator[Try]:
        """Changes of the functions of a place: one by one, then of several together."""
        sites = self.sites()
        near = [site for site in sites if place.since <= site.since <= place.call]
        yield from self._one_by_one(near, place)
        together: dict[tuple[str, str], list[Row]] = {}
        for site in near:
            for option in filter(_is_whole, site.options):
                together.setdefault(option.key, []).append((site, option))
        heads = [next(((s, o) for o in s.options if o.cause.name == "heads-split"), None)
                 for s in near]  # fmt: skip
        rotary = _rotary(near)
        for rows in ([row for row in heads if row], *together.values()):
            if len(rows) > 1 or rows == rotary != []:
                yield self._changed(rows, self.layer(rows[0][0]))
        # What is done as soon as it is there, to queries say, is so before the next is called.
        homes = {site.module for site in near}
        early: dict[tuple[str, str], list[Row]] = {}
        for site in [s for s in sites if s.since < place.since and s.module in homes]:
            for option in filter(_is_whole, site.options):
                early.setdefault(option.key, []).append((site, option))
        for key, rows in early.items():
            if key in together or (len(rows) > 1 and key[0] not in WEAK):
                yield self._changed([*rows, *together.get(key, [])], place.name)

    def _one_by_one(self, sites: Sequence[Site], place: Place | None = None) -> Iterator[Try]:
        rows = [(s, o) for s in sites for o in filter(_is_whole, s.options)
                if o.cause.name not in (_ROTARY, _OTHER)]  # fmt: skip
        rows.sort(key=lambda row: row[1].cause.name in _LATE)
        for site, option in rows:
            is_order = option.cause.name == _ORDER
            layer = place.name if place is not None and is_order else self.layer(site)
            yield self._changed([(site, option)], layer)

    def _changed(self, rows: Sequence[tuple[Site, Option]], layer: str) -> Try:
        chosen = {**self.chosen, **{site.number: option.key for site, option in rows}}
        asked = replace(self.asked[0], change=self.models[0].change(chosen))
        first = rows[0][1]
        return Try(
            first.cause,
            layer,
            asked,
            chosen,
            last=max(site.since for site, _ in rows),
            is_put_off=first.half == "put off",
            is_gone=first.becomes == "nothing",
        )

    def everywhere(self, attempt: Try, *, alike: bool = False) -> Try | None:
        """The same change at every function that it can be made at, or in modules of like names."""
        new = set(attempt.chosen) - set(self.chosen)
        if not new or attempt.asked.change is None or attempt.is_put_off:
            return None
        chosen, sites = dict(self.chosen), self.sites()
        for own in [site for site in sites if site.number in new]:
            key = attempt.chosen[own.number]
            for site in sites:
                if site.name != own.name or site.number < own.number or (
                    alike and _kind(site.module) != _kind(own.module)
                ):  # fmt: skip
                    continue
                same = [o for o in site.options if o.cause.name == key[0]
                        and _kind(o.cause.words) == _kind(key[1])]  # fmt: skip
                same.sort(key=lambda option, key=key: option.key != key)  # type: ignore[misc]
                if same:
                    chosen[site.number] = same[0].key
        if len(chosen) <= len(attempt.chosen):
            return None
        asked = replace(self.asked[0], change=self.models[0].change(chosen))
        return replace(attempt, asked=asked, chosen=chosen)

    def layer(self, site: Site) -> str:
        """Where a change of a function is."""
        return _layer(site, self.followed.traces[0].calls)

    def plain(self, asked: Asked) -> Trace | None:
        """A forward alone; None where it does not run."""
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


def _is_whole(option: Option) -> bool:
    """Whether a change means something alone."""
    return not option.half


def _in_place_of(site: Site, other: Site) -> list[Row]:
    """The change that makes one activation another site's."""
    return [(site, option) for option in site.options if option.becomes == other.name]


def _rotary(sites: Sequence[Site]) -> list[Row]:
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
