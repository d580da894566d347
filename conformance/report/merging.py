"""Several results files as one: shards put together, runs side by side.

A merge is a results file like any other. Its header has `runs`: the name, the environment and the
parts of each; every check says by `run` which of them it is of. Where a part is missing or was cut
short the merge has no footer, and is read as a run cut short.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import conformance
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import checked
from conformance.core.report_folder import ReportFolder, as_line
from conformance.run.results import FILE, FORMAT, Record, Run, conform, digest_of, now, read
from conformance.run.results_form import MergeableHeader

PARTS = ("suite", "started", "finished", "plan", "shard", "checks")
FRAMEWORKS = ("torch", "jax")

Environment: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Piece:
    """A run, or some of its shards, out of the file `source`.

    Attributes:
        environment: what it was made on.
        parts: for each shard, or the whole: suite, started, finished, plan, shard and checks.
        records: the checks.
        source: the file.
    """

    environment: Environment
    parts: tuple[Mapping[str, Any], ...]
    records: tuple[Record, ...]
    source: str

    @property
    def of(self) -> int:
        """The number of shards into which the run was divided; 1 where it was not."""
        return _shard(self.parts[0])[1]

    @property
    def shards(self) -> list[int]:
        """The numbers of the shards that are there, from 1."""
        return sorted(_shard(part)[0] for part in self.parts)

    @property
    def missing(self) -> list[str]:
        """The shards that are missing, as I/N."""
        there = set(self.shards)
        return [f"{i}/{self.of}" for i in range(1, self.of + 1) if i not in there]

    @property
    def cut_short(self) -> list[str]:
        """The parts that ended early, in words."""
        return [
            f"shard {part['shard']}" if part["shard"] else "the run"
            for part in self.parts
            if part["finished"] is None
        ]

    @property
    def is_complete(self) -> bool:
        """Whether every check that was planned is there."""
        return not (self.missing or self.cut_short)

    @property
    def name(self) -> str:
        """What tells this run from others: versions, system and devices."""
        packages = self.environment.get("packages", {})
        versions = [f"{name} {packages[name]}" for name in FRAMEWORKS if name in packages]
        system = self.environment.get("system") or self.environment.get("platform", "?")
        devices = dict.fromkeys(record.device for record in self.records)
        return ", ".join(
            [*versions, f"Python {self.environment.get('python')}", str(system), *devices]
        )


def _shard(part: Mapping[str, Any]) -> tuple[int, int]:
    index, _, count = str(part["shard"] or "1/1").partition("/")
    return int(index), int(count)


def merge(paths: Sequence[Path]) -> Run:
    """Merges the runs of these files into one; merges may be merged again.

    The name of a run is that of its frameworks, system and devices, with a number behind it where
    two would be called the same.

    Raises:
        UsageError: if a file cannot be read, two were made against different goldens, the same
            run or shard is there twice, shards are of different runs, or all shards together do
            not hold the checks that were divided, each once.
    """
    runs = [read(path) for path in paths]
    _require_the_same_goldens(runs, paths)
    parts = [piece for run, path in zip(runs, paths, strict=True) for piece in pieces(run, path)]
    joined = _named(_joined(parts))
    for piece in joined.values():
        _require_the_plan(piece)
    header = {
        "suite": conformance.__version__,
        "started": min(part["started"] for piece in parts for part in piece.parts),
        "checks": sum(part["checks"] for piece in parts for part in piece.parts),
        "goldens": runs[0].header["goldens"],
        "environment": _common([piece.environment for piece in parts]),
        "format": FORMAT,
        "runs": [
            {
                "name": name,
                "environment": piece.environment,
                "parts": list(piece.parts),
                "missing": piece.missing,
                "cut_short": piece.cut_short,
            }
            for name, piece in joined.items()
        ],
        **_asked(runs),
    }
    records = tuple(
        replace(record, run=name) for name, piece in joined.items() for record in piece.records
    )
    whole = Run(header, records)
    if not all(piece.is_complete for piece in joined.values()):
        return whole
    footer = {
        "kind": "footer",
        "finished": now(),
        "counts": whole.counts,
        "conforms": conform(records) and not whole.untested,
    }
    return replace(whole, footer=footer)


def _asked(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the cases from outside, and that a part was asked where that is so of any run."""
    cases = {name: text for run in runs for name, text in run.header.get("cases", {}).items()}
    quick = [run.header["quick"] for run in runs if run.quick is not None]
    least = min(quick, key=lambda counts: counts["asked"], default=None)
    again = [run.header["last_failed"] for run in runs if run.last_failed is not None]
    return {
        **({"cases": cases} if cases else {}),
        **({"quick": least} if least else {}),
        **({"last_failed": again[0]} if again else {}),
    }


def pieces(run: Run, source: Path) -> list[Piece]:
    """Returns the runs of a file: one, or as many as were merged into it.

    Raises:
        UsageError: if its header lacks what a merge must know.
    """
    if not run.runs:
        finished = run.footer["finished"] if run.footer is not None else None
        whole = {**dict.fromkeys(PARTS), **run.header, "finished": finished}
        part = {name: whole[name] for name in PARTS}
        found = [Piece({**run.header["environment"]}, (part,), run.records, str(source))]
    else:
        found = [
            Piece(
                merged["environment"],
                tuple(merged["parts"]),
                tuple(record for record in run.records if record.run == merged["name"]),
                str(source),
            )
            for merged in run.runs
        ]
    for piece in found:
        shards = [_shard(part) for part in piece.parts]
        wrong = next((shard for shard in shards if shard[0] > shard[1] or shard[1] != piece.of), 0)
        if wrong or len(set(shards)) < len(shards):
            raise UsageError(f"results {source}:1: the shards {shards} are of no one run")
    return found


