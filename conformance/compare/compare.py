"""Two models, one input, and where the second parts from the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformance.compare import inputs as dyadic
from conformance.compare.held_to import Judged, Parting, judge
from conformance.compare.load_model import LAYOUTS, Side, model_of
from conformance.compare.trace import Model, Trace
from conformance.compare.weights import Pair, as_toml, by_shape_and_order, read
from conformance.core.outcomes import UsageError

# Kernels as they keep the size of what passes, and 2^5 times smaller: then variances are small.
SHIFTS = (0, 5)


@dataclass(frozen=True)
class Settings:
    """How two models are compared.

    Attributes:
        inputs: for each argument a shape, channels at axis 1; or an array.
        training: whether batch norms use, and keep, the batch's statistics.
        seed: of inputs and weights.
        layouts: `channels_first` or `channels_last` for each side; None: as its framework has it.
        allowed: names of causes that are told and do not count.
    """

    inputs: tuple[tuple[int, ...] | np.ndarray, ...]
    training: bool = True
    seed: int = 0
    layouts: tuple[str | None, str | None] = (None, None)
    allowed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Compared:
    """What was found with each size of weights, and the map."""

    pairs: tuple[Pair, ...]
    judged: tuple[Judged, ...]
    partings: tuple[Parting, ...]
    allowed: tuple[Parting, ...]


def compare(sides: tuple[Side, Side], settings: Settings, map_file: Path | None = None) -> Compared:
    """Run both and hold the second to the first.

    Raises:
        UsageError: if a model cannot be made or run, weights cannot be mapped, or outputs have
            unequal shapes.
    """
    pair, shapes = _paired(sides, settings, map_file)
    if shapes[0] != shapes[1]:
        raise UsageError(_unequal(pair, shapes))
    judged = [pair.judged(shift, shapes[0]) for shift in SHIFTS]
    everything = list(dict.fromkeys(_told(judged)))
    counted = [p for p in everything if p.cause is None or p.cause.name not in settings.allowed]
    return Compared(
        pairs=pair.pairs,
        judged=tuple(judged),
        partings=tuple(counted),
        allowed=tuple(p for p in everything if p not in counted),
    )


def map_as_toml(sides: tuple[Side, Side], settings: Settings, map_file: Path | None) -> str:
    """The map that `compare` would use, as a file to edit."""
    pair, _ = _paired(sides, settings, map_file)
    return as_toml(pair.pairs, *pair.models)


def write(text: str, path: Path) -> None:
    """Write the map.

    Raises:
        UsageError: if the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--write-map {path}: {error.strerror}") from error


def _paired(
    sides: tuple[Side, Side], settings: Settings, map_file: Path | None
) -> tuple["_Pair", list[tuple[int, ...]]]:
    """Both models with their weights mapped, and the shapes of their outputs."""
    first, second = (
        model_of(one, layout) for one, layout in zip(sides, settings.layouts, strict=True)
    )
    models = first, second
    generator = np.random.default_rng(settings.seed)
    inputs = [_input(one, generator) for one in settings.inputs]
    shapes = [  # which modules are called, in which order, shows too
        _run(one, model, {}, inputs, None, training=settings.training).output.shape
        for one, model in zip(sides, models, strict=True)
    ]
    pairs = by_shape_and_order(*models) if map_file is None else read(map_file, *models)
    return _Pair(sides, models, pairs, inputs, settings, generator), shapes


def _told(judged: Sequence[Judged]) -> list[Parting]:
    """Of the draws the partings of each place once: the first, unless a later one has a cause."""
    first, *others = judged
    found = {(p.layer, p.aspect): p for p in first.partings}
    for other in others:
        for parting in other.partings:
            key = (parting.layer, parting.aspect)
            if key not in found or (found[key].cause is None and parting.cause is not None):
                found[key] = parting
    order = {"forward": 0, "gradient": 1, "running statistics": 2}
    return sorted(found.values(), key=lambda p: order[p.aspect])


@dataclass(frozen=True)
class _Pair:
    sides: tuple[Side, Side]
    models: tuple[Model, Model]
    pairs: tuple[Pair, ...]
    inputs: Sequence[np.ndarray]
    settings: Settings
    generator: np.random.Generator

    def judged(self, shift: int, shape: tuple[int, ...] | None) -> Judged:
        """With weights of one size; with gradients where both outputs have a shape in common."""
        weights = dyadic.drawn_weights(self.models[0], self.generator, shift)
        seed = None if shape is None else dyadic.drawn_input(shape, self.generator)
        moved = {pair.second: pair.to_second(weights[pair.first]) for pair in self.pairs}
        first, second = (
            _run(one, model, own, self.inputs, seed, training=self.settings.training)
            for one, model, own in zip(self.sides, self.models, (weights, moved), strict=True)
        )
        training = self.settings.training
        return judge((first, second), self.pairs, weights, seed, training=training)


def _unequal(pair: _Pair, shapes: Sequence[tuple[int, ...]]) -> str:
    words = ", ".join(
        f"{one.said} gives {list(shape)}" for one, shape in zip(pair.sides, shapes, strict=True)
    )
    partings = pair.judged(SHIFTS[0], None).partings
    first = f"; it parts first at {partings[0].layer}: {partings[0].words}" if partings else ""
    return f"outputs have unequal shapes, channels at axis 1: {words}{first}"


def _run(
    one: Side,
    model: Model,
    weights: Mapping[str, np.ndarray],
    inputs: Sequence[np.ndarray],
    cotangent: np.ndarray | None,
    *,
    training: bool,
) -> Trace:
    try:
        return model.run(weights, inputs, cotangent, training=training)
    except UsageError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [""]
        shapes = [list(x.shape) for x in inputs]
        raise UsageError(
            f"{one.said}: does not run on inputs {shapes} (channels at axis 1): "
            f"{type(error).__name__}: {lines[0]}"
        ) from error


def _input(one: tuple[int, ...] | np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return dyadic.drawn_input(one, generator) if isinstance(one, tuple) else one


def read_input(said: str) -> tuple[int, ...] | np.ndarray:
    """`4,6,12,12` or FILE.npy.

    >>> read_input("4,6,12,12")
    (4, 6, 12, 12)
    """
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
