"""Writes docs/public-bugs.md: what the suite says today of public reports of wrong averages.

python -m ci.public_bugs           write the page
python -m ci.public_bugs --check   exit 1 where it is out of date
"""

import argparse
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "tests" / "wrong" / "public_bugs.toml"
PAGE = ROOT / "docs" / "public-bugs.md"
_HEAD = """# Public bugs

Reports of gradient averages that were wrong, and what the suite says of each today. Every
reproduction is code of our own, in [`tests/wrong/`](../tests/wrong), and runs as an adapter; beside
it stands the same loop put right, which conforms.
[`test_public_bugs.py`](../tests/wrong/test_public_bugs.py) shows both. `python -m ci.public_bugs`
writes this page from [`public_bugs.toml`](../tests/wrong/public_bugs.toml).

{counts}

| report | what was wrong | what the suite says | reproduction | put right |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Bug:
    """A row: one fault, and the threads that report it.

    Attributes:
        threads: `owner/repository#number`.
        year: when.
        wrong: what was wrong.
        forms: the functions of `tests/wrong` that reproduce it.
        name: the name that the suite gives; empty where it catches the code without a name.
        control: the implementation that does it right.
    """

    threads: list[str]
    year: str
    wrong: str
    forms: tuple[str, ...]
    control: str
    name: str = ""


def bugs() -> list[Bug]:
    """Reads the rows."""
    rows = tomllib.loads(ROWS.read_text(encoding="utf-8"))["bug"]
    return [Bug(**{**row, "forms": tuple(row["forms"])}) for row in rows]


def page() -> str:
    """Returns the page."""
    rows = bugs()
    named = [bug for bug in rows if bug.name]
    counts = (
        f"Of {len(rows)} rows {len(rows)} have a reproduction: all are caught, {len(named)} by "
        f"name, and {len(rows)} right controls conform."
    )
    return _HEAD.format(counts=counts) + "".join(map(_row, rows))


def _row(bug: Bug) -> str:
    threads = ", ".join(_linked(thread) for thread in bug.threads)
    says = f"`{bug.name}`" if bug.name else "does not conform; no name"
    forms = ", ".join(f"`{name}`" for name in bug.forms)
    control = f"[`{bug.control}`](../impls/gradient_mean/{bug.control}.py)"
    return f"| {threads} ({bug.year}) | {bug.wrong} | {says} | {forms} | {control} |\n"


def _linked(thread: str) -> str:
    repository, _, number = thread.partition("#")
    return f"[{thread}](https://github.com/{repository}/issues/{number})"


def main() -> None:
    """Reads the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/public-bugs.md is out of date: python -m ci.public_bugs")


if __name__ == "__main__":
    main()
