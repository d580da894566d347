"""Known mistakes, and the wrong answers that they give."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Code = TypeVar("Code")


@dataclass(frozen=True)
class Mistake(Generic[Code]):
    """A known mistake, as code that gives the wrong answer.

    Attributes:
        name: a fixed name, the value of `mistake` in results.jsonl.
        done: a sentence that says what was done.
        advice: what to write instead, for a reader whose answer shows this.
        answers: the code, in the terms of the operation's definition.
        seen: where the mistake shipped; empty where no release is known to have it.
        is_by_element: whether `answers` are sums in different orders, so that each element of a
            wrong answer may come from a different one of them.
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
    """A wrong answer to a case, as the mistake that gives it and the names in its diagnosis.

    Attributes:
        mistake: the name of the mistake.
        names: the mistakes that fit the answer; it is named where this is `mistake` alone.
    """

    mistake: str
    names: tuple[str, ...]
