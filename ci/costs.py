"""Writes conformance/run/costs.toml again, from the seconds in results files of whole runs.

python ci/costs.py RESULTS.jsonl…
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from conformance.core.implementations import own
from conformance.run.costs import FILE
from conformance.run.results import Record, read

HEAD = """\
# Mean seconds of a check of each implementation, by which a run is divided into shards.
# Made by `python ci/costs.py RESULTS.jsonl…`, from a run on {packages}.
"""
ASKED = ("exact", "within-bound", "known", "fail")


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
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="RESULTS.jsonl")
    FILE.write_text(text(parser.parse_args().files), encoding="utf-8")


if __name__ == "__main__":
    main()
