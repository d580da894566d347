"""Which weight of the first model goes where in the second: by name, by shape, by order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.recurrent import fused_pairs
from conformance.compare.trace import Model, owner
from conformance.core.outcomes import UsageError

# Names of one role, in whatever framework; the first three are of batch norms and affine maps.
_ROLES = {
    "running_mean": ("running_mean", "mean"),
    "running_var": ("running_var", "var"),
    "bias": ("bias", "b"),
    "weight": ("weight", "kernel", "scale", "embedding", "w"),
}
# Axes of a Flax kernel in terms of a torch weight's: OI → IO, OIW → WIO, OIHW → HWIO, …
_TO_FLAX = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0), 5: (2, 3, 4, 1, 0)}
# Of a transposed convolution's, whose torch weight is IOHW and whose Flax kernel HWIO or HWOI.
_TRANSPOSED = {3: ((2, 1, 0), (2, 0, 1)), 4: ((2, 3, 1, 0), (2, 3, 0, 1))}
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Pair:
    """One weight, or a part of it, in both models.

    Attributes:
        first, second: its names.
        transpose: the axes of `second` in terms of `first`'s.
        take: the rows of `first` that it is, where it is not all of it.
        shape: what `second`'s part is reshaped to, where it has other axes.
        place: the last axis' entries of `second` that it fills, where it is not all of them.
        adds: whether it is added to what another pair gave: two biases that became one.
    """

    first: str
    second: str
    transpose: tuple[int, ...]
    take: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None
    place: tuple[int, int] | None = None
    adds: bool = False

    def to_second(self, values: np.ndarray) -> np.ndarray:
        """The first model's weight in the second's form."""
        part = values if self.take is None else values[slice(*self.take)]
        moved = np.array(part.transpose(self.transpose), order="C")
        return moved if self.shape is None else moved.reshape(self.shape)

    def to_first(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The second model's weight, or its gradient, in the form of the first's rows."""
        part = values if self.place is None else values[..., slice(*self.place)]
        rows = shape if self.take is None else (self.take[1] - self.take[0], *shape[1:])
        moved = part.reshape([rows[axis] for axis in self.transpose])
        return moved.transpose(np.argsort(self.transpose))


def moved(
    pairs: Iterable[Pair], weights: Mapping[str, np.ndarray], shapes: Shapes
) -> dict[str, np.ndarray]:
    """The second model's weights, made of the first's."""
    made: dict[str, np.ndarray] = {}
    for pair in pairs:
        part = pair.to_second(weights[pair.first])
        if pair.place is not None:
            whole = made.setdefault(pair.second, np.zeros(shapes[pair.second]))
            whole[..., slice(*pair.place)] += part
        elif pair.adds and pair.second in made:
            made[pair.second] = made[pair.second] + part
        else:
            made[pair.second] = part
    return made


def gathered(
    pairs: Sequence[Pair],
    first: Mapping[str, Approximate],
    second: Mapping[str, Approximate],
) -> Iterator[tuple[str, Approximate, Approximate]]:
    """Each array of the first beside what the second's make in its form: their sum, where tied."""
    for name, own in first.items():
        value, error = np.zeros(own.value.shape), np.zeros(own.value.shape)
        parts = [pair for pair in pairs if pair.first == name and pair.second in second]
        for pair in parts:
            rows = ... if pair.take is None else slice(*pair.take)
            other = second[pair.second]
            wide = np.broadcast_to(other.error, other.value.shape)
            value[rows] += pair.to_first(np.asarray(other.value), value.shape)
            error[rows] += pair.to_first(wide, value.shape)
        if parts:
            yield name, own, Approximate(value, error)


