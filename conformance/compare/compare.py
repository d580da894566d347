"""Two models, one input, and where the second parts from the first."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare import inputs as dyadic
from conformance.compare import map_file as maps
from conformance.compare.catalogue import Cause
from conformance.compare.distance import off
from conformance.compare.judge import Aspect, Followed, Held, follow, place_of_gradient
from conformance.compare.load_model import LAYOUTS, Side, model_of
from conformance.compare.running_statistics import cause_of_statistics, judged_statistics
from conformance.compare.search import Finding, Known, search
from conformance.compare.trace import Asked, Model, Reached, owner
from conformance.compare.weights import Pair, by_name_and_shape, moved
from conformance.core.outcomes import UsageError

Shape = tuple[int, ...]
_DRAWS = 8
# Where a bound, such as ReLU6's, is reached by nothing, inputs and scales are drawn so much larger.
_SPREADS = (8.0, 64.0)


@dataclass(frozen=True)
class Settings:
    """How two models are compared.

    Attributes:
        inputs: by place or name a shape, channels at axis 1; or an array.
        modes: of training and evaluation those that are run; True is training.
        seed: of inputs and weights.
        layouts: `channels_first` or `channels_last` for each side; None: as its framework has it.
        allowed: names of causes that are told and do not count.
    """

    inputs: Mapping[int | str, Shape | np.ndarray]
    modes: tuple[bool, ...] = (True, False)
    seed: int = 0
    layouts: tuple[str | None, str | None] = (None, None)
    allowed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parting:
    """Where the second model does something else.

    Attributes:
        layer: the first model's submodule, or `code before NAME` where no submodule does it.
        aspect: of what.
        cause: the change that makes the original do what the port does; None where none is known.
        words: how far it is off.
        mode: training or evaluation, where it is in one of them alone.
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
    pair = _paired(sides, settings, map_file)
    tally = _Tally()
    gc.freeze()  # Two frameworks are many objects: to look through them takes longer than a run.
    try:
        for training in settings.modes:
            pair.judge(training, tally, progress)
    finally:
        gc.unfreeze()
    partings = _merged(tally.partings, len(settings.modes))
    counted = [p for p in partings if p.cause is None or p.cause.name not in settings.allowed]
    if not counted and (tally.blind or not tally.compared.get("forward")):
        reasons = "; ".join((*tally.blind, *tally.unjudged)) or "no float came out"
        raise UsageError(f"nothing could be compared: {reasons}")
    return Compared(
        pairs=pair.pairs,
        partings=tuple(counted),
        allowed=tuple(p for p in partings if p not in counted),
        compared=tally.compared,
        furthest=tally.furthest,
        unjudged=tuple(tally.unjudged),
        notes=tuple(tally.notes),
    )


def _merged(partings: Sequence[tuple[str, Parting]], modes: int) -> list[Parting]:
    """Each place once; in which mode is said where it is one of two."""
    rows: dict[tuple[str, str, str | None], tuple[Parting, list[str]]] = {}
    for mode, parting in partings:
        key = parting.layer, parting.aspect, parting.cause.name if parting.cause else None
        rows.setdefault(key, (parting, []))[1].append(mode)
    order = {"forward": 0, "gradient": 1, "running statistics": 2}
    of_buffers = "running statistics"  # They are kept in training alone.
    merged = [
        Parting(p.layer, p.aspect, p.cause, p.words,
                where[0] if len(set(where)) == 1 < modes and p.aspect != of_buffers else "")
        for p, where in rows.values()
    ]  # fmt: skip
    return sorted(merged, key=lambda p: order[p.aspect])


def map_as_toml(sides: tuple[Side, Side], settings: Settings, map_file: Path | None) -> str:
    """The map that `compare` would use, as a file to edit."""
    pair = _paired(sides, settings, map_file)
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


def _paired(sides: tuple[Side, Side], settings: Settings, map_file: Path | None) -> "_Pair":
    """Both models with their weights mapped, and the shapes of their outputs."""
    first, second = (
        model_of(side, layout) for side, layout in zip(sides, settings.layouts, strict=True)
    )
    models = first, second
    generator = np.random.default_rng(settings.seed)
    xs = {key: _drawn(x, generator) for key, x in settings.inputs.items()}
    if any(x.size == 0 for x in xs.values()):
        raise UsageError("an input has no elements: nothing would be compared")
    training = settings.modes[0]
    try:
        shapes = [_shapes(s, m, xs, training) for s, m in zip(sides, models, strict=True)]
    except UsageError as refused:
        rows = [n for n in (first.vocabulary(), second.vocabulary()) if n is not None]
        shaped = {k for k, x in settings.inputs.items() if isinstance(x, tuple)}
        if not rows or not shaped:
            raise
        ids = {k: dyadic.drawn_ids(x.shape, min(rows), generator) if k in shaped else x
               for k, x in xs.items()}  # fmt: skip
        try:
            shapes = [_shapes(s, m, ids, training) for s, m in zip(sides, models, strict=True)]
        except UsageError:
            raise refused from None
        xs = ids
    pairs = by_name_and_shape(*models) if map_file is None else maps.read(map_file, *models)
    return _Pair(sides, models, pairs, xs, settings, shapes)


