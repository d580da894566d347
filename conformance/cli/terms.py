"""The words that output uses, as docs/terms.md and the decorator explain them, and the families."""

import inspect
import re
from functools import cache
from pathlib import Path

from conformance.core.implementations import implementation
from conformance.subjects import all_cases

_LINE = re.compile(r"^- \*\*(?P<words>[^*]+)\*\*: (?P<meaning>.*)$", re.MULTILINE)


@cache
def meanings() -> dict[str, str]:
    """Returns what each word means, each argument of the decorator, and each family of cases.

    >>> meanings()["K"]
    'how many micro-batches a rank has before gradients are averaged.'
    """
    return (
        _arguments()
        | {
            word: match["meaning"]
            for match in _LINE.finditer(_file().read_text(encoding="utf-8"))
            for word in match["words"].split(", ")
        }
        | _families()
    )


def meaning(word: str) -> str:
    """Explains a word, also in the plural, or with other capitals; empty where it has no meaning.

    >>> meaning("worlds")[:32]
    'world: processes that run a task'
    """
    by_lower = {known.lower(): known for known in meanings()}
    spaced = word.lower().replace("-", " ")
    for form in (word, word.lower(), spaced):
        for singular in (form, form.removesuffix("s"), re.sub("ies$", "y", form)):
            known = singular if singular in meanings() else by_lower.get(singular, "")
            if known:
                return f"{known}: {meanings()[known]}"
    return ""


def _arguments() -> dict[str, str]:
    """Returns what the decorator says of its own arguments."""
    _, _, rest = (inspect.getdoc(implementation) or "").partition("\nArgs:\n")
    own, _, _ = rest.partition("\n\n")
    pairs = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", own, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in pairs}


def _families() -> dict[str, str]:
    first = {case.family: case for case in reversed(all_cases())}
    counts = {name: sum(case.family == name for case in all_cases()) for name in first}
    return {
        name: f"a family of {counts[name]} cases of {case.operation}, the first of them "
        f"{case.name}: {case.about}"
        for name, case in first.items()
    }


def _file() -> Path:
    """Returns docs/terms.md: beside the package, or inside it when built."""
    package = Path(__file__).parents[1]
    inside = package / "docs" / "terms.md"
    return inside if inside.is_file() else package.parent / "docs" / "terms.md"