def by_name_and_shape(first: Model, second: Model) -> tuple[Pair, ...]:
    """Equal names first; then modules with equal shapes, the likest names and earliest calls first.

    Raises:
        UsageError: if the models have no shape in common, or a weight has no place; it says which.
    """
    ours, theirs = dict(first.weights()), dict(second.weights())
    if not ours and not theirs:
        return ()
    if not ours or not theirs:
        which = first if not ours else second
        raise UsageError(f"the {which.framework} model has no weights: no submodule in common")
    pairs: list[Pair] = []
    left, other_left = dict(ours), dict(theirs)

    def claim(found: Sequence[Pair]) -> None:
        pairs.extend(found)
        for pair in found:
            left.pop(pair.first, None)
            other_left.pop(pair.second, None)

    claim(_equal_names(first, second, left, other_left))
    claim(fused_pairs(left, other_left, Pair))
    homeless: list[str] = []
    for module, names in _by_owner(left).items():
        fits = [
            (_likeness(module, other), found)
            for other, there in _by_owner(other_left).items()
            if (found := _matched(first, second, names, there)) is not None
        ]
        if fits:
            best = max(likeness for likeness, _ in fits)
            claim(next(found for likeness, found in fits if likeness == best))
        else:
            homeless += names
    for name in [name for name in homeless if ours[name]]:
        alone = _alone(first, second, name, ours[name], other_left)
        if alone is not None:
            claim([alone])
            homeless.remove(name)
    for name, shape in list(other_left.items()):  # What torch ties, the port may hold twice.
        tied = _tied(first, second, name, shape, ours)
        if tied is not None:
            claim([tied])
    if not pairs:
        raise UsageError(
            "no submodule in common: no module of the one model has weights of the same shapes as "
            f"one of the other ({shown(ours, homeless)} against {shown(theirs, theirs)})"
        )
    # Statistics that the port alone keeps are left as its own code makes them.
    unfilled = [name for name in other_left if not _role(name).startswith("running")]
    _all_placed(ours, theirs, homeless, unfilled)
    return _as_the_others(pairs, ours, theirs) if first.framework != second.framework else (*pairs,)


def _as_the_others(pairs: Sequence[Pair], ours: Shapes, theirs: Shapes) -> tuple[Pair, ...]:
    """Square kernels as those lie that are not square, where all of these lie in one way."""
    kernels = [
        p for p in pairs if len(p.transpose) == len(theirs[p.second]) == 2 and p.take is None
        and p.place is None and (p.second.endswith("kernel") or p.first.endswith("kernel"))
    ]  # fmt: skip
    ways = {p.transpose for p in kernels if len(set(ours[p.first])) == 2}
    if ways != {(0, 1)}:
        return tuple(pairs)
    return tuple(replace(p, transpose=(0, 1)) if p in kernels else p for p in pairs)


def turned(pairs: Sequence[Pair], first: Model, second: Model) -> tuple[Pair, ...] | None:
    """The same, with square weights that are not named as kernels the other way round.

    None where there are none: a port's own `w` may be (in, out) or (out, in).
    """
    if first.framework == second.framework:
        return None
    shapes, out = first.weights(), []
    for pair in pairs:
        shape = shapes[pair.first]
        own = (pair.second if second.framework == "jax" else pair.first).endswith(
            ("kernel", "embedding")
        )
        is_whole = pair.take is None and pair.place is None and pair.shape is None
        square = len(shape) == 2 and shape[0] == shape[1] and is_whole and not own
        out.append(replace(pair, transpose=pair.transpose[::-1]) if square else pair)
    return tuple(out) if out != list(pairs) else None


def _tokens(name: str) -> tuple[str, ...]:
    """The words of a name, whatever joins them; the last one is its role.

    >>> _tokens("params/layers_0/q_proj/kernel") == _tokens("layers.0.q_proj.weight")
    True
    """
    for collection in ("params/", "batch_stats/"):
        name = name.removeprefix(collection)
    parts = name.replace("/", ".").split(".")
    words = [word for part in parts[:-1] for word in part.lower().split("_")]
    if _role(name) in _ROLES:
        return (*words, _role(name))
    last = parts[-1].lower().split("_")
    return (*words, *last[:-1], _role(last[-1]))


def _equal_names(first: Model, second: Model, ours: Shapes, theirs: Shapes) -> list[Pair]:
    by_tokens = {_tokens(name): name for name in theirs}
    pairs = []
    for name, shape in ours.items():
        other = by_tokens.get(_tokens(name))
        pair = None if other is None else _fitting(first, second, name, shape, other, theirs[other])
        if pair is not None:
            pairs.append(pair)
    return pairs


def _fitting(
    first: Model, second: Model, name: str, shape: tuple[int, ...],
    other: str, wanted: tuple[int, ...],
) -> Pair | None:  # fmt: skip
    for how in _transposes(first, second, name, other, len(shape)):
        if tuple(shape[axis] for axis in how) == wanted:
            return Pair(name, other, how)
    long = [axis for axis in range(len(shape)) if shape[axis] > 1]
    if 2 == len(long) == min(len(shape), len(wanted)) and 1 in (*shape, *wanted):
        # A convolution whose window is one place is a dense layer.
        ones = tuple(axis for axis in range(len(shape)) if shape[axis] == 1)
        order = long if first.framework == second.framework else long[::-1]
        if [size for size in wanted if size > 1] == [shape[axis] for axis in order]:
            return Pair(name, other, (*order, *ones), shape=wanted)
    if len(shape) == 1 < len(wanted) and sorted(wanted)[-2:] == [1, *shape]:
        return Pair(name, other, (0,), shape=wanted)  # As (C, 1, 1), ready to be added.
    return None


