"""Benchmarks: what was measured on this machine, as facts. Nothing here passes or fails."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

from rich.console import Console

from conformance.core.outcomes import UsageError

Say = Callable[[str], None]

# Each name is a module of this package with a function `run`.
BENCHMARKS = {"worlds": "a persistent pool of ranks against fresh processes for every check"}


@dataclass(frozen=True)
class Settings:
    """What may be chosen.

    Attributes:
        world_sizes: the numbers of ranks: powers of two, so that answers are exact.
        repeat: how often what is slow is measured, for each of them.
    """

    world_sizes: tuple[int, ...] = (2, 4)
    repeat: int = 3


def chosen(patterns: Sequence[str]) -> list[str]:
    """The names of the benchmarks that the patterns mean; all where there is none.

    >>> chosen(["world*"])
    ['worlds']

    Raises:
        UsageError: if a pattern means nothing.
    """
    for text in patterns:
        if not any(fnmatchcase(name, text) for name in BENCHMARKS):
            raise UsageError(f"no benchmark matches {text!r}; known: {', '.join(BENCHMARKS)}")
    return [
        name
        for name in BENCHMARKS
        if not patterns or any(fnmatchcase(name, text) for text in patterns)
    ]


def run(name: str, settings: Settings, console: Console, say: Say) -> bool:
    """Measure, and print what was measured.

    Args:
        name: one of `chosen`.
        settings: what may be chosen.
        console: where the figures go.
        say: told how far it is, line by line.

    Returns:
        Whether it came to its end; after Ctrl-C the figures are those so far.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("bool", module.run(settings, console, say))
