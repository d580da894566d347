"""The promises of the documents: `*.toml` in this folder, one file per document."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent

Source = Literal["documentation", "code", "article", "upstream issue", "measured"]


@dataclass(frozen=True)
class Clause:
    """One promise of a document.

    Attributes:
        words: the promise in the project's own words, put right where the document is wrong.
        source: what kind of document makes the promise; `where` says which, and at which version.
        article: the sentence of the article that started the project, as printed; `article_en` is
            that sentence in English.
        verdict: whether the document is right; where it is `contradicted`, `evidence` is the
            name of a case that shows it.
        since, until: the first and the last version for which the promise holds, as in
            `jax 0.8.2`; empty where it holds for all supported versions.
            `conformance.core.versions` reads them.
    """

    id: str
    operation: str
    words: str
    source: Source
    where: str
    verdict: Literal["holds", "contradicted"]
    article: str = ""
    article_en: str = ""
    evidence: str = ""
    since: str = ""
    until: str = ""


def read(path: Path) -> tuple[Clause, ...]:
    """Reads the clauses of one file.

    Raises:
        ValueError: naming the file, if an entry lacks a field or has one that is unknown.
    """
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["clause"]
    try:
        return tuple(Clause(**entry) for entry in entries)
    except TypeError as error:
        raise ValueError(f"{path.name}: {error}") from error


@cache
def all_clauses() -> tuple[Clause, ...]:
    """Returns every clause of every document.

    >>> all_clauses()[0].id
    'S1'
    """
    return tuple(clause for path in sorted(FOLDER.glob("*.toml")) for clause in read(path))
