"""Writes what README.md shows of a terminal again, from true runs, or checks it.

python -m ci.readme                  the failure that README explains
python -m ci.readme --results DIR    how a quick run ends too, from its results.jsonl
python -m ci.readme --check          exit 1 where the failure is out of date
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ci.docs_tables import ROOT, replaced

README = ROOT / "README.md"
OWNER, CASE = "channel_shuffle/wrong_inverse", "identity-probe-f32-c12-g3"
FAILURE = f"conformance run --adapter examples/wrong_shuffle.py {OWNER}:{CASE}"


def shown(call: str) -> str:
    """Returns what a call prints that leaves its report in a folder of its own."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", *call.split(), folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.replace(folder, "conformance-report").strip()


def failure() -> str:
    """Returns the paragraph that the deliberately wrong adapter gets to read."""
    rerun = f"conformance run {OWNER}@cpu:{CASE}"
    paragraphs = shown(f"{FAILURE} --report").split("\n\n")
    [paragraph] = [part for part in paragraphs if rerun in part]
    return f"```text\n$ {FAILURE}\n{paragraph}\n```"


def quick_run(results: Path) -> str:
    """Returns the table and the verdict of a run, as `conformance report` prints them."""
    paragraphs = shown(f"conformance report {results.absolute()} --to").split("\n\n")
    verdict, *_ = paragraphs[-1].splitlines()
    return f"```text\n{paragraphs[1]}\n…\n{verdict}\n```"


def main() -> None:
    """Reads the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, metavar="DIR")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    parts = {"failure": failure()}
    if arguments.results:
        parts["run"] = quick_run(arguments.results)
    before = README.read_text(encoding="utf-8")
    after = replaced(before, parts)
    if arguments.check:
        sys.exit("README.md is out of date: python -m ci.readme" if before != after else 0)
    README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
