"""Writes what README.md shows of a terminal again, from true runs, or checks it.

python -m ci.readme                  the failure that README explains
python -m ci.readme --results DIR    how a whole run ends too, from its results.jsonl
python -m ci.readme --check          exit 1 where the failure is out of date
"""

import argparse
import io
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ci.docs_tables import ROOT, replaced
from conformance.report import terminal
from conformance.run.results import read

README = ROOT / "README.md"
OWNER, CASE = "channel_shuffle/wrong_inverse", "identity-probe-f32-c12-g3"
FAILURE = f"conformance run --adapter examples/wrong_shuffle.py {OWNER}:{CASE}"


def failure() -> str:
    """Returns the paragraph that the deliberately wrong adapter gets to read."""
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", *FAILURE.split(), "--report", folder],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    rerun = f"conformance run {OWNER}@cpu:{CASE}"
    [paragraph] = [part for part in done.stdout.split("\n\n") if rerun in part]
    return f"```text\n$ {FAILURE}\n{paragraph.rstrip()}\n```"


def whole_run(results: Path) -> str:
    """Returns what the terminal shows at the end of a run."""
    stream = io.StringIO()
    terminal.show(read(results), Console(file=stream, width=80))
    return f"```text\n$ bash ci/run conformance\n{stream.getvalue().strip()}\n```"


def main() -> None:
    """Reads the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, metavar="DIR")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    parts = {"failure": failure()}
    if arguments.results:
        parts["run"] = whole_run(arguments.results)
    before = README.read_text(encoding="utf-8")
    after = replaced(before, parts)
    if arguments.check:
        sys.exit("README.md is out of date: python -m ci.readme" if before != after else 0)
    README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
