"""The pages of the reference that are made of the code: the command line, clauses and cases."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import click

from conformance.cli import commands
from conformance.core.clauses import FOLDER, Clause, read
from conformance.core.questions import AnyCase
from conformance.subjects import all_cases

NAMED = 3  # cases of one kind whose names are shown
CLAUSES = """\
A clause is one promise of a document, in the suite's words and as it *is*: where the document is
wrong it is **contradicted**, and a case shows it. `conformance explain S1` says the same in the
terminal."""
CASES = """\
A case asks one question. `conformance list cases` names them all, `conformance explain` says one in
words, and a family is what stands together in a report."""


def cli() -> str:
    """Returns what `--help` says, of every command."""
    top = click.Context(commands, info_name="conformance", max_content_width=100)
    parts = [
        "# The command line",
        "`conformance` is the same as `python -m conformance`. This page is what `--help` says.",
        _fenced(commands.get_help(top)),
    ]
    for name, command in commands.commands.items():
        context = click.Context(command, info_name=name, parent=top, max_content_width=100)
        parts += [f"## conformance {name}", _fenced(command.get_help(context))]
    return "\n\n".join(parts) + "\n"


def clauses() -> str:
    """Returns every promise with its source, by document."""
    parts = ["# Clauses", CLAUSES]
    families: dict[str, Counter[str]] = {}
    for case in all_cases():
        for clause in case.clauses:
            families.setdefault(clause, Counter())[case.family] += 1
    for path in sorted(FOLDER.glob("*.toml")):
        parts.append(f"## {path.stem.replace('_', ' ').capitalize()}")
        parts += [_clause(clause, families.get(clause.id, Counter())) for clause in read(path)]
    return "\n\n".join(parts) + "\n"


def _clause(clause: Clause, families: Mapping[str, int]) -> str:
    cited = ", ".join(f"{count} {family}" for family, count in families.items())
    lines = [f"### {clause.id}", "", _plain(clause.words), ""]
    if clause.article:
        lines += [f"> {_plain(clause.article)}", ">", f"> {_plain(clause.article_en)}", ""]
    if clause.verdict == "contradicted":
        lines += [f"**Contradicted**, as `{clause.evidence}` shows.", ""]
    since = f" Since {clause.since}." * bool(clause.since)
    until = f" Until {clause.until}." * bool(clause.until)
    lines += [f"Source: {clause.source}, {_plain(clause.where)}.{since}{until} Cases: {cited}."]
    return "\n".join(lines)


def cases() -> str:
    """Returns every family: what it asks, and of which clauses."""
    parts = ["# Cases", CASES]
    for operation in dict.fromkeys(case.operation for case in all_cases()):
        families: dict[str, list[AnyCase]] = {}
        for case in all_cases():
            if case.operation == operation:
                families.setdefault(case.family, []).append(case)
        parts.append(f"## {operation}: {sum(map(len, families.values()))} cases")
        parts += map(_family, families.values())
    return "\n\n".join(parts) + "\n"


def _family(members: Sequence[AnyCase]) -> str:
    cited = dict.fromkeys(clause for case in members for clause in case.clauses)
    links = ", ".join(f"[{clause}](clauses.md#{clause.lower()})" for clause in cited)
    asked: dict[str, list[str]] = {}
    for case in members:
        asked.setdefault(case.about, []).append(case.name)
    rows = [f"| {_plain(about)} | {_names(names)} |" for about, names in asked.items()]
    head = ["| what is asked | cases |", "|---|---|"]
    title = f"### {members[0].family}"
    return "\n".join([title, "", f"{len(members)} cases, of {links}.", "", *head, *rows])


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:NAMED])
    return shown + f" and {len(names) - NAMED} more" * (len(names) > NAMED)


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _plain(text: str) -> str:
    """Returns text in which Markdown sees nothing to do."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


PAGES: Mapping[str, Callable[[], str]] = {"cli": cli, "clauses": clauses, "cases": cases}