def _alone(
    first: Model, second: Model, name: str, shape: tuple[int, ...], left: Shapes
) -> Pair | None:
    """A single weight whose module has others elsewhere: the only one, or the likest by name."""
    fits = [
        (_likeness(name, other), pair)
        for other, wanted in left.items()
        if _role(other) == _role(name)
        and (pair := _fitting(first, second, name, shape, other, wanted)) is not None
    ]
    return max(fits, key=lambda fit: fit[0])[1] if fits else None


def _tied(
    first: Model, second: Model, name: str, shape: tuple[int, ...], ours: Shapes
) -> Pair | None:
    """An output's kernel that is an embedding's table."""
    if len(shape) != 2:
        return None
    tables = [
        pair for own, mine in ours.items() if "embed" in own.lower() or "wte" in own.lower()
        if (pair := _fitting(first, second, own, mine, name, shape)) is not None
    ]  # fmt: skip
    return tables[0] if len(tables) == 1 else None


def _likeness(name: str, other: str) -> int:
    """How many words of two paths are equal, wherever they stand."""
    ours = [w for part in name.replace("/", ".").split(".") for w in part.lower().split("_")]
    theirs = [w for part in other.replace("/", ".").split(".") for w in part.lower().split("_")]
    return len({w for w in ours if not w.isdigit()} & set(theirs))


def _all_placed(
    ours: Mapping[str, tuple[int, ...]],
    theirs: Mapping[str, tuple[int, ...]],
    homeless: list[str],
    unfilled: list[str],
) -> None:
    if homeless and unfilled:
        raise UsageError(
            f"weights cannot be mapped: {shown(ours, homeless)} of the first model, and "
            f"{shown(theirs, unfilled)} of the second, are left: name pairs in a --map FILE.toml"
        )
    if homeless:
        raise UsageError(
            f"weights cannot be mapped: {shown(ours, homeless)} of the first model: "
            "the second has none left of that shape"
        )
    if unfilled:
        raise UsageError(
            f"weights cannot be mapped: {shown(theirs, unfilled)} of the second model: "
            "the first has none left of that shape"
        )


def shown(shapes: Mapping[str, tuple[int, ...]], names: Iterable[str]) -> str:
    """The first four weights with their shapes, and how many more there are."""
    told = [f"{name} {list(shapes[name])}" for name in names]
    return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")


def _by_owner(names: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in names.items():
        found.setdefault(owner(name), {})[name] = shape
    return found


def _role(name: str) -> str:
    last = name.replace("/", ".").rpartition(".")[2]
    last = last.lower() if len(last) == 1 else last
    return next((role for role, names in _ROLES.items() if last in names), last)


def _matched(
    first: Model,
    second: Model,
    ours: Mapping[str, tuple[int, ...]],
    theirs: Mapping[str, tuple[int, ...]],
) -> list[Pair] | None:
    """The weights of one module each, by role; None where shapes or roles do not go together."""
    if len(ours) != len(theirs):
        return None
    by_role = {_role(name): name for name in theirs}
    pairs = []
    for name, shape in ours.items():
        other = by_role.get(_role(name))
        if other is None:
            return None
        pair = _fitting(first, second, name, shape, other, theirs[other])
        if pair is None:
            return None
        pairs.append(pair)
    return pairs


def _transposes(
    first: Model, second: Model, name: str, other: str, rank: int
) -> tuple[tuple[int, ...], ...]:
    """A Flax `kernel` has its axes the other way round from a torch `weight`."""
    same = tuple(range(rank))
    if first.framework == second.framework:
        return (same,)
    from_torch = first.framework == "torch"
    hows = [_TO_FLAX.get(rank, same), *_TRANSPOSED.get(rank, ())]
    if (other if from_torch else name).endswith("kernel"):
        hows.append(same)  # As GPT-2 keeps its kernels in torch, too.
    else:
        # A port's own `w` is (in, out), as it is multiplied; its `weight` is torch's.
        jax_name = other if from_torch else name
        hows = [*hows, same] if jax_name[-2:].lower() in (".w", "/w", "_w") else [same, *hows]
    if not from_torch:
        hows = [tuple(int(axis) for axis in np.argsort(how)) for how in hows]
    return tuple(dict.fromkeys(hows))
