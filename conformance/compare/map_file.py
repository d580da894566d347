"""The map of weights as a file that a person edits."""

import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from conformance.compare.trace import Model
from conformance.compare.weights import Pair, shown
from conformance.core.outcomes import UsageError


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
        take, reshaped, place = (_integers(entry, key, where) for key in ("take", "shape", "place"))
        pair = Pair(name, other, tuple(how), take, reshaped, place, bool(entry.get("adds")))
        wanted = theirs[other] if place is None else (*theirs[other][:-1], place[1] - place[0])
        try:
            part = pair.to_second(np.empty(shape)).shape
        except ValueError as error:
            raise UsageError(f"{where}: {name} {list(shape)}: {error}") from error
        if part != wanted:
            raise UsageError(
                f"{where}: {name} {list(shape)} transposed by {how} is not "
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


def _integers(entry: dict[str, Any], key: str, where: str) -> Any:
    value = entry.get(key)
    if value is None:
        return None
    is_pair = key == "shape" or (isinstance(value, list) and len(value) == 2)
    if not isinstance(value, list) or not is_pair or not all(isinstance(i, int) for i in value):
        raise UsageError(f"{where}: {key} {value!r} is no list of numbers, [start, stop] or sizes")
    return tuple(value)


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
