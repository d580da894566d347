"""Writes the generated parts of README.md again, or checks that they are as they would be written.

python ci/readme.py                      the coverage table, the failure, what needs a GPU
python ci/readme.py --results DIR        the output of a run too, from its results.jsonl
python ci/readme.py --mutants DIR        the score of generated mistakes, from its mutants.jsonl
python ci/readme.py --check              exit 1 where a part is out of date
"""

import argparse
import io
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from conformance.core.clauses import FOLDER, Clause
from conformance.core.clauses import read as read_clauses
from conformance.proofs.mutants import ledger
from conformance.proofs.mutants import printed as mutated
from conformance.report import averages, terminal
from conformance.report.summary import summarize
from conformance.run.results import read
from conformance.subjects import all_cases

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GPU_LINES = ROOT / "ci" / "gpu_lines.toml"
FAILURE = (
    "conformance run --adapter examples/wrong_shuffle.py "
    "channel_shuffle/wrong_inverse:identity-probe-f32-c12-g3"
)
PORT = (
    "conformance compare torch:examples/ports/torch_block.py:block "
    "jax:examples/ports/wrong_ports.py:same_padding --input 4,6,12,12"
)


def coverage() -> str:
    """Clauses × cases: how many cases of which families ask for each clause, by document."""
    parts = []
    for path in sorted(FOLDER.glob("*.toml")):
        clauses = read_clauses(path)
        asked = sum(bool({c.id for c in clauses} & set(case.clauses)) for case in all_cases())
        title = path.stem.replace("_", " ")
        rows = ["| clause | what is promised | cases |", "|---|---|---|", *map(_row, clauses)]
        parts.append(
            f"<details><summary>{title}: {len(clauses)} clauses, {asked} cases</summary>\n\n"
            + "\n".join(rows)
            + "\n\n</details>"
        )
    return "\n".join(parts)


def _row(clause: Clause) -> str:
    families = Counter(case.family for case in all_cases() if clause.id in case.clauses)
    told = ", ".join(f"{count} {family}" for family, count in families.items())
    first = re.split(r"(?<=[.;:]) ", clause.words)[0].rstrip(".;:")
    mark = " (**contradicted**)" if clause.verdict == "contradicted" else ""
    return f"| {clause.id} | {first}{mark} | {told} |"


def _said(call: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", *call.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()


def failure() -> str:
    """What the deliberately wrong adapter gets to read."""
    said = _said(f"{FAILURE} --report build/readme")
    start = next(i for i, line in enumerate(said) if line.endswith("does not conform"))
    block = "\n".join(said[start : said.index("", start)])
    return f"```\n$ {FAILURE}\n{block}\n```"


def port() -> str:
    """What a port that pads otherwise than its original gets to read."""
    said = "\n".join(_said(PORT))
    return f"```\n{said}\n```"


def gpu_lines() -> str:
    """The lines that only a machine with a GPU runs, by file and function."""
    entries = tomllib.loads(GPU_LINES.read_text(encoding="utf-8"))["unrun"]
    by_file: dict[str, list[str]] = {}
    for one in entries:
        told = by_file.setdefault(one["file"], [])
        told += [f"  {one['function']}", *(f"    {line}" for line in one["lines"])]
    count = sum(len(one["lines"]) for one in entries)
    listed = "\n".join("\n".join([file, *told]) for file, told in by_file.items())
    summary = f"{count} lines, in {len(entries)} functions of {len(by_file)} files"
    return f"<details><summary>{summary}</summary>\n\n```\n{listed}\n```\n\n</details>"


def who_averages_what(results: Path) -> str:
    """Each implementation of the gradient mean: its promise, and how its checks came out."""
    lines = [
        "| implementation | averages | equal shards | unequal shards | K > 1 | ms a check |",
        "|---|---|---|---|---|---|",
    ]
    words = {"rank_mean": "ranks", "sample_mean": "samples", "rank_sum": "nothing: it sums"}
    for row in averages.rows(read(results)):
        name = row.owner.partition("@")[0]
        lines.append(
            f"| [`{name}`](impls/gradient_mean/{name}.py) | {words[row.promise]} | {row.equal} | "
            f"{row.unequal} | {row.accumulated} | {row.milliseconds:.0f} |"
        )
    return "\n".join(lines)


def run(results: Path) -> str:
    """Returns what a run prints at its end."""
    stream = io.StringIO()
    terminal.show(summarize(read(results)), Console(file=stream))
    return f"```\n$ bash ci/run conformance\n{stream.getvalue()}```"


def mutants(folder: Path) -> str:
    """How many generated mistakes there were of each operation, and what became of them."""
    measured = ledger.read(folder)
    lines = [
        "| changes of | implementations | made | raise at once | equivalent | differ | seen |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for operation, found in mutated.by_operation(measured).items():
        owners = {one.id.partition(":")[0] for one in measured if one.operation == operation}
        differ = found.killed + found.survived
        lines.append(
            f"| {operation} | {len(owners)} | {found.made} | {found.stillborn} | "
            f"{found.equivalent} | {differ} | {found.killed} ({found.share:.1%}) |"
        )
    return "\n".join(lines)


def replaced(page: str, parts: Mapping[str, str]) -> str:
    """The page with these parts made anew."""
    for name, content in parts.items():
        part = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        assert part.search(page), f"README.md has no part {name}"
        page = part.sub(lambda found, new=content: f"{found[1]}{new}\n{found[2]}", page)
    return page


def main() -> None:
    """Read the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, metavar="DIR")
    parser.add_argument("--mutants", type=Path, metavar="DIR")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    parts = {"coverage": coverage(), "failure": failure(), "port": port(), "gpu lines": gpu_lines()}
    if arguments.results:
        parts["run"] = run(arguments.results)
        parts["averages"] = who_averages_what(arguments.results)
    if arguments.mutants:
        parts["mutants"] = mutants(arguments.mutants)
    before = README.read_text(encoding="utf-8")
    after = replaced(before, parts)
    if arguments.check:
        sys.exit("README.md is out of date: python ci/readme.py" if before != after else 0)
    README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
