"""Writes docs/mistakes.md: each known mistake in words, as users write it, and what kills it.

python -m ci.mistakes_page            in about a minute: every mistake answers every case
python -m ci.mistakes_page --check    exit 1 where the page is out of date
"""

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ci.mistake_pictures import Seen, seen
from conformance.core.mistake import Mistake
from conformance.proofs import kill_matrix
from conformance.proofs.kill_matrix import Kill
from conformance.subjects import all_cases, catalogue
from tests.wrong.forms import FRAMEWORKS, WITHOUT_FORM, Form, forms

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "mistakes.md"
PICTURES = ROOT / "docs" / "mistakes"
TITLES = {"channel_shuffle": "Channel shuffle", "gradient_mean": "Gradient averages"}
HEAD = """\
# Known mistakes

What a wrong answer is compared with, and what is run against the suite on every run of its tests:
each of these must be seen by cases of three families at least, be given its own name by some case,
and never another's. The forms are whole: `conformance run --adapter tests/wrong/FILE.py` asks them.

This page is made by `python -m ci.mistakes_page`.
"""


def appearances(kills: Sequence[Kill], operation: str | None = None) -> dict[str, Seen]:
    """Returns how each mistake, of all or of one operation, looks in an answer, by name."""
    looks = {mistake.name: seen(mistake, _of(mistake, kills)) for mistake in catalogue(operation)}
    return {name: look for name, look in looks.items() if look is not None}


def page(kills: Sequence[Kill], looks: Mapping[str, Seen]) -> str:
    """Returns the whole page, of all kills and how the mistakes look."""
    return "\n".join([HEAD, *(section(operation, kills, looks) for operation in TITLES)])


def section(operation: str, kills: Sequence[Kill], looks: Mapping[str, Seen]) -> str:
    """Returns which family kills which mistake how often, and the mistakes one by one."""
    parts = [f"## {TITLES[operation]}", "", _matrix(operation, kills), ""]
    for mistake in catalogue(operation):
        parts += _described(mistake, _of(mistake, kills), looks.get(mistake.name))
    return "\n".join(parts)


def _of(mistake: Mistake[Any], kills: Sequence[Kill]) -> list[Kill]:
    return [kill for kill in kills if kill.mistake == mistake.name]


def _matrix(operation: str, kills: Sequence[Kill]) -> str:
    families, rows = kill_matrix.matrix(kills, operation)
    named = Counter(kill.mistake for kill in kills if kill.is_named)
    lines = [
        f"| mistake | {' | '.join(families)} | named |",
        f"|---|{'---:|' * (len(families) + 1)}",
    ]
    for name, row in rows.items():
        counts = " | ".join(str(row[family] or "·") for family in families)
        lines.append(f"| [`{name}`](#{name}) | {counts} | {named[name]} |")
    return "\n".join(lines)


def _described(mistake: Mistake[Any], kills: Sequence[Kill], look: Seen | None) -> list[str]:
    lines = [f"### {mistake.name}", "", f"{mistake.done[0].upper()}{mistake.done[1:]}."]
    if mistake.seen:
        lines.append(f"Seen in {mistake.seen}.")
    lines += ["", f"**Instead.** {mistake.advice}", ""]
    if look is not None:
        lines += [f"**In the answer** to {look.case}: {look.words}.", ""]
    if look is not None and look.picture:
        lines += [f"![What is right, and what {mistake.name} gives]({_picture(mistake.name)})", ""]
    cases = {kill.case for kill in kills}
    named = sum(kill.is_named for kill in kills)
    lines += [f"{len(cases)} cases see it; in {named} answers it is the only name that fits.", ""]
    for framework in FRAMEWORKS:
        reason = WITHOUT_FORM.get((mistake.name, framework))
        if reason:
            lines += [f"In {framework} it cannot be made: {reason}.", ""]
        for form in forms():
            if (form.mistake, form.framework) == (mistake.name, framework):
                lines += _form(form)
    return lines


def pictures(looks: Mapping[str, Seen]) -> dict[Path, str]:
    """Returns the SVG file of each mistake that can be drawn."""
    drawn = {name: look.picture for name, look in looks.items() if look.picture}
    return {PAGE.parent / _picture(name): svg for name, svg in drawn.items()}


def _picture(name: str) -> str:
    return f"{PICTURES.name}/{name}.svg"


def _form(form: Form) -> list[str]:
    path = Path(form.implementation.origin)
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    [function] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.name == form.implementation.name
    ]
    first = min(node.lineno for node in (*function.decorator_list, function))
    variant = f", {form.variant}" if form.variant else ""
    where = f"[`tests/wrong/{path.name}`](../tests/wrong/{path.name})"
    return [
        f"<details><summary>in {form.framework}{variant}</summary>",
        "",
        "```python",
        *lines[first - 1 : function.end_lineno],
        "```",
        "",
        f"{where}</details>",
        "",
    ]


def main() -> None:
    """Reads the call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    kills = kill_matrix.kills(all_cases())
    looks = appearances(kills)
    files = {PAGE: page(kills, looks), **pictures(looks)}
    stale = [path for path in PICTURES.glob("*") if path not in files]
    if check and (stale or any(not _holds(path, text) for path, text in files.items())):
        sys.exit("docs/mistakes.md or a picture is out of date: python -m ci.mistakes_page")
    if check:
        return
    PICTURES.mkdir(exist_ok=True)
    for path in stale:
        path.unlink()
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    main()
