"""The map of weights as a file that a person edits."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from conformance.compare.trace import Model
from conformance.compare.weights import Pair, shown
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import Count, read_entries


def as_toml(pairs: Iterable[Pair], first: Model, second: Model) -> str:
    """The map as a file that a person edits and `--map` reads."""
    ours, theirs = first.weights(), second.weights()
    lines = [
        "# Which weight of the first model goes where in the second. `transpose` gives the axes of",
        "# `to` in terms of those of `from`: [2, 3, 1, 0] makes HWIO of OIHW. `take` are rows of",
        "# `from`, `shape` what they are reshaped to, `place` the last axis' entries of `to`.",
    ]
    for pair in pairs:
        lines += [
            "",
            "[[weight]]",
            f'from = "{pair.first}"  # {list(ours[pair.first])}',
            f'to = "{pair.second}"  # {list(theirs[pair.second])}',
            f"transpose = {list(pair.transpose)}",
        ]
        parts = {"take": pair.take, "shape": pair.shape, "place": pair.place}
        lines += [f"{key} = {list(part)}" for key, part in parts.items() if part is not None]
        lines += ["adds = true"] * pair.adds
    return "\n".join(lines) + "\n"


def read(path: Path, first: Model, second: Model) -> tuple[Pair, ...]:
    """The map in a file.

    Raises:
        UsageError: if it is missing or no TOML, or names a weight that is not there, twice, with
            another shape, or not at all.
    """
    ours, theirs = first.weights(), second.weights()
    pairs = []
    for where, entry in _entries(path):
        name, other = entry.first, entry.second
        for said, known, which in ((name, ours, "first"), (other, theirs, "second")):
            if said not in known:
                raise UsageError(f"{where}: the {which} model has no weight {said!r}")
        shape = ours[name]
        how = tuple(range(len(shape))) if entry.transpose is None else entry.transpose
        if sorted(how) != list(range(len(shape))):
            raise UsageError(f"{where}: transpose {list(how)} is no order of {len(shape)} axes")
        place = entry.place
        pair = Pair(name, other, how, entry.take, entry.shape, place, entry.adds)
        wanted = theirs[other] if place is None else (*theirs[other][:-1], place[1] - place[0])
        try:
            part = pair.to_second(np.empty(shape)).shape
        except ValueError as error:
            raise UsageError(f"{where}: {name} {list(shape)}: {error}") from error
        if part != wanted:
            raise UsageError(
                f"{where}: {name} {list(shape)} transposed by {list(how)} is not "
                f"{list(wanted)}, the shape of {other}"
            )
        pairs.append(pair)
    whole = [p for p in pairs if p.take is None and p.place is None and not p.adds]
    twice = [n for n, count in Counter(p.second for p in whole).items() if count > 1]
    if twice:
        raise UsageError(f"{path}: {twice[0]} is mapped {len(twice) + 1} times")
    for known, named in ((ours, {p.first for p in pairs}), (theirs, {p.second for p in pairs})):
        missing = [name for name in known if name not in named]
        if missing:
            raise UsageError(
                f"{path}: weights cannot be mapped: {shown(known, missing)} is missing"
            )
    return tuple(pairs)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    first: str = msgspec.field(name="from")
    second: str = msgspec.field(name="to")
    transpose: tuple[Count, ...] | None = None
    take: tuple[Count, Count] | None = None
    shape: tuple[int, ...] | None = None
    place: tuple[Count, Count] | None = None
    adds: bool = False


def _entries(path: Path) -> list[tuple[str, _Entry]]:
    entries = read_entries(path, "weight", _Entry, what=f"--map {path}")
    if not entries:
        raise UsageError(f"--map {path}: has no [[weight]]; --write-map FILE.toml makes one")
    return entries
