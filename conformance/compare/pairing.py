"""Two models side by side: their weights mapped, their inputs drawn, their layouts found out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from conformance.compare import inputs as dyadic
from conformance.compare import map_file as maps
from conformance.compare.load_model import Side, model_of
from conformance.compare.settings import Settings, Shape
from conformance.compare.trace import NEVER, Asked, Model, Reached
from conformance.compare.weights import Pair, by_name_and_shape, moved, turned
from conformance.core.outcomes import UsageError

Inputs = Mapping[int | str, np.ndarray]
# From which rank on a JAX model's inputs and outputs may have their channels last; the first is
# what its layers have.
_RANKS = ((4, 4), (NEVER, NEVER), (3, 3), (4, NEVER), (3, NEVER), (NEVER, 4), (NEVER, 3))


@dataclass(frozen=True)
class Pairing:
    """Both models and what they are given.

    Attributes:
        pairs: which weight goes where.
        inputs: as they are drawn first; integers stay as they are.
        shapes: of both models' outputs, channels at axis 1.
        is_guess: whether layouts and maps may be found out by trying.
        note: what was found out so.
    """

    sides: tuple[Side, Side]
    models: tuple[Model, Model]
    pairs: tuple[Pair, ...]
    inputs: Inputs
    settings: Settings
    shapes: Sequence[Mapping[str, Shape]]
    is_guess: bool
    note: str = ""

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

    @property
    def telling(self) -> tuple[Model, Model]:
        """Both models, whose errors say which of them it is."""
        return cast("tuple[Model, Model]", tuple(map(Telling, self.sides, self.models)))

    def same_structure(self) -> bool:
        """Whether outputs have equal shapes.

        Raises:
            UsageError: if there are other outputs, or another number of them.
        """
        first, second = self.shapes
        if set(first) != set(second):
            raise UsageError(
                "outputs have another structure: "
                + ", ".join(
                    f"{s.said} gives {', '.join(o) or 'nothing'}"
                    for s, o in zip(self.sides, self.shapes, strict=True)
                )
            )
        return dict(first) == dict(second)

    def unequal(self) -> str:
        """What shapes there are, where they are not equal."""
        words = ", ".join(
            f"{side.said} gives {', '.join(str(list(s)) for s in shapes.values())}"
            for side, shapes in zip(self.sides, self.shapes, strict=True)
        )
        return f"outputs have unequal shapes, channels at axis 1: {words}"

    def others(self) -> Iterator["Pairing"]:
        """What a right port may be as well: other layouts, and square weights turned."""
        if not self.is_guess:
            return
        other_pairs = turned(self.pairs, *self.models)
        for layout in (self, *self._layouts()):
            if layout is not self:
                yield layout
            if other_pairs is not None:
                words = "square weights are mapped the other way round"
                note = "; ".join(filter(None, (layout.note, words)))
                yield replace(layout, pairs=other_pairs, note=note)

    def _moves(self, models: tuple[Model, Model]) -> list[list[bool]]:
        """Of which inputs and outputs the axes are moved, in each model."""
        return [
            [x.ndim >= given for x in self.inputs.values()]
            + [len(shape) >= returned for shape in self.shapes[0].values()]
            for given, returned in _ranks(models)
        ]

    def _layouts(self) -> Iterator["Pairing"]:
        training = self.settings.modes[0]
        seen = [self._moves(self.models)]
        for models in _laid(self.models, self.settings):
            if self._moves(models) in seen:
                continue
            seen.append(self._moves(models))
            try:
                shapes = _both_shapes(self.sides, models, self.inputs, training)
            except UsageError:
                continue
            if dict(shapes[0]) == dict(shapes[1]):
                yield replace(self, models=models, shapes=shapes, note=_layout(models))


def paired(sides: tuple[Side, Side], settings: Settings, map_file: Path | None) -> Pairing:
    """Both models with their weights mapped, and the shapes of their outputs."""
    models = (
        model_of(sides[0], settings.layouts[0]), model_of(sides[1], settings.layouts[1]),
    )  # fmt: skip
    generator = np.random.default_rng(settings.seed)
    xs: Inputs = {key: _drawn(x, generator) for key, x in settings.inputs.items()}
    if any(x.size == 0 for x in xs.values()):
        raise UsageError("an input has no elements: nothing would be compared")
    laid, xs, shapes, pairs = _running(sides, models, xs, settings, map_file, generator)
    return Pairing(sides, laid, pairs, xs, settings, shapes, map_file is None,
                   "" if _ranks(laid) == _ranks(models) else _layout(laid))  # fmt: skip


_Run = tuple[tuple[Model, Model], Inputs, Sequence[Mapping[str, Shape]], tuple[Pair, ...]]


def _running(
    sides: tuple[Side, Side], models: tuple[Model, Model], xs: Inputs, settings: Settings,
    map_file: Path | None, generator: np.random.Generator,
) -> _Run:  # fmt: skip
    """The first layout in which both run and give equal shapes, else the first in which they run.

    Where floats do not do, token numbers are tried.
    """
    shaped = {k for k, x in settings.inputs.items() if isinstance(x, tuple)}
    unrun: UsageError | None = None
    unmapped: UsageError | None = None
    runs: _Run | None = None
    for is_ids in (False, True) if shaped else (False,):
        if is_ids:
            rows = [n for n in (m.vocabulary() for m in models) if n is not None]
            if not rows or runs is not None:
                break
            xs = {k: dyadic.drawn_ids(x.shape, min(rows), generator) if k in shaped else x
                  for k, x in xs.items()}  # fmt: skip
        for laid in _laid(models, settings):
            try:
                shapes = _both_shapes(sides, laid, xs, settings.modes[0])
            except UsageError as error:
                unrun = unrun or error
                continue
            try:
                pairs = by_name_and_shape(*laid) if map_file is None else maps.read(map_file, *laid)
            except UsageError as error:
                unmapped = unmapped or error
                continue
            if dict(shapes[0]) == dict(shapes[1]):
                return laid, xs, shapes, pairs
            runs = runs or (laid, xs, shapes, pairs)
    if runs is None:
        refused = unmapped or unrun  # Whoever gets as far as the map ran on these inputs.
        assert refused is not None
        raise refused
    return runs


def _laid(models: tuple[Model, Model], settings: Settings) -> Iterator[tuple[Model, Model]]:
    """Both as they are, then a port to or from JAX that takes its inputs in another layout."""
    yield models
    kinds = [m.framework for m in models]
    if kinds[0] == kinds[1] or settings.layouts != (None, None):
        return
    place = kinds.index("jax")
    for ranks in _RANKS[1:]:
        other = models[place].laid(*ranks)
        yield (other, models[1]) if place == 0 else (models[0], other)


def _ranks(models: tuple[Model, Model]) -> list[tuple[int, int]]:
    return [(m.channels_from, m.outputs_from) for m in models]


def _layout(models: tuple[Model, Model]) -> str:
    given, returned = next(r for r, m in zip(_ranks(models), models, strict=True)
                           if m.framework == "jax")  # fmt: skip
    if given == returned == NEVER:
        return "arrays go to both models as they lie"
    words = [
        f"{what} {'lie as in torch' if rank == NEVER else f'come last from rank {rank} on'}"
        for what, rank in (("channels of inputs", given), ("those of outputs", returned))
    ]
    return f"in JAX {', '.join(words)}"


def _both_shapes(
    sides: tuple[Side, Side], models: tuple[Model, Model], xs: Inputs, training: bool
) -> Sequence[Mapping[str, Shape]]:
    return [_shapes(s, m, xs, training) for s, m in zip(sides, models, strict=True)]


def _drawn(x: Shape | np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if isinstance(x, tuple):
        return dyadic.drawn(x, generator)
    return x.astype(np.float64) if x.dtype.kind == "f" else x


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
class Telling:
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
