"""Writes the tables of docs/: coverage, who averages what, and the score of generated mistakes.

python -m ci.docs_tables                  coverage of the clauses by the cases
python -m ci.docs_tables --results DIR    who averages what too, from a whole run's results.jsonl
python -m ci.docs_tables --mutants DIR    the score of generated mistakes, from its mutants.jsonl
python -m ci.docs_tables --check          exit 1 where coverage, or whose averages, are out of date
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from conformance.core.clauses import FOLDER, Clause, read
from conformance.core.declarations import averaged
from conformance.core.implementations import own
from conformance.proofs.mutants import ledger
from conformance.proofs.mutants.printed import by_operation
from conformance.report import averages
from conformance.run.results import Run
from conformance.run.results import read as read_results
from conformance.subjects import all_cases

ROOT = Path(__file__).parents[1]
COVERAGE = ROOT / "docs" / "coverage.md"
AVERAGES = ROOT / "docs" / "averages.md"
PROOFS = ROOT / "docs" / "explanation" / "would-it-catch-yours.md"
AVERAGES_OF = {"rank_mean": "ranks", "sample_mean": "samples", "rank_sum": "nothing: it sums"}
AVERAGES_OF |= {
    "step_mean": "all items of a step",
    **{averaged(promise): f"{of}; micro-batches" for promise, of in AVERAGES_OF.items()},
}


def coverage() -> str:
    """Returns clauses × cases: how many cases of which families ask for each clause."""
    parts = []
    for path in sorted(FOLDER.glob("*.toml")):
        clauses = read(path)
        ids = {clause.id for clause in clauses}
        cases = sum(bool(ids & set(case.clauses)) for case in all_cases())
        title = path.stem.replace("_", " ").capitalize()
        parts += [
            f"## {title}: {len(clauses)} clauses, {cases} cases\n",
            "| clause | what is promised | cases |",
            "|---|---|---|",
            *map(_clause_row, clauses),
            "",
        ]
    return "\n".join(parts)


def _clause_row(clause: Clause) -> str:
    families = Counter(case.family for case in all_cases() if clause.id in case.clauses)
    counts = ", ".join(f"{count} {family}" for family, count in families.items())
    sentence = re.split(r"(?<=[.;:]) ", clause.words)[0].rstrip(".;:")
    mark = " (**contradicted**)" if clause.verdict == "contradicted" else ""
    return f"| {clause.id} | {sentence}{mark} | {counts} |"


def who_averages_what(run: Run) -> str:
    """Returns each implementation of the mean: its promise, and how its checks came out."""
    lines = [
        "| implementation | averages | equal shards | unequal shards | K > 1 | ms a check |",
        "|---|---|---|---|---|---|",
    ]
    files = {declared.name: Path(declared.origin).name for declared in own()}
    for row in averages.rows(run):
        name = row.owner.partition("@")[0]
        lines.append(
            f"| [`{name}`](../impls/gradient_mean/{files[name]}) | {AVERAGES_OF[row.promise]} | "
            f"{row.equal} | {row.unequal} | {row.accumulated} | {row.milliseconds:.0f} |"
        )
    return "\n".join(lines)


def undeclared(page: str) -> set[tuple[str, str]]:
    """Returns what the table of averages and the declarations do not agree on."""
    rows = re.findall(r"^\| \[`(\w+)`\]\(\S+\) \| ([^|]+) \|", page, re.MULTILINE)
    declared = {
        (implementation.name, AVERAGES_OF[implementation.held_to])
        for implementation in own()
        if implementation.operation == "gradient_mean" and implementation.runs != "virtual"
    }
    return set(rows) ^ declared


def mutants(folder: Path) -> str:
    """Returns how many mistakes were generated from each operation, and what became of them."""
    measured = ledger.read(folder)
    lines = [
        "| changes of | implementations | made | raise at once | equivalent | differ | seen |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for operation, score in by_operation(measured).items():
        owners = {
            mutant.id.partition(":")[0] for mutant in measured if mutant.operation == operation
        }
        differ = score.killed + score.survived
        lines.append(
            f"| {operation} | {len(owners)} | {score.made} | {score.stillborn} | "
            f"{score.equivalent} | {differ} | {score.killed} ({score.share:.1%}) |"
        )
    return "\n".join(lines)


def replaced(page: str, parts: Mapping[str, str]) -> str:
    """Returns the page with what stands between `<!-- name -->` and `<!-- /name -->` made anew."""
    for name, content in parts.items():
        region = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        assert region.search(page), f"the page has no part {name}"
        page = region.sub(lambda match, new=content: f"{match[1]}{new}\n{match[2]}", page)
    return page


def main() -> None:
    """Reads the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, metavar="DIR")
    parser.add_argument("--mutants", type=Path, metavar="DIR")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    parts = {COVERAGE: {"coverage": coverage()}}
    if arguments.results:
        parts[AVERAGES] = {"averages": who_averages_what(read_results(arguments.results))}
    if arguments.mutants:
        parts[PROOFS] = {"mutants": mutants(arguments.mutants)}
    for path, regions in parts.items():
        before = path.read_text(encoding="utf-8")
        after = replaced(before, regions)
        if not arguments.check:
            path.write_text(after, encoding="utf-8")
        elif before != after:
            sys.exit(f"{path.relative_to(ROOT)} is out of date: python -m ci.docs_tables")
    if arguments.check and (differing := undeclared(AVERAGES.read_text(encoding="utf-8"))):
        names = ", ".join(sorted(name for name, _ in differing))
        sys.exit(f"docs/averages.md is out of date for {names}: python -m ci.docs_tables --results")


if __name__ == "__main__":
    main()