def _shapes(
    side: Side, model: Model, inputs: Mapping[int | str, np.ndarray], training: bool
) -> Mapping[str, Shape]:
    with _told(side, inputs):
        return model.shapes(inputs, training=training)
    raise AssertionError


class _told:  # noqa: N801
    """Whatever a model raises is one line that says which model, on what."""

    def __init__(self, side: Side, inputs: Mapping[int | str, np.ndarray]) -> None:
        self._side, self._inputs = side, inputs

    def __enter__(self) -> None:
        """Begins."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raises what is to be told instead."""
        if error is None or isinstance(error, KeyboardInterrupt | Reached):
            return
        said = self._side.said
        if isinstance(error, UsageError):
            if str(error).startswith(said):
                return
            raise UsageError(f"{said}: {error}") from error
        if isinstance(error, SystemExit):
            raise UsageError(
                f"{said}: the model left the program (SystemExit {error.code})"
            ) from error
        lines = str(error).splitlines() or [""]
        shapes = [list(x.shape) for x in self._inputs.values()]
        raise UsageError(
            f"{said}: does not run on inputs {shapes} (channels at axis 1): "
            f"{type(error).__name__}: {lines[0]}"
        ) from error


@dataclass(frozen=True)
class _Telling:
    """A model whose errors say which model it is."""

    side: Side
    model: Model

    def run(self, asked: Asked) -> object:
        """As the model does."""
        with _told(self.side, asked.inputs):
            return self.model.run(asked)
        raise AssertionError

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)


@dataclass(frozen=True)
class _Pair:
    sides: tuple[Side, Side]
    models: tuple[Model, Model]
    pairs: tuple[Pair, ...]
    inputs: Mapping[int | str, np.ndarray]
    settings: Settings
    shapes: Sequence[Mapping[str, Shape]]

    def asked(
        self, training: bool, draw: int, *, backward: bool, spread: float = 1.0
    ) -> tuple[Asked, Asked]:
        """The same weights and inputs for both."""
        generator = np.random.default_rng((self.settings.seed, draw))
        weights = dyadic.drawn_weights(self.models[0], generator, spread)
        given = self.settings.inputs
        xs = {
            key: spread * dyadic.drawn(x.shape, generator)
            if isinstance(given[key], tuple) and x.dtype.kind == "f" else x
            for key, x in self.inputs.items()
        }  # fmt: skip
        seeds = {path: dyadic.drawn(s, generator) for path, s in self.shapes[0].items()}
        second = moved(self.pairs, weights, self.models[1].weights())
        asked = Asked(weights, xs, seeds if backward else None, training)
        return asked, Asked(second, xs, asked.seeds, training)

    def judge(self, training: bool, tally: _Tally, progress: Callable[[str], None]) -> None:
        """One mode: until no comparison is unsure, or eight draws are through."""
        mode = "training" if training else "evaluation"
        backward = self._same_structure()
        first, second = map(_Telling, self.sides, self.models)
        models = cast("tuple[Model, Model]", (first, second))
        for draw in range(_DRAWS):
            progress(f"{mode}: both models with errors carried, draw {draw + 1}")
            asked = self.asked(training, draw, backward=backward)
            followed = follow(models, asked, self.pairs)
            self._finite(followed)
            if not followed.unsure:
                break
        else:
            what = ", ".join(f"{n} of {name}" for name, n in followed.unsure.items())
            tally.notes[f"after {_DRAWS} draws it is still unsure how some turn out: {what}"] = None
        for side, trace in zip(self.sides, followed.traces, strict=True):
            if trace.silenced:
                tally.notes[f"dropout left out in {side.said}"] = None
        findings: list[Finding] = []
        changed: frozenset[str] = frozenset()
        if not backward or followed.parting("forward"):
            progress(f"{mode}: looking for what was done otherwise")
            findings, followed, changed = search(
                models, asked, self.pairs, followed, tally.known, progress
            )
        if backward and not findings:
            findings = self._of_wide_draws(models, training, followed, tally, progress)
        for finding in findings:
            tally.partings.append(
                (mode, Parting(finding.layer, "forward", finding.cause, finding.words))
            )
        if not backward and _shapes_of(followed, 0) != _shapes_of(followed, 1):
            parted = tally.partings[0][1] if tally.partings else None
            at = f"; it parts first at {parted.layer}: {parted.words}" if parted else ""
            raise UsageError(self._unequal() + at)
        explained = not followed.parting("forward")
        self._held(followed, tally, mode, changed, explained=explained)

    def _of_wide_draws(
        self, models: tuple[Model, Model], training: bool, followed: Followed, tally: _Tally,
        progress: Callable[[str], None],
    ) -> list[Finding]:  # fmt: skip
        """What parts only where values are large: a bound that one of both does not have."""
        for spread in _SPREADS:
            if not any(trace.idle for trace in followed.traces):
                break
            progress("a bound is reached by nothing: larger inputs and scales")
            asked = self.asked(training, 0, backward=False, spread=spread)
            followed = follow(models, asked, self.pairs)
            if followed.parting("forward"):
                return search(models, asked, self.pairs, followed, tally.known, progress)[0]
        return []

    def _held(
        self, followed: Followed, tally: _Tally, mode: str, changed: frozenset[str],
        *, explained: bool,
    ) -> None:  # fmt: skip
        statistics = judged_statistics(followed)
        for held in followed.held:
            if held.unknown:
                why = ", ".join(dict.fromkeys(
                    name for trace in followed.traces for name in trace.without_rule
                ))  # fmt: skip
                tally.unjudged[
                    f"{held.aspect} {held.name}: {held.unknown} of {held.first.value.size} elements"
                    + (f", for want of a rule for {why}" if why else ", since errors have no end")
                ] = None
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
                not np.any(h.second.value) for h in gradients if h.name != "input 0"
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
        for side, trace in zip(self.sides, followed.traces, strict=True):
            for path, at in trace.outputs.items():
                bad = ~np.isfinite(at.value)
                if bad.any() and (side is self.sides[0] or bad.all()):
                    kind = "NaN" if np.isnan(at.value).any() else "infinite"
                    raise UsageError(
                        f"{side.said}: {path} is {kind} at {int(bad.sum())} of {bad.size} places: "
                        "there is nothing to compare with"
                    )

    def _same_structure(self) -> bool:
        first, second = self.shapes
        if len(first) != len(second) or set(first) != set(second):
            raise UsageError(
                "outputs have another structure: "
                + ", ".join(
                    f"{s.said} gives {', '.join(o)}"
                    for s, o in zip(self.sides, self.shapes, strict=True)
                )
            )
        return dict(first) == dict(second)

    def _unequal(self) -> str:
        words = ", ".join(
            f"{side.said} gives {', '.join(str(list(s)) for s in shapes.values())}"
            for side, shapes in zip(self.sides, self.shapes, strict=True)
        )
        return f"outputs have unequal shapes, channels at axis 1: {words}"


