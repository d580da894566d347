"""What may be changed in a run of an original, whatever its framework."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from conformance.compare.catalogue import Cause

_DEFAULTS = {1e-3, 1e-5, 1e-6}
_EPSILONS = (1e-5, 1e-6, 1e-3, 1e-4, 1e-7, 1e-8, 1e-12, 0.0)


@dataclass(frozen=True)
class Option:
    """One way to do otherwise what a function does.

    Attributes:
        cause: its name, and what was seen of it.
        made: what is done instead; its framework's own affair.
        becomes: the activation that is done instead, or "nothing".
        half: of two changes that belong together: a step is put off, or one put off comes now.
    """

    cause: Cause
    made: Callable[..., Any]
    becomes: str = ""
    half: Literal["", "put off", "comes now"] = ""

    @property
    def key(self) -> tuple[str, str]:
        """What options of several calls have in common."""
        return self.cause.name, self.cause.words


@dataclass(frozen=True)
class Site:
    """One call of a function in a run.

    Attributes:
        number: how many were called before it.
        module: the submodule in which it is called, where that is known.
        since: how many calls of submodules had ended before.
        options: what may be done instead.
        name: of the function.
        depends: the bits of the calls that its arguments were made of.
    """

    number: int
    module: str
    since: int
    options: tuple[Option, ...]
    name: str
    depends: int


def option(name: str, words: str, made: Callable[..., Any]) -> Option:
    """One way to do otherwise, by the name of its cause and what was seen of it."""
    return Option(Cause(name, words), made)


def other_epsilons(own: float) -> Iterator[tuple[float, Cause]]:
    """The epsilons that norms are given, but for their own."""
    for value in _EPSILONS:
        if abs(value - own) > 1e-3 * own:
            words = f"its epsilon is {value:g} where {own:g} is right"
            yield value, Cause("default-epsilon" if value in _DEFAULTS else "epsilon", words)


def other_activations(own: str, functions: dict[str, Callable[..., Any]]) -> Iterator[Option]:
    """Every activation but its own, or none."""
    for other, function in functions.items():
        if other == own:
            continue
        both = own.startswith("gelu") and other.startswith("gelu")
        name = ("tanh-gelu" if "tanh" in other else "erf-gelu") if both else "activation"
        words = f"what came out is {other} where {own} is right"
        if other == "nothing":
            words = f"nothing was done where {own} is right"
        yield Option(Cause(name, words), function, becomes=other)
