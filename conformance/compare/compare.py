"""Two models, one input, and where the second parts from the first."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare import map_file as maps
from conformance.compare.catalogue import Cause
from conformance.compare.judge import Aspect, Followed, Held, follow, place_of_gradient
from conformance.compare.load_model import Side
from conformance.compare.matching import off
from conformance.compare.own_type import too_rough
from conformance.compare.pairing import Pairing, paired
from conformance.compare.running_statistics import cause_of_statistics, judged_statistics
from conformance.compare.search import Finding, Known, search
from conformance.compare.settings import Settings, Shape
from conformance.compare.trace import RANDOM, Asked, owner
from conformance.compare.weights import Pair
from conformance.core.outcomes import UsageError

_DRAWS = 8
# Where a bound, such as ReLU6's, is reached by nothing, inputs and scales are drawn so much larger.
_SPREADS = (4.0, 16.0)
AS_IT_RUNS = "as it runs"  # In the place of a mode.
_BOUNDED = ("relu6", "hardswish", "hardsigmoid")


@dataclass(frozen=True)
class Parting:
    """Where the second model does something else.

    Attributes:
        layer: the first model's submodule, or `code before NAME` where no submodule does it.
        aspect: of what.
        cause: the change that makes the original do what the port does; None where none is known.
        words: how far it is off.
        mode: training or evaluation, where it is in one of them alone; or `as it runs`, where
            only the port's own types do it.
    """

    layer: str
    aspect: Aspect
    cause: Cause | None
    words: str
    mode: str = ""


@dataclass(frozen=True)
class Compared:
    """What was found, what was allowed, and what could not be judged."""

    pairs: tuple[Pair, ...]
    partings: tuple[Parting, ...]
    allowed: tuple[Parting, ...]
    compared: Mapping[Aspect, int]
    furthest: float
    unjudged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Tally:
    partings: list[tuple[str, Parting]] = field(default_factory=list)
    compared: dict[Aspect, int] = field(default_factory=dict)
    furthest: float = 0.0
    unjudged: dict[str, None] = field(default_factory=dict)
    blind: list[str] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    known: Known = field(default_factory=lambda: Known({}, []))


def compare(
    sides: tuple[Side, Side],
    settings: Settings,
    map_file: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Compared:
    """Runs both and holds the second to the first.

    Raises:
        UsageError: if a model cannot be made or run, weights cannot be mapped, or outputs cannot be
            compared.
    """
    progress("loading both models")
    judging = _Judging(paired(sides, settings, map_file), progress)
    tally = judging.tally
    gc.freeze()  # Two frameworks are many objects: to look through them takes longer than a run.
    try:
        for training in settings.modes:
            judging.judge(training)
    finally:
        gc.unfreeze()
    partings = _merged(tally.partings, len(settings.modes))
    counted = [p for p in partings if p.cause is None or p.cause.name not in settings.allowed]
    if not counted and (tally.blind or not tally.compared.get("forward")):
        reasons = "; ".join(dict.fromkeys((*tally.blind, *tally.unjudged))) or "no float came out"
        raise UsageError(f"nothing could be compared: {reasons}")
    return Compared(
        pairs=judging.pairing.pairs,
        partings=tuple(counted),
        allowed=tuple(p for p in partings if p not in counted),
        compared=tally.compared,
        furthest=tally.furthest,
        unjudged=tuple(tally.unjudged),
        notes=tuple(filter(None, (judging.pairing.note, *tally.notes))),
    )


def _merged(partings: Sequence[tuple[str, Parting]], modes: int) -> list[Parting]:
    """Each place once; in which mode is said where it is one of two."""
    rows: dict[tuple[str, str, str | None], tuple[Parting, list[str]]] = {}
    for mode, parting in partings:
        key = parting.layer, parting.aspect, parting.cause.name if parting.cause else None
        rows.setdefault(key, (parting, []))[1].append(mode)
    order = {"forward": 0, "gradient": 1, "running statistics": 2}
    of_buffers = "running statistics"  # They are kept in training alone.
    merged = []
    for p, where in rows.values():
        is_one = len(set(where)) == 1 < modes and p.aspect != of_buffers
        merged.append(replace(p, mode=where[0] if is_one or AS_IT_RUNS in where else ""))
    return sorted(merged, key=lambda p: order[p.aspect])


def map_as_toml(sides: tuple[Side, Side], settings: Settings, map_file: Path | None) -> str:
    """The map that `compare` would use, as a file to edit."""
    pair = paired(sides, settings, map_file)
    return maps.as_toml(pair.pairs, *pair.models)


def write(text: str, path: Path) -> None:
    """Writes the map.

    Raises:
        UsageError: if the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--write-map {path}: {error.strerror}") from error


