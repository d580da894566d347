"""The promises, as the documents make them: `*.toml` in this folder, one file per document."""

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
        words: the promise, in our words and as it is.
        source: what kind of document makes it; `where` says which, and at which version.
        article: the sentence of the article that started the project, as it stands there;
            `article_en` is that sentence in English.
        verdict: whether the document is right; where it is `contradicted`, `evidence` is the
            name of a case that shows it.
        since, until: the first and the last version for which it holds, as in `jax 0.8.2`;
            empty where it holds for all that are supported. `conformance.core.versions` reads them.
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
    """The clauses of one file.

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
    """Every clause of every document.

    >>> all_clauses()[0].id
    'S1'
    """
    return tuple(clause for path in sorted(FOLDER.glob("*.toml")) for clause in read(path))
