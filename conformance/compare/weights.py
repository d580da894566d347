"""Which weight of the first model goes where in the second: by shape and order, or by a file."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformance.compare.trace import Model, owner
from conformance.core.outcomes import UsageError

# Names of one role, in whatever framework; the first four are of batch norms and affine maps.
_ROLES = {
    "running_mean": ("running_mean", "mean"),
    "running_var": ("running_var", "var"),
    "bias": ("bias",),
    "weight": ("weight", "kernel", "scale", "embedding"),
}
# Axes of a Flax kernel in terms of a torch weight's: OI → IO, OIW → WIO, OIHW → HWIO, …
_TO_FLAX = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0), 5: (2, 3, 4, 1, 0)}


@dataclass(frozen=True)
class Pair:
    """One weight in both models; `transpose` gives the axes of `second` in terms of `first`'s."""

    first: str
    second: str
    transpose: tuple[int, ...]

    def to_second(self, values: np.ndarray) -> np.ndarray:
        """The first model's weight in the second's form."""
        return np.ascontiguousarray(values.transpose(self.transpose))

    def to_first(self, values: np.ndarray) -> np.ndarray:
        """The second model's weight, or its gradient, in the first's form."""
        return values.transpose(np.argsort(self.transpose))


def by_shape_and_order(first: Model, second: Model) -> tuple[Pair, ...]:
    """Each module of the first with the earliest one of the second whose weights have its shapes.

    Raises:
        UsageError: if the models have no shape in common, or a weight has no place; it says which.
    """
    ours, theirs = first.weights(), second.weights()
    if not ours or not theirs:
        which = first if not ours else second
        raise UsageError(f"the {which.framework} model has no weights: no submodule in common")
    left = _by_owner(theirs)
    pairs: list[Pair] = []
    homeless: list[str] = []
    for module, names in _by_owner(ours).items():
        for other, there in left.items():
            found = _matched(first, second, names, there)
            if found is not None:
                pairs += found
                del left[other]
                break
        else:
            homeless += names
        del module
    if not pairs:
        raise UsageError(
            "no submodule in common: no module of the one model has weights of the same shapes as "
            f"one of the other ({_shown(ours, homeless)} against {_shown(theirs, theirs)})"
        )
    unfilled = [name for names in left.values() for name in names]
    _all_placed(ours, theirs, homeless, unfilled)
    return tuple(pairs)


def _all_placed(
    ours: Mapping[str, tuple[int, ...]],
    theirs: Mapping[str, tuple[int, ...]],
    homeless: list[str],
    unfilled: list[str],
) -> None:
    if homeless and unfilled:
        raise UsageError(
            f"weights cannot be mapped: {_shown(ours, homeless)} of the first model, and "
            f"{_shown(theirs, unfilled)} of the second, are left: name pairs in a --map FILE.toml"
        )
    if homeless:
        raise UsageError(
            f"weights cannot be mapped: {_shown(ours, homeless)} of the first model: "
            "the second has none left of that shape"
        )
    if unfilled:
        raise UsageError(
            f"weights cannot be mapped: {_shown(theirs, unfilled)} of the second model: "
            "the first has none left of that shape"
        )


def _shown(shapes: Mapping[str, tuple[int, ...]], names: Iterable[str]) -> str:
    told = [f"{name} {list(shapes[name])}" for name in names]
    return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")


def _by_owner(names: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in names.items():
        found.setdefault(owner(name), {})[name] = shape
    return found


def _role(name: str) -> str:
    last = name.replace("/", ".").rpartition(".")[2]
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
        how = _transpose(first, second, name, other, len(shape))
        if tuple(shape[axis] for axis in how) != theirs[other]:
            return None
        pairs.append(Pair(name, other, how))
    return pairs


def _transpose(first: Model, second: Model, name: str, other: str, rank: int) -> tuple[int, ...]:
    """A Flax `kernel` has its axes the other way round from a torch `weight`."""
    same = tuple(range(rank))
    if first.framework == second.framework:
        return same
    if first.framework == "torch":
        return _TO_FLAX.get(rank, same) if other.endswith("kernel") else same
    return (
        tuple(int(axis) for axis in np.argsort(_TO_FLAX.get(rank, same)))
        if name.endswith("kernel")
        else same
    )


def as_toml(pairs: Iterable[Pair], first: Model, second: Model) -> str:
    """The map as a file that a person edits and `--map` reads."""
    ours, theirs = first.weights(), second.weights()
    lines = [
        "# Which weight of the first model goes where in the second. `transpose` gives the axes of",
        "# `to` in terms of those of `from`: [2, 3, 1, 0] makes HWIO of OIHW.",
    ]
    for pair in pairs:
        lines += [
            "",
            "[[weight]]",
            f'from = "{pair.first}"  # {list(ours[pair.first])}',
            f'to = "{pair.second}"  # {list(theirs[pair.second])}',
            f"transpose = {list(pair.transpose)}",
        ]
    return "\n".join(lines) + "\n"


def read(path: Path, first: Model, second: Model) -> tuple[Pair, ...]:
    """The map in a file.

    Raises:
        UsageError: if it is missing or no TOML, or names a weight that is not there, twice, with
            another shape, or not at all.
    """
    ours, theirs = first.weights(), second.weights()
    pairs = []
    for number, entry in enumerate(_entries(path), 1):
        where = f"{path}: weight {number}"
        if not isinstance(entry, dict) or not {"from", "to"} <= set(entry):
            raise UsageError(f"{where}: an entry has `from`, `to` and, where needed, `transpose`")
        name, other = str(entry["from"]), str(entry["to"])
        for said, known, which in ((name, ours, "first"), (other, theirs, "second")):
            if said not in known:
                raise UsageError(f"{where}: the {which} model has no weight {said!r}")
        shape = ours[name]
        how = entry.get("transpose", list(range(len(shape))))
        if not isinstance(how, list) or sorted(how) != list(range(len(shape))):
            raise UsageError(f"{where}: transpose {how} is no order of {len(shape)} axes")
        if tuple(shape[axis] for axis in how) != theirs[other]:
            raise UsageError(
                f"{where}: {name} {list(shape)} transposed by {how} is not "
                f"{list(theirs[other])}, the shape of {other}"
            )
        pairs.append(Pair(name, other, tuple(how)))
    for known, named in ((ours, [p.first for p in pairs]), (theirs, [p.second for p in pairs])):
        twice = [name for name in known if named.count(name) > 1]
        missing = [name for name in known if name not in named]
        if twice:
            raise UsageError(f"{path}: {twice[0]} is mapped {named.count(twice[0])} times")
        if missing:
            raise UsageError(
                f"{path}: weights cannot be mapped: {_shown(known, missing)} is missing"
            )
    return tuple(pairs)


def _entries(path: Path) -> list[object]:
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"--map {path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--map {path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--map {path}: no TOML: {error}") from error
    entries = said.get("weight")
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"--map {path}: has no [[weight]]; --write-map FILE.toml makes one")
    return entries