@dataclass
class _Judging:
    pairing: Pairing
    progress: Callable[[str], None]
    tally: _Tally = field(default_factory=_Tally)

    def judge(self, training: bool) -> None:
        """One mode: until no comparison is unsure, or eight draws are through."""
        tally, mode = self.tally, "training" if training else "evaluation"
        backward = self.pairing.same_structure()
        asked, followed = self._followed(training, mode, backward=backward)
        if not backward or followed.is_parted:
            other = self._as_otherwise(training)
            if other is not None:
                self.pairing, backward = other, True
                asked, followed = self._followed(training, mode, backward=True)
        for side, trace in zip(self.pairing.sides, followed.traces, strict=True):
            if trace.silenced:
                tally.notes[f"dropout left out in {side.said}"] = None
        models, pairs = self.pairing.telling, self.pairing.pairs
        findings: list[Finding] = []
        changed: frozenset[str] = frozenset()
        if not backward or followed.is_parted:
            self.progress(f"{mode}: looking for what was done otherwise")
            findings, followed, changed = search(
                models, asked, pairs, followed, tally.known, self.progress
            )
        elif any(trace.idle for trace in followed.traces):
            findings = self._of_wide_draws(training, followed)
        for finding in findings:
            tally.partings.append(
                (mode, Parting(finding.layer, "forward", finding.cause, finding.words))
            )
        if not backward and _shapes_of(followed, 0) != _shapes_of(followed, 1):
            parted = tally.partings[0][1] if tally.partings else None
            at = f"; it parts first at {parted.layer}: {parted.words}" if parted else ""
            raise UsageError(self.pairing.unequal() + at)
        explained = not followed.is_parted
        self._held(followed, mode, changed, explained=explained)
        if not tally.partings and training == self.pairing.settings.modes[0]:
            self._as_it_runs(asked, followed)

    def _as_it_runs(self, asked: tuple[Asked, Asked], followed: Followed) -> None:
        """What the port's own types do, where neither model rounds to a narrow one on purpose."""
        if any(trace.narrows or trace.without_rule for trace in followed.traces):
            return
        self.progress("the port as it runs, in its own types")
        pairing = self.pairing
        rough = too_rough(pairing.sides, pairing.models, asked, followed.traces[0])
        if rough is not None:
            parting = Parting(rough.place, "forward", rough.cause, rough.words)
            self.tally.partings.append((AS_IT_RUNS, parting))

    def _followed(
        self, training: bool, mode: str, *, backward: bool
    ) -> tuple[tuple[Asked, Asked], Followed]:
        """The first draw in which no comparison is unsure or the port parts, else the eighth.

        What stays unsure in the same way for three draws is so whatever the inputs are; so is a
        model of whose outputs no element can be judged.
        """
        seen: list[Mapping[str, int] | None] = []
        for draw in range(_DRAWS):
            self.progress(f"{mode}: both models with errors carried, draw {draw + 1}")
            asked = self.pairing.asked(training, draw, backward=backward)
            followed = follow(self.pairing.telling, asked, self.pairing.pairs)
            self._finite(followed)
            if not followed.unsure or followed.is_parted:
                return asked, followed
            forward = [held for held in followed.held if held.aspect == "forward"]
            is_blind = all(held.unknown == held.first.value.size for held in forward)
            seen.append(None if is_blind else followed.unsure)
            if seen[-3:] == 3 * seen[-1:]:
                break
        what = ", ".join(f"{n} of {name}" for name, n in followed.unsure.items())
        note = f"after {len(seen)} draws it is still unsure how some turn out: {what}"
        self.tally.notes[note] = None
        return asked, followed

    def _as_otherwise(self, training: bool) -> Pairing | None:
        """Another layout or map with which all that comes out agrees."""
        for other in self.pairing.others():
            if not other.same_structure():
                continue
            asked = other.asked(training, 0, backward=False)
            try:
                followed = follow(other.telling, asked, other.pairs)
            except UsageError:
                continue
            judged = [held for held in followed.held if held.unknown == 0]
            if judged and not followed.parting("forward"):
                return other
        return None

    def _of_wide_draws(self, training: bool, followed: Followed) -> list[Finding]:
        """What parts only where values are large: a bound that one of both does not have."""
        models, pairs = self.pairing.telling, self.pairing.pairs
        for spread in _SPREADS:
            if not any(trace.idle for trace in followed.traces):
                break
            self.progress("a bound is reached by nothing: larger inputs and scales")
            asked = self.pairing.asked(training, 0, backward=False, spread=spread)
            followed = follow(models, asked, pairs)
            if followed.parting("forward"):
                known = Known({}, [])
                found = search(models, asked, pairs, followed, known, self.progress)[0]
                # Where all is large much else parts that never does so: a shortcut of a library.
                return [
                    finding for finding in found if finding.cause is not None
                    and any(name in finding.cause.words for name in _BOUNDED)
                ]  # fmt: skip
        return []

    def _held(
        self, followed: Followed, mode: str, changed: frozenset[str], *, explained: bool
    ) -> None:
        tally = self.tally
        statistics = judged_statistics(followed)
        for held in followed.held:
            if held.unknown:
                tally.unjudged[_unjudged(held, followed)] = None
                if held.aspect == "forward" and held.unknown == held.first.value.size:
                    tally.blind.append(f"of {held.name} no element can be judged")
            if held.unknown < held.first.value.size and (explained or held.aspect == "forward"):
                tally.compared[held.aspect] = tally.compared.get(held.aspect, 0) + 1
                if not held.parts:
                    tally.furthest = max(tally.furthest, held.ratio)
        if not explained:
            return
        # A weight that was turned to explain the forward has its gradient turned, too.
        gradients = [h for h in followed.parting("gradient") if h.name not in changed]
        for held in [h for h in gradients if _only_padding(h, followed)]:
            gradients.remove(held)
            tally.partings.append((mode, Parting(
                owner(held.name), "gradient", Cause("padding-row-gradient", ""), _off(held),
            )))  # fmt: skip
        if gradients:
            worst = max(gradients, key=lambda held: held.ratio)
            stopped = [h for h in gradients if not np.any(h.second.value)]
            cause = None
            if stopped and all(
                not np.any(h.second.value) for h in gradients if not h.name.startswith("input ")
            ):
                worst = stopped[0]
                cause = Cause("gradient-stopped", f"the gradient of {worst.name} is zero")
            tally.partings.append((mode, Parting(
                place_of_gradient(followed), "gradient", cause,
                f"{worst.name}: {_off(worst)}",
            )))  # fmt: skip
        for held in statistics:
            if held.parts:
                tally.partings.append((mode, Parting(
                    owner(held.name), "running statistics", cause_of_statistics(followed, held),
                    f"{held.name.rpartition('.')[2].rpartition('/')[2]}: {_off(held)}",
                )))  # fmt: skip

    def _finite(self, followed: Followed) -> None:
        for side, trace in zip(self.pairing.sides, followed.traces, strict=True):
            for path, at in trace.outputs.items():
                bad = ~np.isfinite(at.value)
                if bad.any() and (side is self.pairing.sides[0] or bad.all()):
                    kind = "NaN" if np.isnan(at.value).any() else "infinite"
                    raise UsageError(
                        f"{side.said}: {path} is {kind} at {int(bad.sum())} of {bad.size} places: "
                        "there is nothing to compare with"
                    )


