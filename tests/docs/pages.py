"""Plays a page: runs its snippets in order, in the working folder, as a reader would.

python pages.py PAGE.md    exit 1 where a snippet does not do what the page says

| fence | what is done |
|---|---|
| ```python | run; the names stay for the blocks below |
| ```python title="mine.py" | written to that file |
| ```pycon | run as a doctest, with the same names |
| ```console | each `$ command` is run; the lines below it must be in its output, in order, with |
|            | `…` for anything; title="exit status 1" says how it ends, else with 0 |
| ```toml, ```json | must be TOML or JSON; with a title written to that file |
| ```yaml | must be YAML |
| ```text | prose: nothing |
"""

import doctest
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
# As readers have them: a console script does not put the working folder on the path.
BIN = Path(sys.executable).parent
PROGRAMS = {name: BIN / name for name in ("conformance", "pytest", "python", "torchrun")}


@dataclass(frozen=True)
class Snippet:
    """A fenced block: what it is, its title, its text and the line where it begins."""

    language: str
    title: str
    text: str
    line: int


class Wrong(Exception):  # noqa: N818 - it says what is wrong, with its place
    """A snippet does not do what its page says."""


def snippets(page: str) -> Iterator[Snippet]:
    """The fenced blocks of a page, in order."""
    for match in FENCE.finditer(page):
        title = TITLE.search(match[2])
        line = page.count("\n", 0, match.start()) + 1
        yield Snippet(match[1], title[1] if title else "", match[3], line)


def play(page: Path) -> int:
    """Run the snippets of a page in the working folder; how many were run."""
    names: dict[str, Any] = {"__name__": page.stem}
    played = 0
    for snippet in snippets(page.read_text(encoding="utf-8")):
        try:
            played += _run(snippet, names)
        except Exception as error:
            words = error if isinstance(error, Wrong) else repr(error)
            raise Wrong(f"{page.name}:{snippet.line}: {words}") from error
    return played


def _run(snippet: Snippet, names: dict[str, Any]) -> bool:
    match snippet.language:
        case "text":
            return False
        case "console":
            _console(snippet)
        case "toml" | "json":
            {"toml": tomllib, "json": json}[snippet.language].loads(snippet.text)
            if snippet.title:
                Path(snippet.title).write_text(snippet.text, encoding="utf-8")
        case "yaml":
            yaml.safe_load(snippet.text)
        case "python" if snippet.title:
            Path(snippet.title).write_text(snippet.text, encoding="utf-8")
        case "python":
            exec(compile(snippet.text, f"line {snippet.line}", "exec"), names)
        case "pycon":
            _doctest(snippet, names)
        case other:
            raise Wrong(f"a fence of {other!r}, which nothing runs")
    return True


def _doctest(snippet: Snippet, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(snippet.text, names, "page", None, 0)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    if runner.run(test, out=told.append, clear_globs=False).failed:
        raise Wrong("".join(told))
    names.update(test.globs)


def _console(snippet: Snippet) -> None:
    expected = int(snippet.title.removeprefix("exit status ") or 0)
    for part in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        program, *arguments = shlex.split(line)
        if program not in PROGRAMS:
            raise Wrong(f"{program!r} is not among {', '.join(PROGRAMS)}")
        done = subprocess.run(
            [PROGRAMS[program], *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        output = done.stdout + done.stderr
        if done.returncode != expected:
            raise Wrong(f"{line}: exit status {done.returncode}, not {expected}:\n{output}")
        if not _holds(output, shown):
            raise Wrong(f"{line}: this is not what it says:\n{output}")


def _holds(output: str, shown: str) -> bool:
    """Whether the lines shown stand in the output, in order, as whole lines."""
    pieces = [re.escape(line.strip()) for line in shown.splitlines() if line.strip()]
    pattern = r"\s*\n(?:.*\n)*?\s*".join(pieces).replace("…", ".*")
    return re.search(rf"^\s*{pattern}\s*$", output, re.MULTILINE) is not None


if __name__ == "__main__":
    sys.path.insert(0, "")  # the working folder, where a page's own files are
    try:
        print(play(Path(sys.argv[1])))
    except Wrong as error:
        sys.exit(str(error))