def _shapes_of(followed: Followed, side: int) -> dict[str, Shape]:
    return {path: at.value.shape for path, at in followed.traces[side].outputs.items()}


def _only_padding(held: Held, followed: Followed) -> bool:
    """Whether a table's gradients differ in one row alone, which the original keeps at zero."""
    kinds = {call.type for call in followed.traces[0].calls if call.module == owner(held.name)}
    if kinds != {"Embedding"}:
        return False
    apart = np.abs(held.first.value - held.second.value) > held.first.error + held.second.error
    rows = np.flatnonzero(apart.any(tuple(range(1, apart.ndim))))
    return len(rows) == 1 and not held.first.value[rows].any()


def _off(held: Held) -> str:
    expected = Approximate(held.first.value, held.first.error + held.second.error)
    return off(held.second.value, expected)


def _drawn(x: Shape | np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if isinstance(x, tuple):
        return dyadic.drawn(x, generator)
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def read_inputs(said: Sequence[str]) -> dict[int | str, Shape | np.ndarray]:
    """`4,6,12,12` or FILE.npy, each perhaps with NAME= before it.

    >>> read_inputs(["4,6", "mask=4"])
    {0: (4, 6), 'mask': (4,)}
    """
    read: dict[int | str, Shape | np.ndarray] = {}
    for text in said:
        name, _, rest = text.rpartition("=")
        read[name or len([k for k in read if isinstance(k, int)])] = _read_input(rest)
    return read


def _read_input(said: str) -> Shape | np.ndarray:
    if said.endswith(".npy"):
        try:
            return np.load(said, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"--input {said}: cannot be read: {error}") from error
    try:
        shape = tuple(int(part) for part in said.replace("x", ",").split(","))
    except ValueError as error:
        raise UsageError(f"--input {said!r}: write a shape, 4,6,12,12, or FILE.npy") from error
    if min(shape) < 1:
        raise UsageError(f"--input {said!r}: every axis has at least one element")
    return shape


def read_layouts(said: str | None) -> tuple[str | None, str | None]:
    """`channels_first,channels_last`, the first model's and the second's."""
    if said is None:
        return None, None
    parts = said.split(",")
    if len(parts) != 2 or any(part not in LAYOUTS for part in parts):
        raise UsageError(f"--layout {said!r}: write two of {' and '.join(LAYOUTS)} with a comma")
    return parts[0], parts[1]


def to_stderr(words: str) -> None:
    """Progress, where somebody may wait."""
    print(f"compare: {words}", file=sys.stderr, flush=True)
