"""Holds every port that a folder's ports.toml names to its original, and prints a table.

python ci/ports_table.py [-k PART] FOLDER/ports.toml…

An entry has `first`, `second` and `input`, perhaps `allow`; a wrong port has `at`, the names of
places one of which is right, and `cause`, the names of which one is; `refused`: words of a refusal.
The exit status is 1 if a right port was accused, or a wrong one agrees or has a wrong cause; 2 if a
table cannot be read.
"""

import argparse
import os
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

from conformance.compare.compare import Compared, compare
from conformance.compare.load_model import side
from conformance.compare.settings import Settings, read_inputs
from conformance.core.outcomes import UsageError

# What a right port and a wrong one may come to; the first of each is what they should.
RIGHT = ("agrees", "not judged in part", "refused", "ACCUSED")
WRONG = ("found, named", "found", "refused", "at another place", "WRONG CAUSE", "AGREES")


@dataclass(frozen=True)
class Port:
    """One entry of a table, whose files lie in a folder."""

    folder: Path
    entry: Mapping[str, Any]

    @property
    def is_right(self) -> bool:
        """Whether the port is held to agree."""
        return "at" not in self.entry and "refused" not in self.entry

    def compared(self) -> Compared:
        """Compares, in the port's folder, with no module of another folder's in the way."""
        before, path = set(sys.modules), list(sys.path)
        os.chdir(self.folder)
        try:
            inputs = self.entry["input"]
            return compare(
                (side(self.entry["first"]), side(self.entry["second"])),
                Settings(
                    inputs=read_inputs([inputs] if isinstance(inputs, str) else inputs),
                    allowed=frozenset(self.entry.get("allow", [])),
                    modes=(False,) if self.entry.get("eval") else (True, False),
                ),
            )
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - before:
                file = getattr(sys.modules[name], "__file__", None)
                if file and Path(file).is_relative_to(self.folder):
                    del sys.modules[name]


def ports(table: Path) -> Iterator[Port]:
    """Reads the entries of a table."""
    try:
        entries = tomllib.loads(table.read_text(encoding="utf-8"))["port"]
    except OSError as error:
        raise UsageError(f"{table}: {error.strerror}; name a ports.toml") from error
    except (ValueError, KeyError) as error:
        raise UsageError(f"{table}: holds no table of ports: {error}") from error
    for entry in entries:
        if not isinstance(entry, dict) or not {"name", "first", "second", "input"} <= entry.keys():
            raise UsageError(f"{table}: a port has name, first, second and input, not {entry!r}")
        yield Port(table.parent.resolve(), entry)


def outcome(port: Port) -> tuple[str, str]:
    """Returns what a comparison came to, and in what words."""
    try:
        compared = port.compared()
    except UsageError as refusal:
        expected = port.entry.get("refused", "\0") in str(refusal)
        return ("refused, as it should" if expected else "refused"), str(refusal)
    if not compared.partings:
        if port.is_right and not compared.unjudged:
            return "agrees", ""
        if port.is_right:
            return "not judged in part", "; ".join(compared.unjudged)
        return "AGREES", "; ".join(compared.unjudged)
    first = compared.partings[0]
    cause = "no cause" if first.cause is None else first.cause.name
    words = f"{first.layer}, {first.aspect}: {cause} ({first.words})"
    if port.is_right:
        return "ACCUSED", words
    if first.layer not in port.entry.get("at", ()):
        return "at another place", words
    if first.cause is None:
        return "found", words
    return ("found, named" if cause in port.entry.get("cause", ()) else "WRONG CAUSE"), words


def main() -> None:
    """Prints a row for each port as it is done, with its seconds of CPU, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("-k", dest="part", default="", help="only ports whose names have this part")
    arguments = parser.parse_args()
    try:
        chosen = [
            port for table in arguments.tables for port in ports(table)
            if arguments.part in f"{port.folder.name}/{port.entry['name']}"
        ]  # fmt: skip
    except UsageError as error:
        parser.exit(2, f"{error}\n")
    counts: dict[str, Counter[str]] = {"right": Counter(), "wrong": Counter()}
    for port in chosen:
        begun = process_time()
        verdict, words = outcome(port)
        kind = "right" if port.is_right else "wrong"
        counts[kind][verdict] += 1
        good = verdict in (RIGHT[0], *WRONG[:2], "refused, as it should")
        name = f"{port.folder.name}/{port.entry['name']}"
        wanted = kind if port.is_right else ", ".join(port.entry.get("cause", ["refused"]))
        print(f"{'ok ' if good else 'BAD'} {name:42} {wanted:34} {verdict:20} "
              f"{process_time() - begun:5.1f} s  {words[:200]}", flush=True)  # fmt: skip
    for kind, count in counts.items():
        print(f"{kind}: {count.total()}, " + ", ".join(f"{n} {v}" for v, n in count.most_common()))
    bad = counts["right"]["ACCUSED"] + counts["wrong"]["AGREES"] + counts["wrong"]["WRONG CAUSE"]
    sys.exit(int(bad > 0))


if __name__ == "__main__":
    main()
