"""What a known mistake is, and a wrong answer that it gives."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Code = TypeVar("Code")


@dataclass(frozen=True)
class Mistake(Generic[Code]):
    """A known wrong way, as code that gives the wrong answer.

    Attributes:
        name: fixed; what `mistake` says in results.jsonl.
        done: one sentence on what was done.
        advice: what to write instead, for a reader whose answer shows this.
        answers: the code, in the terms of the operation's definition.
        seen: where it shipped, empty where it is not known to have.
        is_by_element: whether its answers are those of different orders of a sum, so that each
            element of an answer may be from another of them.
    """

    name: str
    operation: str
    done: str
    advice: str
    answers: Code
    seen: str = ""
    is_by_element: bool = False


@dataclass(frozen=True)
class Wrong:
    """A wrong answer to a case: the mistake that gives it, and the names that its diagnosis gives.

    Attributes:
        mistake: the name of the mistake.
        names: the mistakes that fit the answer; the suite sees through it where this is the one.
    """

    mistake: str
    names: tuple[str, ...]