def _require_the_same_goldens(runs: Sequence[Run], paths: Sequence[Path]) -> None:
    for run, path in zip(runs, paths, strict=True):
        checked(run.header, MergeableHeader, f"results {path}:1")
        first, this = runs[0].header["goldens"], run.header["goldens"]
        if this != first:
            raise UsageError(
                f"{paths[0]} and {path} were made against different goldens "
                f"({first[:12]}… and {this[:12]}…): their answers cannot be compared"
            )


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Joins the shards of each run into one piece, in the order of the files."""
    sources: dict[str, str] = {}
    for piece in pieces:
        environment = json.dumps(piece.environment, sort_keys=True)
        for part in piece.parts:
            shard = f"shard {part['shard']} of the run" if part["shard"] else "the run"
            key = environment + json.dumps(part, sort_keys=True)
            if key in sources:
                raise UsageError(
                    f"{sources[key]} and {piece.source} both hold {shard} that started at "
                    f"{part['started'][:80]}: give it once"
                )
            sources[key] = piece.source
    groups: dict[str, list[Piece]] = {}
    for piece in pieces:
        of_a_kind = [_made_on(piece), *(piece.parts[0][name] for name in ("suite", "plan"))]
        whole = [] if piece.of > 1 else [piece.parts[0]["started"], piece.source]
        groups.setdefault(json.dumps([of_a_kind, piece.of, whole]), []).append(piece)
    joined = [_one_run(group) for group in groups.values()]
    halves = [piece for piece in joined if piece.missing]
    for first, second in combinations(halves, 2):
        if first.of == second.of and not set(first.shards) & set(second.shards):
            raise UsageError(
                f"{first.source} (shard {first.parts[0]['shard']}) and {second.source} "
                f"(shard {second.parts[0]['shard']}) are shards of different runs: "
                f"{_difference(first, second)}"
            )
    return joined


def _made_on(piece: Piece) -> dict[str, Any]:
    """Returns what shards of one run share; they may come from several machines of a kind."""
    names = ("python", "system", "packages", "precision", "adapters")
    return {name: piece.environment.get(name) for name in names}


def _difference(first: Piece, second: Piece) -> str:
    made_on = _made_on(second)
    for name, value in _made_on(first).items():
        if value != made_on[name]:
            return f"{name} {value} and {made_on[name]}"
    if first.parts[0]["suite"] != second.parts[0]["suite"]:
        return f"suite {first.parts[0]['suite']} and {second.parts[0]['suite']}"
    return "they divide different sets of checks"


def _one_run(group: Sequence[Piece]) -> Piece:
    seen: dict[int, str] = {}
    for piece in group:
        for shard in piece.shards:
            if shard in seen:
                raise UsageError(
                    f"{seen[shard]} and {piece.source} are both shard {shard}/{piece.of} of the "
                    "same checks on the same versions: give one of them"
                )
            seen[shard] = piece.source
    return replace(
        group[0],
        parts=tuple(sorted((part for piece in group for part in piece.parts), key=_shard)),
        records=tuple(record for piece in group for record in piece.records),
    )


def _require_the_plan(piece: Piece) -> None:
    """Requires that all shards together hold the checks that were divided, each once."""
    ids = Counter(record.id for record in piece.records)
    doubled = next((check for check, count in ids.items() if count > 1), None)
    if piece.of > 1 and doubled is not None:
        raise UsageError(f"{doubled} is in two shards of one run, that of {piece.source}")
    plan = piece.parts[0]["plan"]
    if piece.of > 1 and piece.is_complete and plan not in (None, digest_of(ids)):
        raise UsageError(f"the shards of {piece.source} do not hold the checks that were divided")


def _named(runs: Iterable[Piece]) -> dict[str, Piece]:
    named: dict[str, Piece] = {}
    for piece in runs:
        name, number = piece.name, 1
        while name in named:
            number += 1
            name = f"{piece.name} #{number}"
        named[name] = piece
    return named


def _common(environments: Sequence[Environment]) -> dict[str, Any]:
    """Makes one environment for all: values that differ are listed, with commas."""

    def texts(values: Iterable[Any]) -> str:
        return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))

    def tables(name: str) -> dict[str, str]:
        all_ = [environment.get(name, {}) for environment in environments]
        return {
            key: texts(table.get(key) for table in all_)
            for key in dict.fromkeys(key for table in all_ for key in table)
        }

    devices: dict[str, dict[str, str]] = {}
    for environment in environments:
        for framework, described in environment.get("devices", {}).items():
            devices.setdefault(framework, {}).update(described)
    adapters = [name for environment in environments for name in environment.get("adapters", [])]
    return {
        "python": texts(environment.get("python") for environment in environments),
        "platform": texts(environment.get("platform") for environment in environments),
        "system": texts(environment.get("system") for environment in environments),
        "devices": devices,
        "packages": tables("packages"),
        "precision": tables("precision"),
        "adapters": list(dict.fromkeys(adapters)),
    }


def write(run: Run, folder: ReportFolder) -> None:
    """Writes a merge to DIR/results.jsonl, at once: DIR may hold a file that was merged.

    Raises:
        UsageError: if a report of an older run cannot be removed.
    """
    lines = [{"kind": "header", **run.header}]
    lines += [{"kind": "check", **record.as_object()} for record in run.records]
    lines += [dict(run.footer)] if run.footer is not None else []
    folder.clear()
    folder.write(FILE, "".join(map(as_line, lines)))
