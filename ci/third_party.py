"""Asks other people's code: the table of docs/third-party.md, from examples/third_party/.

python ci/third_party.py            an environment and a run for each adapter, then the table
python ci/third_party.py NAME…      these alone; the others' rows are of their last run
python ci/third_party.py --table    the table again, from the runs that there are

Environments and results are in build/third_party, some gigabytes in all. A package that cannot be
installed here has no row.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS, PAGE = ROOT / "examples" / "third_party", ROOT / "docs" / "third-party.md"
FOLDER = ROOT / "build" / "third_party"
BEGIN, END = "<!-- table -->\n", "<!-- /table -->\n"
HEAD = """\
| adapter | packages | checks | conform | not tested | do not conform |
|---|---|---:|---:|---:|---|
"""
_SHOWN = 4  # Kinds of differences of a row.
_RAISED = re.compile(r"^(?:rank \d+: )?raised (\w+) at \S+:\d+(?:, in \S+:\d+)?: ")


def packages_of(adapter: Path) -> list[str]:
    """Returns what an adapter's docstring says to install."""
    [line] = re.findall(r"^pip install (.*)$", adapter.read_text(encoding="utf-8"), re.MULTILINE)
    return [word.strip('"') for word in line.split() if not word.startswith("--")]


def ask(adapter: Path) -> str:
    """Makes the environment of an adapter, and asks it; returns why there is no result, if so."""
    folder, text = FOLDER / "environments" / adapter.stem, adapter.read_text(encoding="utf-8")
    program = folder / "bin" / "conformance"
    [framework] = set(re.findall(r'framework="(\w+)"', text))
    extras = "report" if framework == "numpy" else f"{framework},report"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    wanted = ["--constraint", str(ROOT / "ci" / "constraints.txt")] if framework != "numpy" else []
    call = [folder / "bin" / "pip", "install", "--quiet", *wanted, f".[{extras}]"]
    call += packages_of(adapter)
    if subprocess.run([str(word) for word in call], cwd=ROOT, check=False).returncode:
        return "cannot be installed here"
    report = ["--report", str(FOLDER / "results" / adapter.stem)]
    run = [str(program), "run", "--adapter", str(adapter.relative_to(ROOT)), *report]
    status = subprocess.run(run, cwd=ROOT, check=False).returncode
    return "" if status in (0, 1) else f"its run ended with {status}"


def rows(adapter: Path, lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yields a row of the table for each function of an adapter."""
    versions = lines[0]["environment"]["packages"]
    names = [re.split(r"[=\[]", package)[0].lower() for package in packages_of(adapter)]
    packages = ", ".join(f"{name} {versions.get(name, '?')}" for name in names)
    checks = [record for record in lines if record["kind"] == "check"]
    for name in dict.fromkeys(record["implementation"] for record in checks):
        own = [record for record in checks if record["implementation"] == name]
        counts = Counter(record["status"] for record in own)
        right = counts["exact"] + counts["within-bound"]
        aside = counts["unsupported"] + counts["not-exercised"]
        cells = [f"[`{name}`](../examples/third_party/{adapter.name})", packages]
        cells += [str(len(own)), str(right), str(aside), different(own)]
        yield f"| {' | '.join(cells)} |\n"


def different(records: Sequence[dict[str, Any]]) -> str:
    """Returns what does not conform, by mistake or by the words of the error, the most first."""
    kinds = Counter(
        kind_of(record)
        for record in records
        if record["status"] in ("fail", "error", "crash", "timeout")
    )
    words = [f"{count} × {kind}" for kind, count in kinds.most_common(_SHOWN)]
    left = sum(kinds.values()) - sum(count for _, count in kinds.most_common(_SHOWN))
    return "; ".join([*words, *[f"{left} × others"] * bool(left)])


def kind_of(record: dict[str, Any]) -> str:
    """Names what is wrong with an answer, or what was raised, without what differs by case."""
    if record["fits"] or record["status"] == "fail":
        names = " or ".join(f"`{name}`" for name in record["fits"])
        return names or "values, by no known mistake"
    raised = _RAISED.sub(r"\1: ", record["reason"])
    raised = raised.removesuffix("; matches no known mistake")
    plain = re.sub(r"\b\d+\b", "…", raised).replace("`", "'").replace("|", "/")
    return f"{record['status']}, `{plain[:64].strip()}`"


def table() -> str:
    """Returns the table, of every adapter that was asked."""
    text = HEAD
    for adapter in sorted(ADAPTERS.glob("*.py")):
        results = FOLDER / "results" / adapter.stem / "results.jsonl"
        if results.is_file():
            lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
            if lines[-1]["kind"] == "footer":  # A run that was cut short says too little.
                text += "".join(rows(adapter, lines))
    return text


def main() -> None:
    """Asks the adapters that are named, or all, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*")
    parser.add_argument("--table", action="store_true")
    call = parser.parse_args()
    every = {path.stem: path for path in sorted(ADAPTERS.glob("*.py"))}
    if unknown := set(call.names) - set(every):
        parser.error(
            f"no adapter is called {', '.join(sorted(unknown))}; known: {', '.join(every)}"
        )
    for name in [] if call.table else call.names or every:
        if words := ask(every[name]):
            print(f"{name}: {words}", file=sys.stderr)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