def _unjudged(held: Held, followed: Followed) -> str:
    """How many elements are not judged, and why."""
    names = dict.fromkeys(name for trace in followed.traces for name in trace.without_rule)
    why = RANDOM if RANDOM in names else ", ".join(names)
    why = f"for want of a rule for {why}" if why else "since their errors are too large"
    return f"{held.aspect} {held.name}: {held.unknown} of {held.first.value.size} elements, {why}"


def _shapes_of(followed: Followed, side: int) -> dict[str, Shape]:
    return {path: at.value.shape for path, at in followed.traces[side].outputs.items()}


def _only_padding(held: Held, followed: Followed) -> bool:
    """Whether a table's gradients differ in the one row that the original keeps for padding."""
    calls = [c for c in followed.traces[0].calls if c.module == owner(held.name)]
    kept = {c.settings["padding_idx"] for c in calls if "padding_idx" in c.settings}
    apart = np.abs(held.first.value - held.second.value) > held.first.error + held.second.error
    return set(np.flatnonzero(apart.any(tuple(range(1, apart.ndim))))) == kept != set()


def _off(held: Held) -> str:
    expected = Approximate(held.first.value, held.first.error + held.second.error)
    return off(held.second.value, expected)


def to_stderr(words: str) -> None:
    """Progress, where somebody may wait."""
    print(f"compare: {words}", file=sys.stderr, flush=True)
