"""Writes conformance/run/costs.toml again, from the seconds in results files of whole runs.

python ci/costs.py RESULTS.jsonl…
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from conformance.core.implementations import own
from conformance.run.costs import FILE
from conformance.run.results import Record, read

HEAD = """\
# Mean seconds of a check of each implementation, by which a run is divided into shards; and how
# many times that mean a check of a case takes, for each average that takes a thousandth of all.
# Made by `python ci/costs.py RESULTS.jsonl…`, from a run on {packages}.
"""
ASKED = ("exact", "within-bound", "known", "fail")
# A case that takes less of all averages than this has no weight: its seconds are mostly noise.
LEAST = 0.001


def text(files: Sequence[Path]) -> str:
    """Writes the file's content, with two digits, since further digits vary from run to run.

    An implementation that could not be asked gets no time, which would look like no cost.
    """
    runs = [read(file) for file in files]
    by_owner: dict[str, list[Record]] = defaultdict(list)
    for record in (record for run in runs for record in run.records):
        by_owner[f"{record.operation}/{record.implementation}"].append(record)
    packages = runs[0].header["environment"]["packages"]
    lines = [HEAD.format(packages=", ".join(f"{k} {v}" for k, v in packages.items()))]
    operation = ""
    for declared in sorted(own(), key=lambda implementation: implementation.id):
        records = by_owner[declared.id]
        if not any(record.status in ASKED for record in records):
            continue
        if declared.operation != operation:
            operation = declared.operation
            lines.append(f"[seconds.{operation}]")
        mean = fmean(record.seconds for record in records)
        lines.append(f"{declared.name} = {float(f'{max(mean, 1e-5):.2g}')}")
    return "\n".join([*lines, *_weights(by_owner)]) + "\n"


def _weights(by_owner: Mapping[str, Sequence[Record]]) -> list[str]:
    """Returns the lines of what cases take, as multiples of their implementations' means.

    Averages alone have them: JAX compiles each for itself. Shuffles share what `torch.compile`
    made, and whichever is asked first takes the seconds of all.
    """
    taken: dict[str, float] = defaultdict(float)
    usual: dict[str, float] = defaultdict(float)
    for records in by_owner.values():
        mean = fmean(record.seconds for record in records)
        for record in records:
            if record.operation == "gradient_mean":
                taken[record.case] += record.seconds
                usual[record.case] += mean
    least = LEAST * sum(taken.values())
    return ["[weights.gradient_mean]"] + [
        f"{case} = {float(f'{seconds / usual[case]:.2g}')}"
        for case, seconds in sorted(taken.items())
        if seconds >= least
    ]


def main() -> None:
    """Reads the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="RESULTS.jsonl")
    FILE.write_text(text(parser.parse_args().files), encoding="utf-8")


if __name__ == "__main__":
    main()
